"""A structured-light sensor: what it measures of a scene, with its noise, gaps and shadows.

The figures are those of MVTec 3D-AD's cable_gland, in pitches (0.25 mm there) wherever they scale with the pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import correlate1d, generate_binary_structure, maximum_filter, minimum_filter, uniform_filter
from torch import Tensor

from gsclip.data.procedural.camera import Scene
from gsclip.data.procedural.casting import TOLERANCE, ball_span, cast
from gsclip.data.procedural.sdf import Field, gradient

CHANGED = 0.15  # millimetres along the ray that count as a defect: 15 times the noise of the real sensor
SAME = 3 * TOLERANCE  # millimetres in a field, at most, between points of one surface
NOISE = (0.02, 0.04)  # pitches: standard deviation on the part, along the ray
TABLE_NOISE = (1.4, 2.2)  # pitches, low-pass: the table is dark
TABLE_GRAIN = 0.35  # pitches, from pixel to pixel
TABLE_MISSING = (0.40, 0.50)  # of the table's pixels
MISSING_AT = ((40.0, 0.004), (48.0, 0.009), (60.0, 0.02), (72.0, 0.03), (80.0, 0.3), (84.0, 1.0))
"""Share of missing pixels by the angle of incidence in degrees."""
EDGE_STEP = 6.0  # pitches between the ranges on both sides of a pixel that make an edge
EDGE_MISSING = (0.15, 0.35)  # of the pixels at edges
SPIKE_SHARE = (0.04, 0.1)  # of the pixels at edges
SPIKE_LENGTH = 1.5  # pitches: mean of the spikes
BASELINE = (60.0, 140.0)  # millimetres from the camera to the projector, on the right
NORMAL_STEP = 0.4  # pitches over which normals are taken
SMOOTHING = (0.06, 0.24, 0.4, 0.24, 0.06)  # a pixel sees a little of its neighbours: rounds creases


@dataclass(frozen=True)
class Hits:
    """What rays meet, without noise.

    Attributes:
        range: (h, w) float32 millimetres along each ray, to the part or else to the table; NaN where unknown.
        part: (h, w) bool, whether the part is met.
        incidence: (h, w) float32 degrees between the ray and the surface's normal; 0 off the part.
        normals: (3, h * w) float32 in the part's frame; 0 off the part.
    """

    range: np.ndarray
    part: np.ndarray
    incidence: np.ndarray
    normals: np.ndarray


def trace(field: Field, scene: Scene) -> Hits:
    """Cast every ray of a scene at a field."""
    origins, directions = scene.part_rays()
    distance = _distances(field, origins, directions, scene.bound)
    return _hits(scene, distance, *_facing(field, origins, directions, distance, NORMAL_STEP * scene.pitch))


def retrace(
    field: Field, scene: Scene, before: Hits, flawless: Field, centre: np.ndarray, reach: float
) -> Hits:
    """Cast again the rays through a ball, outside of which a damaged part is as the flawless one.

    Where the flawless surface that a ray met is still there, or the one it meets was there before, the ray is taken
    to meet what it met: else rays that graze the silhouette would pass or not by chance.

    Args:
        field: of the damaged part.
        scene: part, camera and table.
        before: what the rays met on the flawless part.
        flawless: field of the flawless part.
        centre: (3,) of the ball in the part's frame, millimetres.
        reach: radius of the ball.
    """
    origins, directions = scene.part_rays()
    ball = torch.from_numpy(np.asarray(centre, dtype=np.float32)).reshape(3, 1)
    touched, _, _ = ball_span(origins, directions, ball, reach)
    origins, directions = origins[:, touched], directions[:, touched]
    old_range, old_part = torch.from_numpy(before.range.ravel()), torch.from_numpy(before.part.ravel())
    old = torch.where(old_part | old_range.isnan(), old_range, torch.inf)
    earlier, found = old[touched], _distances(field, origins, directions, scene.bound + reach)
    still = field(origins + directions * _finite(earlier)).abs() < SAME
    found = torch.where(still & ~(found <= earlier), earlier, found)
    known = flawless(origins + directions * _finite(found)).abs() < SAME
    found = torch.where(known & ~(found >= earlier), earlier, found)
    distance = old.masked_scatter(touched, found)
    incidence, normals = torch.from_numpy(before.incidence.ravel()), torch.from_numpy(before.normals)
    steep, facing = _facing(field, origins, directions, found, NORMAL_STEP * scene.pitch)
    return _hits(scene, distance, incidence.masked_scatter(touched, steep), normals.masked_scatter(touched, facing))


def _distances(field: Field, origins: Tensor, directions: Tensor, bound: float) -> Tensor:
    """(n,) distance along rays (3, n) to a field within the ball of radius ``bound``; see :func:`cast`."""
    crossing, near, far = ball_span(origins, directions, torch.zeros(3, 1), bound)
    result = torch.full_like(near, torch.inf)
    result[crossing] = cast(field, origins[:, crossing], directions[:, crossing], near[crossing], far[crossing])
    return result


def _facing(
    field: Field, origins: Tensor, directions: Tensor, distance: Tensor, step: float
) -> tuple[Tensor, Tensor]:
    """Angle of incidence (n,) in degrees and normals (3, n) where rays meet the field; 0 where they do not."""
    met = torch.isfinite(distance)
    rays = directions[:, met]
    normals = gradient(field, origins[:, met] + rays * distance[met], step)
    angles = torch.rad2deg(torch.acos(-(normals * rays).sum(dim=0).clamp(-1.0, 0.0)))
    nothing = torch.zeros_like(origins)
    return nothing[0].masked_scatter(met, angles), nothing.masked_scatter(met, normals)


def _hits(scene: Scene, distance: Tensor, incidence: Tensor, normals: Tensor) -> Hits:
    ranges = distance.numpy().reshape(scene.grid)
    return Hits(
        range=np.where(np.isinf(ranges), scene.table, ranges),
        part=np.isfinite(ranges),
        incidence=incidence.numpy().reshape(scene.grid),
        normals=normals.numpy(),
    )


def _finite(distance: Tensor) -> Tensor:
    """Distances with those unknown or infinite put behind the sensor, where nothing is."""
    return torch.where(torch.isfinite(distance), distance, -1e4)


def changed(before: Hits, after: Hits) -> np.ndarray:
    """(h, w) bool ground truth: the rays that meet something else than before, by more than :data:`CHANGED`.

    Rays whose range is unknown before or after are left out.
    """
    return np.asarray(np.abs(after.range - before.range) > CHANGED)


def measure(scene: Scene, hits: Hits, rng: np.random.Generator) -> np.ndarray:
    """What the sensor records.

    Args:
        scene: part, camera and table.
        hits: what the rays meet.
        rng: decides the noise.

    Returns:
        (h, w, 3) float32 points in metres, sensor frame; NaN where there is no measurement.
    """
    pitch = scene.pitch
    edge = _edges(hits.range, EDGE_STEP * pitch)
    ranges = np.where(hits.part, _rounded(hits, 0.5 * EDGE_STEP * pitch), hits.range).astype(np.float64)
    ranges += np.where(hits.part, _part_noise(hits, rng), _table_noise(scene.grid, rng)) * pitch
    ranges += _spikes(hits, edge, rng) * pitch
    missing = _missing(hits, edge, rng) | _shadow(scene, hits, rng) | np.isnan(hits.range)
    ranges[missing] = np.nan
    points = ranges.ravel() * scene.directions.numpy() * 1e-3
    return points.T.reshape(*scene.grid, 3).astype(np.float32)


def _rounded(hits: Hits, gate: float) -> np.ndarray:
    """Ranges averaged over neighbours on the same surface."""
    known = hits.part & ~np.isnan(hits.range)
    result = np.where(known, hits.range, 0.0).astype(np.float64)
    for axis in (0, 1):
        total, weights = np.zeros(known.shape), np.zeros(known.shape)
        for offset, weight in zip(range(-2, 3), SMOOTHING, strict=True):
            near = np.roll(result, offset, axis=axis)
            same = np.roll(known, offset, axis=axis) & (np.abs(near - result) < gate)
            total += weight * same * near
            weights += weight * same
        result = np.divide(total, weights, out=result, where=weights > 0)
    return np.where(known, result, hits.range)


def _edges(ranges: np.ndarray, step: float) -> np.ndarray:
    """(h, w) bool, where the ranges of a pixel and its four neighbours span more than ``step``."""
    filled = np.nan_to_num(ranges, nan=float(np.nanmax(ranges)))
    cross = generate_binary_structure(2, 1)
    return np.asarray(maximum_filter(filled, footprint=cross) - minimum_filter(filled, footprint=cross) > step)


def _low_pass(grid: tuple[int, int], rng: np.random.Generator, weights: tuple[float, ...]) -> np.ndarray:
    """(h, w) normal noise of unit variance, smoothed by ``weights`` along both axes."""
    noise = rng.standard_normal(grid)
    for axis in (0, 1):
        noise = correlate1d(noise, weights, axis=axis, mode="wrap")
    return noise / np.sum(np.square(weights))


def _part_noise(hits: Hits, rng: np.random.Generator) -> np.ndarray:
    """In pitches; more of it where the surface is steep."""
    steep = np.clip(1.0 / np.cos(np.deg2rad(np.minimum(hits.incidence, 75.0))), 1.0, 3.0)
    return _low_pass(hits.part.shape, rng, (0.25, 0.5, 0.25)) * rng.uniform(*NOISE) * steep


def _table_noise(grid: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """In pitches, never far enough from the table to pass for the part."""
    uneven = np.clip(_low_pass(grid, rng, (1.0,) * 9), -2.5, 2.5) * rng.uniform(*TABLE_NOISE)
    return uneven + np.clip(rng.standard_normal(grid), -2.5, 2.5) * TABLE_GRAIN


def _spikes(hits: Hits, edge: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """In pitches: at edges some points lie off both surfaces."""
    struck = hits.part & edge & (rng.random(edge.shape) < rng.uniform(*SPIKE_SHARE))
    length = np.minimum(rng.exponential(SPIKE_LENGTH, edge.shape), 4 * SPIKE_LENGTH)
    return np.where(struck, length * np.where(rng.random(edge.shape) < 0.7, 1.0, -1.0), 0.0)


def _missing(hits: Hits, edge: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(h, w) bool, where the light that comes back does not suffice."""
    angles, shares = zip(*MISSING_AT, strict=True)
    share = np.interp(hits.incidence, angles, shares) * rng.uniform(0.7, 1.5)
    share = np.where(hits.part, share, rng.uniform(*TABLE_MISSING))
    share = np.where(hits.part & edge, np.maximum(share, rng.uniform(*EDGE_MISSING)), share)
    # Half of the pixels' luck is shared with their neighbours: gaps of a few pixels beside many single ones.
    lots = np.where(rng.random(share.shape) < 0.5, rng.random(share.shape), _patches(share.shape, rng))
    return np.asarray(lots < share)


def _patches(grid: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(h, w) uniform over 0 to 1, correlated over about two pixels."""
    noise = uniform_filter(rng.standard_normal(grid), 2, mode="wrap")
    ranks = np.empty(noise.size)
    ranks[np.argsort(noise, axis=None, kind="stable")] = (np.arange(noise.size) + 0.5) / noise.size
    return ranks.reshape(grid)


def _shadow(scene: Scene, hits: Hits, rng: np.random.Generator) -> np.ndarray:
    """(h, w) bool, where the projector's light is blocked: along a row its angle must rise with the camera's."""
    baseline = rng.uniform(*BASELINE)
    ranges = np.where(np.isnan(hits.range), scene.table, hits.range)
    x, z = (scene.directions.numpy()[axis].reshape(scene.grid) * ranges for axis in (0, 2))
    angle = (x - baseline) / z
    nearest = np.minimum.accumulate(angle[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(angle > nearest + 0.25 * scene.pitch / np.median(z))
