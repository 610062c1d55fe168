"""A part: a body and one repeated element, kept apart so that a defect can strike one of many siblings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gsclip.data.procedural.sdf import Field, column, smooth_minimum, turned


@dataclass(frozen=True)
class Repeat:
    """Where the copies of an element stand, in a frame that is rotated and shifted against the part's.

    Attributes:
        polar: number of copies about the frame's z axis; 0 for a grid.
        grid: (nx, ny) copies along the frame's x and y.
        spacing: millimetres between the copies of a grid along x and y.
        rotation: (3, 3) from the frame to the part.
        origin: (3,) of the frame in the part.
        twist: degrees per millimetre by which the frame turns about its z axis; the element's field is to be
            divided by the slope that this adds.
    """

    polar: int = 0
    grid: tuple[int, int] = (1, 1)
    spacing: tuple[float, float] = (1.0, 1.0)
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    twist: float = 0.0

    @property
    def count(self) -> int:
        """Number of copies."""
        return self.polar or self.grid[0] * self.grid[1]

    def fold(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """Points (3, n) in their cell's frame and the cell's number (n,)."""
        p = self._enter(p)
        if self.polar:
            step = 2 * math.pi / self.polar
            turns = torch.round(torch.atan2(p[1], p[0]) / step)
            c, s = torch.cos(turns * step), torch.sin(turns * step)
            local = torch.stack([c * p[0] + s * p[1], c * p[1] - s * p[0], p[2]])
            return local, torch.remainder(turns, self.polar).long()
        (nx, ny), (sx, sy) = self.grid, self.spacing
        ix = torch.round(p[0] / sx + (nx - 1) / 2).clamp(0, nx - 1)
        iy = torch.round(p[1] / sy + (ny - 1) / 2).clamp(0, ny - 1)
        local = torch.stack([p[0] - (ix - (nx - 1) / 2) * sx, p[1] - (iy - (ny - 1) / 2) * sy, p[2]])
        return local, (ix * ny + iy).long()

    def neighbours(self, number: int) -> tuple[int, ...]:
        """Numbers of the cells that touch cell ``number``."""
        if self.polar:
            return tuple(sorted({(number - 1) % self.polar, (number + 1) % self.polar} - {number}))
        nx, ny = self.grid
        x, y = divmod(number, ny)
        columns, rows = range(max(x - 1, 0), min(x + 2, nx)), range(max(y - 1, 0), min(y + 2, ny))
        return tuple(i * ny + j for i in columns for j in rows if (i, j) != (x, y))

    def place(self, p: Tensor, number: int) -> Tensor:
        """Points (3, n) in the frame of cell ``number``, wherever they are."""
        p = self._enter(p)
        if self.polar:
            angle = number * 2 * math.pi / self.polar
            c, s = math.cos(angle), math.sin(angle)
            return torch.stack([c * p[0] + s * p[1], c * p[1] - s * p[0], p[2]])
        ix, iy = divmod(number, self.grid[1])
        return p - column(
            ((ix - (self.grid[0] - 1) / 2) * self.spacing[0], (iy - (self.grid[1] - 1) / 2) * self.spacing[1], 0.0)
        )

    def _enter(self, p: Tensor) -> Tensor:
        """Points of the part in the repetition's frame."""
        p = torch.as_tensor(np.ascontiguousarray(self.rotation.T, dtype=np.float32)) @ (p - column(self.origin))
        return turned(p, self.twist) if self.twist else p


@dataclass(frozen=True)
class Part:
    """A flawless part in its own frame, lengths in millimetres, z up where it stands.

    Attributes:
        body: the part without its elements.
        element: one element in its cell's frame; symmetric about the cell's middle plane, or thin in its cell.
        repeat: where the elements are.
        bound: radius of a ball about the origin that contains the part.
        removes: whether the elements are cut out of the body (bores, slots) instead of added to it.
        blend: fillet between body and elements.
        finish: what is done last to the whole (bores, chamfers, casting skin).
        pose: ``upright`` (seen from above), ``lying`` (axis in the table) or ``any``.
    """

    body: Field
    element: Field
    repeat: Repeat
    bound: float
    removes: bool = False
    blend: float = 0.0
    finish: Callable[[Field], Field] = lambda field: field
    pose: str = "any"

    def elements(self, omitted: int | None = None) -> Field:
        """Field of all elements but the omitted one (of two or more)."""

        def result(p: Tensor) -> Tensor:
            local, number = self.repeat.fold(p)
            value = self.element(local)
            if omitted is None:
                return value
            vacant = number == omitted
            others = [self.single(k)(p[:, vacant]) for k in self.repeat.neighbours(omitted)]
            return value.masked_scatter(vacant, torch.stack(others).amin(dim=0))

        return result

    def single(self, number: int) -> Field:
        """Field of element ``number`` alone."""
        return lambda p: self.element(self.repeat.place(p, number))

    def assemble(self, elements: Field) -> Field:
        """Body with ``elements``, finished."""

        def joined(p: Tensor) -> Tensor:
            if self.removes:
                return -smooth_minimum(-self.body(p), elements(p), self.blend)
            return smooth_minimum(self.body(p), elements(p), self.blend)

        return self.finish(joined)

    def field(self) -> Field:
        """Field of the flawless part."""
        return self.assemble(self.elements())

    def element_numbers(self, points: Tensor, tolerance: float) -> Tensor:
        """(n,) number of the element whose surface each point lies on, -1 for the body."""
        local, number = self.repeat.fold(points)
        return torch.where(self.element(local).abs() < tolerance, number, -1)
