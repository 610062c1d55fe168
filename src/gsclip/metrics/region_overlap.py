"""Per-region overlap (PRO): how much of every defect is found, as a function of the false positive rate.

Exact version: the definition that comes with MVTec AD and MVTec 3D-AD (Bergmann et al. 2021, doi
10.1007/s11263-020-01400-4). Every distinct score is a threshold; at each, the overlap of every region with what
lies at or above it is averaged over regions, large and small alike; the area under this curve up to a limit of the
false positive rate, divided by the limit. It depends on the order of the scores alone.

One core serves images and point clouds: an element is a pixel or a point, and carries a score and a region
label: 0 defect-free, -1 to be ignored, 1 and above the region of its sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse import csgraph
from scipy.spatial import cKDTree

from gsclip.metrics.counts import DefectScores, RankCounts

DEFAULT_LIMIT = 0.3  # of the false positive rate; from MVTec AD, used by all papers compared with
NEIGHBOURS = 16
PAPER_STEPS = 200
EIGHT_CONNECTED = np.ones((3, 3), dtype=int)


def image_regions(mask: np.ndarray) -> np.ndarray:
    """Label the 8-connected regions of a mask.

    Args:
        mask: (h, w) bool.

    Returns:
        (h, w) int32, 0 where the mask is false, else 1, 2, ...
    """
    labels, _ = ndimage.label(np.asarray(mask, dtype=bool), EIGHT_CONNECTED)
    return np.asarray(labels, dtype=np.int32)


def point_regions(points: np.ndarray, mask: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """Label the regions of an unorganised cloud: components of a nearest-neighbour graph over its defect points.

    Args:
        points: (n, 3).
        mask: (n,) bool, true on defects.
        k: neighbours of each defect point among the defect points. Two defects closer than their own k-th
            neighbours merge, and of a defect of at most k points nothing but distance would tell it from another:
            such a small one joins its nearest neighbours.

    Returns:
        (n,) int32, 0 where the mask is false, else 1, 2, ...
    """
    regions = np.zeros(len(points), dtype=np.int32)
    members = np.flatnonzero(mask)
    if len(members) == 0:
        return regions
    # A point is its own nearest neighbour, hence one more than k.
    count = min(k + 1, len(members))
    _, neighbours = cKDTree(points[members]).query(points[members], k=count)
    neighbours = neighbours.reshape(len(members), count)
    starts = np.repeat(np.arange(len(members)), count)
    graph = sparse.coo_matrix(
        (np.ones(starts.size, dtype=bool), (starts, neighbours.ravel())), shape=(len(members),) * 2
    )
    _, component = csgraph.connected_components(graph, directed=False)
    regions[members] = component + 1
    return regions


def grid_point_regions(grid_mask: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Label the points of an organised scan by the 8-connected regions of its ground truth.

    The regions are those of the whole mask: pixels without a point do not cut a defect in two.

    Args:
        grid_mask: (h, w) bool ground truth, pixels without a point included.
        pixels: (n, 2) int (row, column) of each point.

    Returns:
        (n,) int32, 0 on defect-free points, else the region.
    """
    return image_regions(grid_mask)[pixels[:, 0], pixels[:, 1]]


def per_region_overlap(samples: Iterable[tuple[np.ndarray, np.ndarray]], limit: float = DEFAULT_LIMIT) -> float:
    """Exact PRO up to a false positive rate, normalised to [0, 1].

    Samples are taken one at a time and once. What stays in memory is one float32 score for each element. Where the
    samples can be read twice, :mod:`gsclip.metrics.counts` and :func:`counted_overlap` need those of the defect
    elements only. Scores are compared as float32.

    Args:
        samples: pairs of scores and region labels, of equal shape; see the module for the labels.
        limit: of the false positive rate, in (0, 1].

    Returns:
        Area under the curve up to ``limit``, divided by ``limit``; NaN without a region or a defect-free element.

    Raises:
        ValueError: a limit outside (0, 1], or scores and labels of different shape.
    """
    _check_limit(limit)
    defects = DefectScores()
    normals: list[np.ndarray] = []
    for scores, regions in samples:
        defects.add("", scores, regions)
        normals.append(np.asarray(scores, dtype=np.float32).ravel()[np.asarray(regions).ravel() == 0])
    counts = defects.counts()
    for part in normals:
        counts.add(part)
    return counted_overlap(counts, limit)


def counted_overlap(counts: RankCounts, limit: float = DEFAULT_LIMIT) -> float:
    """Exact PRO from the counts of all samples; see :func:`per_region_overlap`.

    Between two scores of defect elements the overlap does not change, so each distinct one gives two corners of the
    curve: just above it, and at it. Defect-free elements of the same score come with it in one step, along a straight
    line.

    Raises:
        ValueError: a limit outside (0, 1].
    """
    _check_limit(limit)
    if counts.defects == 0 or counts.normals == 0:
        return float("nan")
    above, at = counts.above[::-1] / counts.normals, counts.at_or_above[::-1] / counts.normals
    overlap = np.minimum(np.cumsum(counts.gains[::-1]), 1.0)
    before = np.concatenate([[0.0], overlap[:-1]])
    false_positive_rate = np.concatenate([[0.0], np.stack([above, at], axis=1).ravel(), [1.0]])
    corners = np.concatenate([[0.0], np.stack([before, overlap], axis=1).ravel(), [1.0]])
    return _area_up_to(false_positive_rate, corners, limit) / limit


def _check_limit(limit: float) -> None:
    if not 0 < limit <= 1:
        raise ValueError(f"limit of the false positive rate is {limit}, must be in (0, 1]")


def _area_up_to(x: np.ndarray, y: np.ndarray, limit: float) -> float:
    """Trapezoidal area under a curve of rising x from 0 to ``limit``, interpolated linearly there."""
    inside = int(np.searchsorted(x, limit, "right"))
    x_inside, y_inside = x[:inside], y[:inside]
    if inside < len(x):
        slope = (y[inside] - y[inside - 1]) / (x[inside] - x[inside - 1])
        x_inside = np.append(x_inside, limit)
        y_inside = np.append(y_inside, y[inside - 1] + slope * (limit - x[inside - 1]))
    return float(np.trapezoid(y_inside, x_inside))


class SteppedOverlap:
    """PRO by the paper's protocol, sample by sample; see :func:`pro_paper_protocol`.

    Args:
        low: lowest score of all samples.
        high: highest score of all samples.
        steps: equal steps between them.
    """

    def __init__(self, low: float, high: float, steps: int = PAPER_STEPS) -> None:
        self._thresholds = np.linspace(low, high, steps + 1)
        self._false_positives = np.zeros(steps + 1, dtype=np.int64)
        self._normals = 0
        self._overlaps: list[np.ndarray] = []
        self._regions = 0

    def add(self, scores: np.ndarray, regions: np.ndarray) -> None:
        """Count the alarms of one sample at each threshold.

        Args:
            scores: any shape.
            regions: region labels, in the shape of the scores; see the module.
        """
        normal = np.sort(scores[regions == 0])
        self._false_positives += len(normal) - np.searchsorted(normal, self._thresholds, "right")
        self._normals += len(normal)
        defect = regions > 0
        if not defect.any():
            return
        _, place, sizes = np.unique(regions[defect], return_inverse=True, return_counts=True)
        # An element is an alarm at so many of the thresholds, the lowest ones.
        exceeded = np.searchsorted(self._thresholds, scores[defect], "left")
        bins = len(self._thresholds) + 1
        histogram = np.bincount(place * bins + exceeded, minlength=len(sizes) * bins).reshape(len(sizes), bins)
        above = np.cumsum(histogram[:, ::-1], axis=1)[:, -2::-1]
        self._overlaps.append((above / sizes[:, None]).sum(axis=0))
        self._regions += len(sizes)

    def area(self) -> float:
        """Area of the curve of all samples added; NaN where :func:`pro_paper_protocol` has none."""
        if self._regions == 0 or self._normals == 0:
            return float("nan")
        false_positive_rate = self._false_positives / self._normals
        kept = false_positive_rate < DEFAULT_LIMIT
        # Sorted, so that the last bit of the sum does not depend on the order of the samples.
        overlap = np.sort(self._overlaps, axis=0).sum(axis=0) / self._regions
        x, y = false_positive_rate[kept][::-1], overlap[kept][::-1]
        if x[0] == x[-1]:
            return float("nan")
        return float(np.trapezoid(y, (x - x[0]) / (x[-1] - x[0])))


def pro_paper_protocol(
    maps: Sequence[np.ndarray] | np.ndarray, masks: Sequence[np.ndarray] | np.ndarray, steps: int = PAPER_STEPS
) -> float:
    """PRO by the paper's protocol, for comparison with published figures only.

    Thresholds in equal steps from the lowest score of all maps to the highest, an element is an alarm strictly
    above a threshold; of the curve, the thresholds with a false positive rate below 0.3; these rates rescaled to
    [0, 1] by their own minimum and maximum; trapezoidal area. It depends on the scale of the scores and not on
    their order alone, so the exact :func:`per_region_overlap` is what this package reports.

    Args:
        maps: anomaly maps, (h, w) each.
        masks: ground truth, (h, w) each; above 0 is a defect.
        steps: equal steps between lowest and highest score.

    Returns:
        A fraction in [0, 1]; NaN without a region or a defect-free pixel, or where fewer than two distinct rates
        lie below 0.3.
    """
    low, high = min(float(np.min(item)) for item in maps), max(float(np.max(item)) for item in maps)
    overlap = SteppedOverlap(low, high, steps)
    for scores, mask in zip(maps, masks, strict=True):
        overlap.add(np.asarray(scores), image_regions(np.asarray(mask) > 0))
    return overlap.area()
