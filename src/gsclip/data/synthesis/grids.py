"""Defects on an organised scan: points of the part move along the rays of their pixels.

The scan shows the part's front alone; behind it, the part is taken to be solid. The measured noise stays on every
point; where the fresh surface is steep, measurements go missing as often as in the simulated sensor. What breaks off
at the outline leaves pixels without a measurement.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_cdt
from scipy.spatial import cKDTree

from gsclip.data.geometry import estimate_normals
from gsclip.data.procedural.defects import Damage, Surface
from gsclip.data.procedural.sdf import Field
from gsclip.data.procedural.sensor import EDGE_STEP, MISSING_AT
from gsclip.data.synthesis.solids import Frame, area_per_point, cloud_field, frame_of, noise_of
from gsclip.data.synthesis.strikes import changed_from, shown_depth, slopes, values

SAME = 0.02  # millimetres: less is no displacement at all
STEP = 0.12  # millimetres along a ray between two looks at the field
MARGIN = 1.3  # times the largest depth, that is searched in front of and behind a point
NORMAL_STEP = 0.4  # spacings over which normals are taken
SITE_NEIGHBOURS = 24  # that tell how rough the surface is


@dataclass(frozen=True)
class Grid:
    """A flawless organised scan.

    Attributes:
        scan: (h, w, 3) float32 as measured, in the user's frame; NaN where there is no measurement.
        part: (h, w) bool, true on the part's points.
        frame: of the part.
        points: (n, 3) float64 of the part in its frame (millimetres), row-major.
        rays: (n, 3) float64 unit vectors from the sensor.
        field: of the part.
        surface: what is seen of it.
        share: area that a point stands for.
        noise: standard deviation of the points about the surface.
    """

    scan: np.ndarray
    part: np.ndarray
    frame: Frame
    points: np.ndarray
    rays: np.ndarray
    field: Field
    surface: Surface
    share: float
    noise: float


@dataclass(frozen=True)
class DamagedGrid:
    """A damaged organised scan.

    Attributes:
        scan: (h, w, 3) float32 in the user's frame; NaN where there is no measurement.
        mask: (h, w) bool, pixels whose ray meets something else, with or without a measurement there.
        area: marked, in square millimetres.
        depth: largest displacement in millimetres.
    """

    scan: np.ndarray
    mask: np.ndarray
    area: float
    depth: float


def make_grid(scan: np.ndarray, part: np.ndarray) -> Grid:
    """Describe an organised scan.

    Args:
        scan: (h, w, 3) float32, sensor frame, NaN where there is no measurement.
        part: (h, w) bool from :func:`gsclip.data.background.remove_background`.
    """
    measured = scan[part]
    frame = frame_of(measured)
    points = frame.enter(measured)
    rays = _rays(scan, part)
    normals = estimate_normals(points).astype(np.float64)
    normals[np.einsum("nd,nd->n", normals, rays) > 0] *= -1  # towards the sensor
    share = float(np.median(area_per_point(points)))
    spacing = math.sqrt(share)
    _, rows = cKDTree(points).query(points, k=min(SITE_NEIGHBOURS, len(points)))
    view = -rays.mean(axis=0)
    surface = Surface(
        points=points,
        normals=normals,
        interior=_interior(part, -(points @ view), EDGE_STEP * spacing),
        rough=np.clip(1.0 - np.linalg.norm(normals[rows].mean(axis=1), axis=1), 0.0, None),
        elements=np.full(len(points), -1),
        pitch=spacing,
        view=view / np.linalg.norm(view),
    )
    field = cloud_field(points, normals, spacing)
    return Grid(scan, part, frame, points, rays, field, surface, share, noise_of(points))


def show(grid: Grid, depths: tuple[float, float]) -> Callable[[Damage, np.random.Generator], DamagedGrid]:
    """How damage shows on a scan; ``depths`` are the smallest and the largest that are allowed."""
    limit, span = changed_from(grid.noise), MARGIN * depths[1] + 3 * grid.noise
    angles, shares = zip(*MISSING_AT, strict=True)

    def strike(damage: Damage, rng: np.random.Generator) -> DamagedGrid:
        offset = damage.centre - grid.points
        along = np.einsum("nd,nd->n", offset, grid.rays)
        half = np.sqrt(np.maximum(damage.reach**2 - (offset**2).sum(axis=1) + along**2, 0.0))
        near, far = np.maximum(along - half, -span), np.minimum(along + half, span)
        touched = np.flatnonzero((half > 0) & (near < far))
        points, rays, near, far = grid.points[touched], grid.rays[touched], near[touched], far[touched]
        before, after = (_meet(field, points, rays, near, far) for field in (grid.field, damage.field))
        # A ray that found no surface of its own in the ball is as it was, unless there is one now.
        inside = np.isfinite(before)
        shift = np.where(np.isfinite(after), after - np.where(inside, before, 0.0), 0.0)
        # Next to the outline a cut deeper than the outline is away comes out beside the part, behind which is nothing.
        beside = (shift > depths[1]) & (shift > grid.surface.interior[touched] * grid.surface.pitch)
        lost = (inside & ~np.isfinite(after)) | beside
        moved, marked = np.abs(shift) > SAME, (np.abs(shift) > limit) | lost

        fresh = points + rays * shift[:, None]
        shown = marked & ~lost
        normals, _ = slopes(damage.field, fresh[shown], NORMAL_STEP * grid.surface.pitch)
        incidence = np.rad2deg(np.arccos(np.clip(-np.einsum("nd,nd->n", normals, rays[shown]), 0.0, 1.0)))
        dark = lost.copy()
        dark[shown] = rng.random(shown.sum()) < np.interp(incidence, angles, shares)

        pixels = np.argwhere(grid.part)[touched]
        scan, mask = grid.scan.copy(), np.zeros(grid.part.shape, dtype=bool)
        scan[tuple(pixels[moved].T)] = grid.frame.leave(fresh[moved]).astype(np.float32)
        scan[tuple(pixels[dark].T)] = np.nan
        mask[tuple(pixels[marked].T)] = True
        _, slope = slopes(damage.field, points[marked], NORMAL_STEP * grid.surface.pitch)
        clean = fresh[shown] + rays[shown] * np.where(inside, before, 0.0)[shown, None]
        return DamagedGrid(
            scan=scan,
            mask=mask,
            area=float(marked.sum()) * grid.share,
            depth=shown_depth(
                np.abs(values(grid.field, clean)), np.abs(values(damage.field, points[marked])) / slope, depths
            ),
        )

    return strike


def _meet(field: Field, points: np.ndarray, rays: np.ndarray, near: np.ndarray, far: np.ndarray) -> np.ndarray:
    """(n,) distance from points along rays at which a field is first entered, between near and far; else infinite."""
    result = np.full(len(points), np.inf)
    if len(points) == 0:
        return result
    last = values(field, points + rays * near[:, None])
    active = np.flatnonzero(last > 0)  # what begins inside, begins behind the surface
    distance, last = near[active], last[active]
    while len(active):
        step = np.minimum(STEP, far[active] - distance)
        value = values(field, points[active] + rays[active] * (distance + step)[:, None])
        entered = value <= 0
        crossing = distance + step * last / np.maximum(last - value, 1e-12)
        result[active[entered]] = crossing[entered]
        going = ~entered & (distance + step < far[active])
        active, distance, last = active[going], (distance + step)[going], value[going]
    return result


def _rays(scan: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Unit vectors (n, 3) along the part's pixels' rays: from the origin, or along z where the scan is parallel.

    A pinhole camera has x / z and y / z linear in the pixel, a parallel projection x and y themselves.
    """
    points = scan[part].astype(np.float64)
    pixels = np.argwhere(part).astype(np.float64)
    design = np.column_stack([pixels, np.ones(len(pixels))])

    def misfit(targets: np.ndarray) -> float:
        fitted = design @ np.linalg.lstsq(design, targets, rcond=None)[0]
        spread = np.square(targets - targets.mean(axis=0)).sum()
        return float(np.square(targets - fitted).sum() / max(spread, 1e-30))

    if (points[:, 2] > 0).all() and misfit(points[:, :2] / points[:, 2:]) < misfit(points[:, :2]):
        return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))
    return np.tile([0.0, 0.0, 1.0], (len(points), 1))


def _interior(part: np.ndarray, ranges: np.ndarray, step: float) -> np.ndarray:
    """(n,) pixels from the part's points to its silhouette or the nearest step in range."""
    filled = np.full(part.shape, np.inf)
    filled[part] = ranges
    jump = np.zeros(part.shape, dtype=bool)
    for axis in (0, 1):
        with np.errstate(invalid="ignore"):
            jump |= part & (np.abs(np.roll(filled, 1, axis) - filled) > step)
    # Single missing pixels are no silhouette.
    solid = part | (distance_transform_cdt(~part) < 2)
    solid &= ~(jump & (distance_transform_cdt(solid) < 3))
    return np.asarray(distance_transform_cdt(solid)[part], dtype=np.float64)
