"""Defects on a closed mesh that the simulated sensor scans from one side, as it does the procedural parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from gsclip.data.procedural.camera import Scene, compose
from gsclip.data.procedural.dataset import visible_surface
from gsclip.data.procedural.defects import Damage, Surface
from gsclip.data.procedural.part import Part
from gsclip.data.procedural.sensor import Hits, changed, measure, retrace, trace
from gsclip.data.synthesis.strikes import shown_depth, slopes, values

METRE = 1000.0  # millimetres


@dataclass(frozen=True)
class View:
    """A flawless part before the camera.

    Attributes:
        part: the part.
        scene: pose, camera and table.
        hits: what the rays meet.
        surface: what is seen of the part.
    """

    part: Part
    scene: Scene
    hits: Hits
    surface: Surface

    def draw_surface(self, rng: np.random.Generator) -> Surface:
        """What is seen, always the same."""
        return self.surface

    def scan(self, hits: Hits, rng: np.random.Generator) -> np.ndarray:
        """Points (h, w, 3) float32 that the sensor measures, in millimetres; NaN where there is no measurement."""
        return measure(self.scene, hits, rng) * np.float32(METRE)


@dataclass(frozen=True)
class DamagedView:
    """A damaged part before the camera.

    Attributes:
        hits: what the rays meet.
        mask: (h, w) bool, rays that meet something else than on the flawless part.
        area: marked, in square millimetres of a frontal face.
        depth: largest displacement in millimetres.
    """

    hits: Hits
    mask: np.ndarray
    area: float
    depth: float


def make_view(part: Part, rng: np.random.Generator, grid: tuple[int, int]) -> View:
    """Pose a part before the camera and cast all rays.

    Args:
        part: of :func:`gsclip.data.synthesis.solids.as_part`.
        rng: decides pose and camera.
        grid: (h, w) of the scan.
    """
    scene = compose(part, rng, grid)
    hits = trace(part.field(), scene)
    return View(part, scene, hits, visible_surface(part, scene, hits))


def show(view: View, depths: tuple[float, float]) -> Callable[[Damage, np.random.Generator], DamagedView]:
    """How damage shows in a view; ``depths`` are the smallest and the largest that are allowed."""
    origins, directions = view.scene.part_rays()

    def strike(damage: Damage, rng: np.random.Generator) -> DamagedView:
        flawless = view.part.field()
        after = retrace(damage.field, view.scene, view.hits, flawless, damage.centre, damage.reach)
        mask = changed(view.hits, after)

        def met(hits: Hits) -> np.ndarray:
            rays = torch.from_numpy((mask & hits.part).ravel())
            ranges = torch.from_numpy(hits.range.ravel())[rays]
            return np.asarray((origins[:, rays] + directions[:, rays] * ranges).numpy().T, dtype=np.float64)

        old = met(view.hits)
        _, slope = slopes(damage.field, old, 0.2 * view.scene.pitch)
        return DamagedView(
            hits=after,
            mask=mask,
            area=float(mask.sum()) * view.scene.pitch**2,
            depth=shown_depth(
                np.abs(values(flawless, met(after))), np.abs(values(damage.field, old)) / slope, depths
            ),
        )

    return strike
