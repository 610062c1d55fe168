"""Defects of a wanted size and depth: places are tried until one takes a defect within the ranges.

Kinds, places, shapes and the search for the size are those of the procedural parts; what differs is how a damaged
part shows: :mod:`.clouds` (points from all around), :mod:`.views` (a simulated scan of a mesh), :mod:`.grids` (the
pixels of a real scan).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol, TypeVar

import numpy as np
import torch

from gsclip.data.procedural.defects import Damage, Site, Surface, choose_site, is_thick, make_defect
from gsclip.data.procedural.fitting import fit_size
from gsclip.data.procedural.part import Part
from gsclip.data.procedural.sdf import Field
from gsclip.data.procedural.sensor import CHANGED

KINDS: Mapping[str, str] = MappingProxyType({
    "bulge": "bulge",
    "dent": "concavity",
    "hole": "hole",
    "crack": "crack",
    "break": "break",
    "bend": "bend",
    "scratch": "scratch",
})
"""Kinds of defect, with their names in :mod:`gsclip.data.procedural.defects`."""
STEEPEST: Mapping[str, float] = MappingProxyType({
    "bulge": 0.45, "dent": 0.45, "hole": 1.2, "crack": 0.4, "break": 0.5, "bend": 0.6, "scratch": 0.2
})  # fmt: skip
"""Largest depth in proportion to the size: beyond it, a kind no longer looks like itself."""
SHALLOWEST: Mapping[str, float] = MappingProxyType({"hole": 0.2})
"""Smallest depth in proportion to the size, for the same reason."""
SOLID_KINDS = ("scratch",)
"""Kinds that are not made where they would cut through a wall."""
PLACES = 14  # that are tried before a kind is given up
NARROW = 1.2  # ratio of the ends of the narrowest range that is drawn from
SPREAD = 0.8  # of the ranges' logarithms, that the search aims at: the edges are for what it misses
NOISE_CHANGED = 6.0  # standard deviations of the noise: smaller displacements are no defect
SHOWN_QUANTILE = 0.98  # of displacements, taken for the largest: a single point says little
THIN = 0.3  # of the removed points: fewer fresh ones show a wall that is cut through


@dataclass(frozen=True)
class Ranges:
    """What is allowed, in millimetres of the scaled part.

    Attributes:
        size: smallest and largest diameter of a disc with the area of the marked surface.
        depth: smallest and largest displacement, where it is largest.
    """

    size: tuple[float, float]
    depth: tuple[float, float]

    def areas(self) -> tuple[float, float]:
        """Smallest and largest marked area in square millimetres."""
        return math.pi / 4 * self.size[0] ** 2, math.pi / 4 * self.size[1] ** 2


class Outcome(Protocol):
    """A damaged part as it shows."""

    @property
    def area(self) -> float:
        """Marked area in square millimetres."""

    @property
    def depth(self) -> float:
        """Largest displacement in millimetres."""


Shown = TypeVar("Shown", bound=Outcome)


def changed_from(noise: float) -> float:
    """Displacement in millimetres from which on a point counts as changed, by the noise of the points."""
    return max(CHANGED, NOISE_CHANGED * noise)


def damaged(
    part: Part,
    kind: str,
    surface: Callable[[np.random.Generator], Surface],
    show: Callable[[Damage, np.random.Generator], Shown],
    ranges: Ranges,
    rng: np.random.Generator,
) -> Shown | None:
    """Damage a part so that size and depth are within the ranges.

    Args:
        part: the flawless part.
        kind: of :data:`KINDS`.
        surface: draws what is seen of it.
        show: how a damaged part shows; called with the same random numbers for all sizes at one place.
        ranges: what is allowed.
        rng: decides.

    Returns:
        The damaged part, or ``None`` where no place takes the kind.
    """
    for _ in range(PLACES):
        size = _between(ranges.size, rng)
        depth = _between(_depths(kind, size, ranges.depth), rng)
        seen, seed = surface(rng), int(rng.integers(2**31))
        site = choose_site(part, KINDS[kind], seen, size, np.random.default_rng(seed))
        if site is None or (kind in SOLID_KINDS and not is_thick(part, site.anchor, site.normal, depth)):
            continue
        outcome = _fitted(part, kind, replace(site, depth=depth), seen, show, ranges, seed)
        if outcome is not None:
            return outcome
    return None


def _depths(kind: str, size: float, allowed: tuple[float, float]) -> tuple[float, float]:
    """Range of depths that suits a size, within what is allowed."""
    low = min(max(allowed[0], SHALLOWEST.get(kind, 0.0) * size), allowed[1] / NARROW)
    return low, min(max(STEEPEST[kind] * size, low * NARROW), allowed[1])


def _fitted(
    part: Part,
    kind: str,
    site: Site,
    surface: Surface,
    show: Callable[[Damage, np.random.Generator], Shown],
    ranges: Ranges,
    seed: int,
) -> Shown | None:
    wanted = site.depth or ranges.depth[0]

    def strike(site: Site) -> tuple[Shown, float]:
        damage = make_defect(part, KINDS[kind], site, surface, np.random.default_rng(seed + 1))
        outcome = show(damage, np.random.default_rng(seed + 2))
        return outcome, outcome.area

    def within(outcome: Shown) -> bool:
        return ranges.depth[0] <= outcome.depth <= ranges.depth[1]

    def deepen(site: Site, outcome: Shown) -> Site:
        if within(outcome) or outcome.depth == 0:
            return site
        return replace(site, depth=(site.depth or wanted) * float(np.clip(wanted / outcome.depth, 0.5, 2.0)))

    aim = math.pi / 4 * site.size**2
    return fit_size(site, strike, aim, ranges.areas(), within, deepen)


def shown_depth(fresh: np.ndarray, gone: np.ndarray, depths: tuple[float, float]) -> float:
    """Largest displacement in millimetres.

    Args:
        fresh: distances of the fresh surface to the flawless one.
        gone: distances of the surface that is gone to the damaged part.
        depths: smallest and largest depth allowed.

    Returns:
        That of the fresh surface; where a wall is cut through, which leaves no deep surface, what is gone counts.
    """
    depth = float(np.quantile(fresh, SHOWN_QUANTILE)) if len(fresh) else 0.0
    if depth < depths[0] and len(fresh) < THIN * len(gone):
        return max(depth, min(float(np.quantile(gone, SHOWN_QUANTILE)), depths[1]))
    return depth


def values(field: Field, points: np.ndarray) -> np.ndarray:
    """(n,) float64 of a field at points (n, 3)."""
    return np.asarray(field(_tensor(points)).numpy(), dtype=np.float64)


def slopes(field: Field, points: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit gradient (n, 3) and its length (n,), at least 0.2, by differences over a tetrahedron of size ``step``."""
    total = np.zeros((len(points), 3))
    for corner in np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], dtype=np.float64):
        total += corner * values(field, points + corner * step)[:, None]
    length = np.linalg.norm(total, axis=1)
    return total / np.maximum(length, 1e-12)[:, None], np.maximum(length / (4 * step), 0.2)


def onto(field: Field, points: np.ndarray, step: float, rounds: int = 5) -> np.ndarray:
    """Points (n, 3) moved along the gradient onto the surface nearby."""
    for _ in range(rounds):
        normals, slope = slopes(field, points, step)
        points = points - normals * (values(field, points) / slope)[:, None]
    return points


def _between(span: tuple[float, float], rng: np.random.Generator) -> float:
    """Drawn evenly in the logarithm from the middle of a range."""
    low, high = np.log(span)
    edge = (1 - SPREAD) / 2 * (high - low)
    return float(np.exp(rng.uniform(low + edge, high - edge)))


def _tensor(points: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(points.T, dtype=np.float32))
