"""Thin clouds of millions of points to a bounded number that still covers all of the surface.

A grid of equal cubes lies over the cloud; of each cube that holds points, the one nearest to its centre is kept, an
original point and no mean. The cubes are as small as the bound allows. Which points are kept, and in which order,
depends on where points lie alone: a shuffled file gives the same result.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

FULL_ENOUGH = 0.95  # of the bound: cubes are not made smaller any more
MAX_GUESSES = 5  # of the size of the cubes; a surface takes three or four
MAX_HALVINGS = 14  # of the interval that holds the size: to a thousandth of it at least
MAX_CUBES = 1 << 20  # along an edge of the grid: three such numbers fit into 63 bits
CHUNK = 1 << 18  # points whose nearest kept one is sought at a time


def thin(points: np.ndarray, max_points: int) -> np.ndarray:
    """Choose at most ``max_points`` points, one of each occupied cube of a grid.

    Args:
        points: (n, 3) float32, finite, n >= 1.
        max_points: at least 1.

    Returns:
        (k,) int64 rows of ``points``, k <= ``max_points``, in the order of their cubes (x, then y, then z). Of points
        equally near to the centre of their cube the one with the smallest x, then y, then z is kept; of points that
        coincide, the first. At least :data:`FULL_ENOUGH` of ``max_points`` are kept where cubes of some size give so
        many: not where more points than that coincide.

    Raises:
        ValueError: when there is no point, or ``max_points`` is less than 1.
    """
    if len(points) == 0 or max_points < 1:
        raise ValueError(f"cannot thin {len(points)} points to at most {max_points}")
    low = points.min(axis=0).astype(np.float64)
    extent = float((points.max(axis=0) - low).max())
    if extent == 0:
        return np.zeros(1, dtype=np.int64)
    size = _cube_size(points, low, extent, max_points)
    keys, away = _cubes(points, low, size)
    order = np.lexsort((*points.T[::-1], away, keys))
    first = np.ones(len(order), dtype=bool)
    first[1:] = np.diff(keys[order]) > 0
    return order[first]


def nearest_kept(points: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(n,) int32 row of the nearest of the kept points (k, 3) for each of the points (n, 3); memory is bounded."""
    tree = cKDTree(kept)
    nearest = np.empty(len(points), dtype=np.int32)
    for start in range(0, len(points), CHUNK):
        nearest[start : start + CHUNK] = tree.query(points[start : start + CHUNK])[1]
    return nearest


def any_within(mask: np.ndarray, nearest: np.ndarray, count: int) -> np.ndarray:
    """(count,) bool, true for kept points that are the nearest one of any point in ``mask`` (n,)."""
    found = np.zeros(count, dtype=bool)
    found[nearest[mask]] = True
    return found


def _cube_size(points: np.ndarray, low: np.ndarray, extent: float, max_points: int) -> float:
    """Length of an edge with which the points occupy at most ``max_points`` cubes, and hardly fewer.

    The number of cubes on a surface falls with the square of their size, which gives the first guesses. Where that does
    not lead there, as with a bound close to the number of points, the interval is halved in its logarithm.
    """
    too_small, best = extent / MAX_CUBES, 2 * extent  # the latter: one cube
    size = extent / np.sqrt(max_points)
    for trial in range(MAX_GUESSES + MAX_HALVINGS):
        count = len(np.unique(_cubes(points, low, size)[0]))
        if count <= max_points:
            best = size
            if count >= FULL_ENOUGH * max_points:
                break
        else:
            too_small = size
        guess = size * np.sqrt(count / ((1 + FULL_ENOUGH) / 2 * max_points))
        guessed = trial < MAX_GUESSES - 1 and too_small < guess < best
        size = guess if guessed else np.sqrt(too_small * best)
    return best


def _cubes(points: np.ndarray, low: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Number of each point's cube (n,) int64, and its distance from the cube's centre (n,) float32, in cubes."""
    key = np.zeros(len(points), dtype=np.int64)
    away = np.zeros(len(points), dtype=np.float32)
    for axis in range(3):
        place = (points[:, axis] - low[axis]) / size
        cube = np.minimum(place.astype(np.int64), MAX_CUBES - 1)
        key = key * MAX_CUBES + cube
        away += ((place - cube - 0.5) ** 2).astype(np.float32)
    return key, away
