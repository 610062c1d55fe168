"""Scores without any training, to compare with: what the geometry of one scan says by itself.

*Self-similarity by FPFH*: a place is as anomalous as its local shape is unlike that of all distant places of the same
part. FPFH: Rusu, Blodow and Beetz, "Fast point feature histograms (FPFH) for 3D registration", ICRA 2009.
"""

from __future__ import annotations

import numpy as np

from gsclip.data.geometry import point_spacing
from gsclip.data.sample import Sample
from gsclip.scores.prediction import Prediction
from gsclip.scores.smoothing import smooth_scores

RADIUS = 8.0  # spacings: neighbourhood of a histogram
MOST_NEIGHBOURS = 300
DISTANT = 20.0  # spacings: nearer places are not compared
REFERENCES = 2000  # places that all points are compared with
NEAREST = 5  # most similar ones, whose mean distance is the score
TOP_SHARE = 0.01  # of the points: their mean is the object score
_CHUNK = 4096


def self_similarity(sample: Sample, smoothing: float) -> Prediction:
    """Score one object by FPFH against its own distant places.

    Args:
        sample: the object.
        smoothing: see :func:`~gsclip.scores.smoothing.smooth_scores`.

    Returns:
        Scores in [0, 1]: distances in parts of the largest that two histograms can have. There are no views.
    """
    features = fpfh(sample)
    points = sample.points.astype(np.float64)
    distant = DISTANT * point_spacing(sample.points)
    chosen = np.random.default_rng(0).permutation(len(points))[:REFERENCES]
    scores = np.empty(len(points), np.float32)
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        unlike = _distances(features[part], features[chosen])
        unlike[_distances(points[part], points[chosen]) < distant] = np.inf
        nearest = np.partition(unlike, min(NEAREST, len(chosen)) - 1, axis=1)[:, :NEAREST]
        # On a part smaller than the distance nothing is compared, and nothing is anomalous.
        scores[part] = np.where(np.isfinite(nearest).all(axis=1), nearest.mean(axis=1), 0)
    smooth = smooth_scores(sample, scores, smoothing)
    top = np.sort(smooth)[-max(1, round(TOP_SHARE * len(smooth))) :]
    empty = np.empty(0, np.float32)
    return Prediction(float(top.mean()), smooth, empty, empty.reshape(0, 0, 0))


def fpfh(sample: Sample) -> np.ndarray:
    """(n, 33) float32 histograms, each of its three parts summing to a third."""
    import open3d

    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(sample.points.astype(np.float64)))
    normals = sample.normals.astype(np.float64)
    # Normals have an arbitrary sign: turn them outwards, away from the middle of the part.
    outwards = np.einsum("nd,nd->n", normals, sample.points - sample.points.mean(axis=0)) >= 0
    if sample.grid is not None:
        outwards = normals[:, 2] <= 0  # towards the sensor
    cloud.normals = open3d.utility.Vector3dVector(np.where(outwards[:, None], normals, -normals))
    search = open3d.geometry.KDTreeSearchParamHybrid(RADIUS * point_spacing(sample.points), MOST_NEIGHBOURS)
    features = open3d.pipelines.registration.compute_fpfh_feature(cloud, search)  # type: ignore[call-arg]
    histograms = np.asarray(features.data).T
    parts = histograms.reshape(len(histograms), 3, 11)
    shares = parts / np.maximum(parts.sum(axis=2, keepdims=True), 1e-9) / 3
    return shares.reshape(len(histograms), 33).astype(np.float32)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, m) Euclidean distances between rows."""
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1)[None] - 2 * first @ second.T
    return np.sqrt(np.maximum(squares, 0))
