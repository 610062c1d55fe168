"""Defects on clouds from all around: points that are gone are taken out, the fresh surface gets points of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from gsclip.data.geometry import farthest_points
from gsclip.data.procedural.defects import Damage, Surface
from gsclip.data.procedural.sdf import Field
from gsclip.data.synthesis.strikes import THIN, changed_from, onto, shown_depth, slopes, values

SAME = 0.02  # millimetres: less is no displacement at all
STEP = 0.05  # millimetres over which gradients are taken
LAYER = 0.05  # of the defect's reach: fresh points come from a layer this thick on both sides of the surface
LAYER_LIMITS = (0.25, 0.8)  # millimetres
SURPLUS = 4  # times as many candidates as points, where they are to lie evenly
FOOT = 1.5  # times its displacement, that the nearest point of the cloud is away from a fresh one: else it hangs free
RIM = 1.5  # spacings around what is gone, that are marked where a wall is cut through
FEWEST = 8  # points that are marked at least
SITE_POINTS = 12_000  # that describe the surface
SITE_NEIGHBOURS = 24  # of them, that tell how rough it is
EDGE_QUANTILE = 0.93  # of the roughness: what is rougher counts as an edge


@dataclass(frozen=True)
class Cloud:
    """A flawless part as a cloud from all around, in its part's frame (millimetres).

    Attributes:
        points: (n, 3) float64.
        normals: (n, 3) float64 unit vectors outwards.
        field: of the part.
        areas: (n,) area that each point stands for.
        noise: standard deviation of the points about the surface.
        even: whether fresh points are to lie evenly, as a scanner's do, or at random, as on a mesh.
        closed: whether the field is right everywhere; that of a cloud goes on where its points end.
    """

    points: np.ndarray
    normals: np.ndarray
    field: Field
    areas: np.ndarray
    noise: float
    even: bool
    closed: bool

    @property
    def spacing(self) -> float:
        """Side of the square that a point stands for, the median."""
        return math.sqrt(float(np.median(self.areas)))


@dataclass(frozen=True)
class DamagedCloud:
    """A damaged part as a cloud.

    Attributes:
        kept: (m,) int64 rows of the flawless cloud that stay as they are.
        added: (k, 3) float64 points that replace the others, in the part's frame.
        mask: (m + k,) bool, true on the kept and the added points that the defect shows on.
        area: marked, in square millimetres.
        depth: largest displacement in millimetres.
    """

    kept: np.ndarray
    added: np.ndarray
    mask: np.ndarray
    area: float
    depth: float


def seen_from(cloud: Cloud) -> Callable[[np.random.Generator], Surface]:
    """Draws of the surface as seen from somewhere: nothing is hidden, yet places face the eye."""
    step = max(1, len(cloud.points) // SITE_POINTS)
    points, normals = cloud.points[::step], cloud.normals[::step]
    _, rows = cKDTree(points).query(points, k=min(SITE_NEIGHBOURS, len(points)))
    rough = np.clip(1.0 - np.linalg.norm(normals[rows].mean(axis=1), axis=1), 0.0, None)
    edges = points[rough >= np.quantile(rough, EDGE_QUANTILE)]
    pitch = cloud.spacing
    off, _ = cKDTree(edges).query(points)
    surface = Surface(
        points=points,
        normals=normals,
        interior=off / pitch,
        rough=rough,
        elements=np.full(len(points), -1),
        pitch=pitch,
        view=np.array([0.0, 0.0, 1.0]),
    )

    def draw(rng: np.random.Generator) -> Surface:
        view = rng.normal(size=3)
        return replace(surface, view=view / np.linalg.norm(view))

    return draw


def show(cloud: Cloud, depths: tuple[float, float]) -> Callable[[Damage, np.random.Generator], DamagedCloud]:
    """How damage shows on a cloud.

    Points that the defect moves by less than counts as changed follow it and stay unmarked; what it moves farther is
    taken out, and the fresh surface gets as many points for its area as lay there before.
    """
    tree = cKDTree(cloud.points)
    limit = changed_from(cloud.noise)

    def strike(damage: Damage, rng: np.random.Generator) -> DamagedCloud:
        near = np.array(sorted(tree.query_ball_point(damage.centre, damage.reach)), dtype=np.int64)
        old = cloud.points[near]
        before, after = values(cloud.field, old), values(damage.field, old)
        normals, slope = slopes(damage.field, old, STEP)
        moved = np.abs(after) / slope
        stays = (moved <= SAME + 3 * cloud.noise) | (np.abs(after - before) < 1e-6)
        gone = ~stays & (moved > limit)
        slight = ~stays & ~gone
        followed = onto(damage.field, old[slight], STEP) + normals[slight] * before[slight, None]
        share = float(np.median(cloud.areas[near[gone]])) if gone.any() else float(np.median(cloud.areas))
        fresh, displaced = _fresh(cloud, tree, damage, limit, share, rng)

        kept = np.ones(len(cloud.points), dtype=bool)
        kept[near[~stays]] = False
        marked = np.zeros(len(cloud.points), dtype=bool)
        through = len(fresh) < THIN * gone.sum()
        if through:
            marked[near] = _beside(old, old[gone], RIM * cloud.spacing)
        mask = np.concatenate([marked[kept], marked[near[slight]], np.ones(len(fresh), dtype=bool)])
        marks = float(max(mask.sum(), gone.sum()) if through else mask.sum())
        return DamagedCloud(
            kept=np.flatnonzero(kept),
            added=np.concatenate([followed, fresh]),
            mask=mask,
            area=share * marks if mask.sum() >= FEWEST else 0.0,
            depth=shown_depth(displaced, moved[gone], depths),
        )

    return strike


def _fresh(
    cloud: Cloud, tree: cKDTree, damage: Damage, limit: float, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points (k, 3) of the damaged surface where it is new, each standing for ``share``, and their displacement (k,).

    Candidates are drawn evenly from the ball and kept in a layer about the surface: so each piece of it gets as many
    as its area asks for.
    """
    layer = float(np.clip(LAYER * damage.reach, *LAYER_LIMITS))
    surplus = SURPLUS if cloud.even else 1
    count = int(rng.poisson(surplus / (2 * layer * share) * 4 / 3 * math.pi * damage.reach**3))
    directions = rng.normal(size=(count, 3))
    radii = damage.reach * rng.random(count) ** (1 / 3)
    candidates = damage.centre + directions * (radii / np.linalg.norm(directions, axis=1))[:, None]
    candidates = candidates[np.abs(values(damage.field, candidates)) < layer]
    _, slope = slopes(damage.field, candidates, STEP)
    candidates = candidates[np.abs(values(damage.field, candidates)) < layer * slope]
    found = onto(damage.field, candidates, STEP)
    displaced = np.abs(values(cloud.field, found))
    good = (np.abs(values(damage.field, found)) < SAME) & (displaced > limit)
    if not cloud.closed:
        away, _ = tree.query(found)
        good &= away < FOOT * displaced + 2 * cloud.spacing
    found, displaced = found[good], displaced[good]
    if surplus > 1 and len(found):
        chosen = np.sort(farthest_points(found, max(1, len(found) // surplus)))
        found, displaced = found[chosen], displaced[chosen]
    if cloud.noise > 0 and len(found):
        normals, _ = slopes(damage.field, found, STEP)
        found = found + normals * rng.normal(scale=cloud.noise, size=(len(found), 1))
    return found, displaced


def _beside(points: np.ndarray, gone: np.ndarray, reach: float) -> np.ndarray:
    """(n,) bool, which points lie next to some of those that are gone."""
    if len(points) == 0 or len(gone) == 0:
        return np.zeros(len(points), dtype=bool)
    off, _ = cKDTree(gone).query(points)
    return np.asarray(off < reach)
