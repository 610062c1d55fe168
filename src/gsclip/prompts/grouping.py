"""Which points PointNet++ groups at each level: depends on the cloud alone, so it is computed once per cloud."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from gsclip.data.geometry import normalise_unit_sphere

# Semantic-segmentation layout of PointNet++ (method, section 4).
CENTROIDS = (1024, 256, 64, 16)
RADII = (0.1, 0.2, 0.4, 0.8)
NEIGHBOURS = 32
INTERPOLATED = 3
CLOUD_SEED = 0
LARGEST_CLOUD = np.iinfo(np.int16).max  # indices are kept in 16 bits
_LEVELS = range(len(CENTROIDS))


@dataclass(frozen=True)
class Grouping:
    """Indices of one cloud of n points, or of a batch of b clouds with a leading axis.

    Level i has m_i centroids, chosen among the points of the level above (m_0 = 1024, ..., m_3 = 16).

    Attributes:
        cloud: (n, 3) float32 points in the unit sphere.
        centroids_i: (m_i,) int16 index of each centroid.
        neighbours_i: (m_i, 32) int16 points within the radius of each centroid.
        interpolation_i: (m_{i-1}, 3) int16 nearest centroids of each point of the level above.
        weights_i: (m_{i-1}, 3) float32 weights of the interpolation, sum 1.
    """

    cloud: np.ndarray
    centroids_0: np.ndarray
    centroids_1: np.ndarray
    centroids_2: np.ndarray
    centroids_3: np.ndarray
    neighbours_0: np.ndarray
    neighbours_1: np.ndarray
    neighbours_2: np.ndarray
    neighbours_3: np.ndarray
    interpolation_0: np.ndarray
    interpolation_1: np.ndarray
    interpolation_2: np.ndarray
    interpolation_3: np.ndarray
    weights_0: np.ndarray
    weights_1: np.ndarray
    weights_2: np.ndarray
    weights_3: np.ndarray


def group_cloud(cloud: np.ndarray) -> Grouping:
    """Group one (n, 3) cloud that lies in the unit sphere.

    Deterministic: farthest point sampling starts at the first point, and where more than 32 points lie in a radius
    those of lowest index are taken. A cloud of fewer points than centroids repeats points.
    """
    cloud = np.ascontiguousarray(cloud, dtype=np.float32)
    if not max(CENTROIDS[1:]) <= len(cloud) <= LARGEST_CLOUD:
        raise ValueError(f"a cloud of {len(cloud)} points cannot be grouped; give {CENTROIDS[1]} to {LARGEST_CLOUD}")
    arrays: dict[str, np.ndarray] = {"cloud": cloud}
    points = cloud
    for level in _LEVELS:
        centroids = farthest_points(points, CENTROIDS[level])
        positions = points[centroids]
        arrays[f"centroids_{level}"] = centroids.astype(np.int16)
        arrays[f"neighbours_{level}"] = _ball_query(points, positions, RADII[level])
        distance, nearest = cKDTree(positions).query(points, k=INTERPOLATED)
        inverse = 1 / (distance**2 + 1e-8)
        arrays[f"interpolation_{level}"] = nearest.astype(np.int16)
        arrays[f"weights_{level}"] = (inverse / inverse.sum(1, keepdims=True)).astype(np.float32)
        points = positions
    return Grouping(**arrays)


def group_points(points: np.ndarray, count: int) -> Grouping:
    """Choose ``count`` of (n, 3) points by a fixed seed (with repeats when there are fewer), scale and group them."""
    random = np.random.default_rng(CLOUD_SEED)
    chosen = random.choice(len(points), count, replace=len(points) < count)
    return group_cloud(normalise_unit_sphere(points[np.sort(chosen)]))


def stack_groupings(groupings: list[Grouping]) -> Grouping:
    """Put clouds of equal size into one batch: every array gets a leading axis b."""
    names = Grouping.__dataclass_fields__
    return Grouping(**{name: np.stack([getattr(grouping, name) for grouping in groupings]) for name in names})


def farthest_points(points: np.ndarray, count: int) -> np.ndarray:
    """(count,) int64 indices of (n, 3) points, each farthest from those before it; the first is index 0."""
    chosen = np.zeros(count, dtype=np.int64)
    columns = np.ascontiguousarray(points.T)
    distance = np.full(len(points), np.inf, dtype=np.float32)
    for place in range(1, count):
        difference = columns - columns[:, chosen[place - 1], None]
        np.minimum(distance, np.einsum("cn,cn->n", difference, difference), out=distance)
        chosen[place] = distance.argmax()
    return chosen


def _ball_query(points: np.ndarray, centroids: np.ndarray, radius: float) -> np.ndarray:
    """(m, 32) int16 lowest indices within the radius; the first found fills empty places."""
    count = len(points)
    index = np.where(cdist(centroids, points, "sqeuclidean") > radius**2, count, np.arange(count))
    wanted = min(NEIGHBOURS, count)
    index = np.sort(np.partition(index, wanted - 1, axis=1)[:, :wanted], axis=1)
    index = np.where(index == count, index[:, :1], index)
    return np.pad(index, ((0, 0), (0, NEIGHBOURS - wanted)), mode="edge").astype(np.int16)
