"""Elementary geometry of point clouds: spacing, neighbours, normals, spread-out points, unit scale.

Everything here is deterministic: the same points in the same order give the same result on any number of threads.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from gsclip.data.open3d_core import open3d_core

# A disc of this many spacings holds about 78 points of an evenly sampled surface, and still about 20 where the
# surface is so steep that the sensor's steps are four times as long as on a frontal face.
NORMAL_RADIUS_IN_SPACINGS = 5.0
SPACING_POINTS = 5000  # whose nearest neighbour is looked for; the spacing is known to a hundredth then


def point_spacing(points: np.ndarray) -> float:
    """Median distance from a point to its nearest neighbour, the unit in which local radii are given.

    Of more than 10,000 points it is the median over every second, third, ... point, 5,000 to 10,000 of them.

    Args:
        points: (n, 3) finite points; points that coincide count once.

    Returns:
        The spacing in the unit of ``points``; 0 when fewer than two of them are distinct.
    """
    distinct = distinct_points(np.asarray(points, dtype=np.float64))
    if len(distinct) < 2:
        return 0.0
    # For so few queries a tree is best that is made quickly.
    tree = cKDTree(distinct, balanced_tree=False, compact_nodes=False)
    distances, _ = tree.query(distinct[:: max(1, len(distinct) // SPACING_POINTS)], k=2)
    return float(np.median(distances[:, 1]))


def distinct_points(points: np.ndarray) -> np.ndarray:
    """Points that coincide once, (m, 3) of (n, 3) finite ones, in any order.

    Sorting rows takes longer than most of what it is for: where 64 bit mixed from the coordinates differ for all
    points, as for nearly every scan, the points are returned as they are.
    """
    bits = np.ascontiguousarray(points + 0.0, dtype=np.float64).view(np.uint64)  # + 0.0: -0.0 equals 0.0
    mixed = np.zeros(len(bits), dtype=np.uint64)
    for axis in range(3):
        mixed = (mixed ^ bits[:, axis]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    mixed.sort()
    return np.unique(points, axis=0) if (mixed[1:] == mixed[:-1]).any() else points


def k_nearest(points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the ``k`` nearest other points of each point.

    Args:
        points: (n, 3) finite points, n >= 2.
        k: number of neighbours, at least 1; ``n - 1`` at most are returned.

    Returns:
        distances: (n, min(k, n - 1)) float32, ascending along the second axis, in the unit of ``points``.
        indices: (n, min(k, n - 1)) int64 rows of ``points``; never the point itself.

    Raises:
        ValueError: when ``k < 1`` or there are fewer than two points.
    """
    count = len(points)
    if k < 1 or count < 2:
        raise ValueError(f"k_nearest needs k >= 1 and two points or more, got k = {k} and {count} points")
    k = min(k, count - 1)
    distances, indices = cKDTree(points).query(points, k=k + 1)
    # The point itself is usually the first hit, but any hit (or none) among points that coincide: drop it where it
    # stands, else drop the farthest.
    own = indices == np.arange(count)[:, None]
    own[~own.any(axis=1), -1] = True
    return (
        distances[~own].reshape(count, k).astype(np.float32),
        indices[~own].reshape(count, k).astype(np.int64),
    )


def estimate_normals(points: np.ndarray, neighbours: int = 30) -> np.ndarray:
    """Estimate a normal at each point: the direction of least variance among its neighbours.

    Neighbours are the nearest ``neighbours`` points within :data:`NORMAL_RADIUS_IN_SPACINGS` times the cloud's
    spacing, so that points across a gap do not take part and the result does not depend on the unit of length.

    Args:
        points: (n, 3) finite points.
        neighbours: most neighbours to use, the point itself included.

    Returns:
        (n, 3) float32 unit vectors of arbitrary sign; (0, 0, 1) where the neighbours do not span a plane.
    """
    o3d = open3d_core()
    normals = np.tile(np.array([0.0, 0.0, 1.0]), (len(points), 1))
    spacing = point_spacing(points)
    if spacing > 0:
        # In units of the spacing and about the centroid: covariances keep their digits for far or tiny clouds.
        scaled = (points - np.mean(points, axis=0, dtype=np.float64)) / spacing
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(scaled))
        cloud.estimate_normals(o3d.geometry.KDTreeSearchParamHybrid(NORMAL_RADIUS_IN_SPACINGS, neighbours))
        estimated = np.asarray(cloud.normals)
        length = np.linalg.norm(estimated, axis=1)
        usable = np.isfinite(length) & (length > 0.5)
        normals[usable] = estimated[usable] / length[usable, None]
    return normals.astype(np.float32)


def normalise_unit_sphere(points: np.ndarray) -> np.ndarray:
    """Move the centroid to the origin and scale the farthest point to distance 1.

    Args:
        points: (n, 3) finite points, n >= 1.

    Returns:
        (n, 3) float32; all zero when the points coincide.
    """
    centred = np.asarray(points, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    radius = np.linalg.norm(centred, axis=1).max()
    return (centred / radius if radius > 0 else centred).astype(np.float32)


def farthest_points(points: np.ndarray, count: int, start: int = 0) -> np.ndarray:
    """Choose points that spread over the cloud: each is the farthest from those chosen before it.

    Farthest point sampling; of points equally far the one with the lowest index is taken. (Open3D's function of
    the same purpose returns coordinates instead of indices.)

    Args:
        points: (n, 3) finite points.
        count: how many to choose; all points when the cloud has no more.
        start: index of the first point chosen.

    Returns:
        (min(count, n),) int64 distinct indices into ``points``, in the order of choice.

    Raises:
        ValueError: when ``count`` is negative or ``start`` is no index of a point.
    """
    total = len(points)
    if count < 0 or not 0 <= start < total:
        raise ValueError(f"cannot choose {count} of {total} points from index {start}")
    columns = np.ascontiguousarray(np.asarray(points, dtype=np.float64).T)
    chosen = np.empty(min(count, total), dtype=np.int64)
    nearest = np.full(total, np.inf)
    current = start
    for step in range(len(chosen)):
        chosen[step] = current
        x, y, z = columns
        distance = (x - x[current]) ** 2 + (y - y[current]) ** 2 + (z - z[current]) ** 2
        np.minimum(nearest, distance, out=nearest)
        nearest[current] = -1.0  # below any distance: never chosen again, even among points that coincide
        current = int(nearest.argmax())
    return chosen
