"""Self-similarity: how unlike the local shape of each place is to that of all distant places of the same part.

It needs no training and knows nothing of defects: edges, holes and threads that occur once are as unlike as dents. What
it adds to the prompts' maps is that structure which repeats is in order, and the resolution of points instead of
patches. Local shapes are FPFH: Rusu, Blodow and Beetz, "Fast point feature histograms (FPFH) for 3D registration", ICRA
2009. The paper has no such term (``predict.self_similarity: 0``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from gsclip.data.geometry import point_spacing
from gsclip.data.open3d_core import open3d_core
from gsclip.data.sample import Sample
from gsclip.scores.smoothing import smooth_scores

NEAREST = 5  # most similar distant places, whose mean distance is a place's unlikeness
INTERPOLATED = 4  # kept points that a point in between takes its value from
_CHUNK = 4096
_EXACT = "donot_use_mm_for_euclid_dist"  # of 3 columns: as fast
_PRODUCT = "use_mm_for_euclid_dist"  # of 33: several times as fast


@dataclass(frozen=True)
class Comparison:
    """What is compared with what.

    Attributes:
        radius: of a histogram's neighbourhood, in spacings of the points.
        distant: spacings; nearer places are not compared.
        references: places that all points are compared with.
        kept: points that are compared at most, the others are interpolated; ``None``: all.
        neighbours: of a histogram at most.
    """

    radius: float
    distant: float
    references: int = 2000
    kept: int | None = None
    neighbours: int = 300


# Far cheaper than all points, and no worse in the product with the prompts' scores (docs/backbone.md). The spacings are
# those of the points that are kept.
QUICK = Comparison(radius=5.0, distant=12.0, references=1000, kept=6000, neighbours=50)


def smooth_unlikeness(sample: Sample, smoothing: float) -> np.ndarray:
    """(n,) float64 unlikeness u of each point, as :func:`raised_scores` takes it.

    Args:
        sample: the part.
        smoothing: see :func:`~gsclip.scores.smoothing.smooth_scores`.
    """
    return smooth_scores(sample, unlikeness(sample, QUICK), smoothing).astype(np.float64)


def raised_scores(scores: np.ndarray, unlike: np.ndarray, *, exponent: float) -> np.ndarray:
    """(n,) point scores, higher where the part is unlike the rest of itself, lower where it is like it; in [0, 1].

    1 - (1 - s)^r with r = (u / mean u)^exponent and u the unlikeness: for small scores their product with r.

    Args:
        scores: (n,) in [0, 1].
        unlike: (n,) of :func:`smooth_unlikeness`.
        exponent: 0 leaves the scores as they are.
    """
    mean = unlike.mean()
    if exponent == 0 or not mean > 0:  # too small a part: nothing is distant from anything
        return scores
    with np.errstate(divide="ignore", invalid="ignore"):  # a score of 1 stays 1
        raised = -np.expm1((unlike / mean) ** exponent * np.log1p(-scores.astype(np.float64)))
    return np.where(scores < 1, np.clip(raised, 0, 1), 1).astype(np.float32)


def unlikeness(sample: Sample, how: Comparison) -> np.ndarray:
    """(n,) float32 mean distance of each histogram to its most similar distant ones; 0 where nothing is distant."""
    count = len(sample.points)
    if how.kept is None or count <= how.kept:
        return _unlikeness(sample.points, outwards(sample), how)
    chosen = np.random.default_rng(0).permutation(count)[: how.kept]
    values = _unlikeness(sample.points[chosen], outwards(sample)[chosen], how)
    distance, index = cKDTree(sample.points[chosen]).query(sample.points, k=INTERPOLATED)
    weight = 1 / (distance + 1e-6 * point_spacing(sample.points))
    return ((values[index] * weight).sum(1) / weight.sum(1)).astype(np.float32)


def _unlikeness(points: np.ndarray, normals: np.ndarray, how: Comparison) -> np.ndarray:
    spacing = point_spacing(points)
    histograms = fpfh(points, normals, how.radius * spacing, how.neighbours)
    chosen = np.random.default_rng(0).permutation(len(points))[: how.references]
    nearest = min(NEAREST, len(chosen))
    # By torch, which has the threads that the caller gave it, and so the same bits in any process.
    shapes, places = torch.from_numpy(histograms), torch.from_numpy(points.astype(np.float32))
    scores = torch.empty(len(points))
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        near = torch.cdist(places[part], places[chosen], compute_mode=_EXACT) < how.distant * spacing
        unlike = torch.cdist(shapes[part], shapes[chosen], compute_mode=_PRODUCT).masked_fill_(near, torch.inf)
        closest = unlike.topk(nearest, dim=1, largest=False).values.mean(dim=1)
        # On a part smaller than the distance nothing is compared, and nothing is unlike.
        scores[part] = torch.where(closest.isfinite(), closest, 0)
    return scores.numpy()


def outwards(sample: Sample) -> np.ndarray:
    """(n, 3) normals turned to the sensor of an organised scan, or away from the middle of a cloud."""
    normals = sample.normals.astype(np.float64)
    if sample.grid is not None:
        right = normals[:, 2] <= 0
    else:
        right = np.einsum("nd,nd->n", normals, sample.points - sample.points.mean(axis=0)) >= 0
    return np.where(right[:, None], normals, -normals)


def fpfh(points: np.ndarray, normals: np.ndarray, radius: float, neighbours: int) -> np.ndarray:
    """(n, 33) float32 histograms, each of its three parts summing to a third.

    Args:
        points: (n, 3).
        normals: (n, 3) float64 unit vectors, turned to one side.
        radius: of the neighbourhood, in the unit of the points.
        neighbours: nearest ones of it, at most.
    """
    open3d = open3d_core()
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points.astype(np.float64)))
    cloud.normals = open3d.utility.Vector3dVector(normals)
    search = open3d.geometry.KDTreeSearchParamHybrid(radius, neighbours)
    histograms = np.asarray(open3d.pipelines.registration.compute_fpfh_feature(cloud, search).data).T
    parts = histograms.reshape(len(histograms), 3, 11)
    shares = parts / np.maximum(parts.sum(axis=2, keepdims=True), 1e-9) / 3
    return shares.reshape(len(histograms), 33).astype(np.float32)
