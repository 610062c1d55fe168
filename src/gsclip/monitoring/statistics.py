"""Numbers that describe one scan and its scores: the monitored columns of ``samples.csv``.

None of them needs a label, a fit or another sample, so rows of different runs and machines can be compared.
"""

from __future__ import annotations

import numpy as np

from gsclip.data.geometry import k_nearest, point_spacing
from gsclip.data.sample import Sample
from gsclip.features.encode import ViewTokens
from gsclip.features.images import DEPTH_LEVELS
from gsclip.monitoring.columns import EMBEDDING_COLUMNS, EMBEDDING_SIZE
from gsclip.scores.prediction import Prediction
from gsclip.views.views import Views

NEIGHBOURS = 8  # the ring around a point of an organised scan
FLAT_SHARE = 0.1
PROJECTION_SEED = 20_240_917  # never change it: rows of before and after would not compare
GREY_LEVELS = 255


def sample_statistics(sample: Sample, views: Views, tokens: ViewTokens) -> dict[str, float]:
    """Describe a scan as it reaches the detector.

    Args:
        sample: n points, at least 2.
        views: its views, each with some foreground.
        tokens: tokens of its rendered views; their d must be at least 16.

    Returns:
        In this order: ``points`` (their number), ``spacing`` and ``extent_x``, ``extent_y``, ``extent_z`` of the part
        in the sensor frame (unit of the scan), ``normal_consistency`` (mean absolute cosine between the normals of a
        point and of its neighbours: 1 on a plane, 0.5 for noise), ``roughness`` (see :func:`roughness`: noise of the
        sensor), ``gap_ratio`` (see :func:`gap_ratio`: missing points), ``visible_share`` (share of the points that a
        view sees, mean over views), ``rendered_mean``, ``rendered_std``, ``depth_mean``, ``depth_std`` (of the
        foreground pixels of all views, in [0, 1]), and the 16 numbers of :func:`project_embedding`.

    Raises:
        ValueError: when there are fewer than two points, or d is below 16.
    """
    extent = np.ptp(sample.points, axis=0)
    distances, neighbours = k_nearest(sample.points, NEIGHBOURS)
    spacing = point_spacing(sample.points)
    grey = views.rendered[views.foreground] / GREY_LEVELS
    nearness = views.depth[views.foreground] / DEPTH_LEVELS
    embedding = project_embedding(tokens.tokens[:, 0].astype(np.float64).mean(axis=0))
    return {
        "points": float(len(sample.points)),
        "spacing": spacing,
        "extent_x": float(extent[0]),
        "extent_y": float(extent[1]),
        "extent_z": float(extent[2]),
        "normal_consistency": normal_consistency(sample.normals, neighbours),
        "roughness": roughness(sample.points, sample.normals, neighbours),
        "gap_ratio": gap_ratio(distances, spacing),
        "visible_share": float(views.visible.mean()),
        "rendered_mean": float(grey.mean()),
        "rendered_std": float(grey.std()),
        "depth_mean": float(nearness.mean()),
        "depth_std": float(nearness.std()),
        **dict(zip(EMBEDDING_COLUMNS, embedding.tolist(), strict=True)),
    }


def score_statistics(prediction: Prediction) -> dict[str, float]:
    """Describe the scores of a sample.

    Returns:
        ``map_max``, ``map_mean`` and ``score_p99`` (highest, mean and 99th percentile of the point scores, which are
        the anomaly maps of all views brought back to the cloud), ``view_probability_mean``; all in [0, 1].
    """
    scores = prediction.point_scores.astype(np.float64)
    return {
        "map_max": float(scores.max()),
        "map_mean": float(scores.mean()),
        "score_p99": float(np.quantile(scores, 0.99)),
        "view_probability_mean": float(prediction.view_probabilities.astype(np.float64).mean()),
    }


def normal_consistency(normals: np.ndarray, neighbours: np.ndarray) -> float:
    """Mean absolute cosine between each normal and those of the nearest other points.

    Args:
        normals: (n, 3) unit vectors, their sign arbitrary.
        neighbours: (n, k) rows of ``normals``, of :func:`~gsclip.data.geometry.k_nearest`.
    """
    cosine = np.einsum("nc,nkc->nk", normals, normals[neighbours])
    return float(np.abs(cosine).mean(dtype=np.float64))


def roughness(points: np.ndarray, normals: np.ndarray, neighbours: np.ndarray) -> float:
    """How far neighbours lie off the plane of a point, in parts of their distance, on the flattest tenth of the points.

    Noise across the surface shows there, whatever the shape of the part is elsewhere: of 14 procedural parts of seven
    families it told noise twice as large by 2.7 standard deviations, the median over all points by 0.8.

    Args:
        points: (n, 3) finite points.
        normals: (n, 3) unit vectors, their sign arbitrary.
        neighbours: (n, k) rows of ``points``.

    Returns:
        Root mean square over the neighbours of a point, as a ratio in [0, 1]: 0 on a plane. Of the points, the 10th
        percentile.
    """
    steps = (points[neighbours] - points[:, None]).astype(np.float64)
    off = np.einsum("nkc,nc->nk", steps, normals)
    lengths = np.sqrt((steps**2).sum(axis=(1, 2)))
    ratios = np.divide(np.sqrt((off**2).sum(axis=1)), lengths, out=np.zeros(len(points)), where=lengths > 0)
    return float(np.quantile(ratios, FLAT_SHARE))


def gap_ratio(distances: np.ndarray, spacing: float) -> float:
    """Mean distance to the nearest other points in spacings: 1.2 on a full grid of 8 neighbours, more with gaps.

    Args:
        distances: (n, k) to the nearest other points.
        spacing: of the points, in the same unit.

    Returns:
        The ratio; 0 where the spacing is.
    """
    return float(distances.mean(dtype=np.float64)) / spacing if spacing > 0 else 0.0


def project_embedding(embedding: np.ndarray) -> np.ndarray:
    """Project a joint embedding to 16 dimensions.

    The 16 directions are orthonormal, drawn once at random for each d and fixed by a seed: nothing is fitted, so
    projections of any two runs with one backbone compare, and distances shrink by the same factor on average
    (Johnson and Lindenstrauss).

    Args:
        embedding: (d,) mean class token of the views.

    Returns:
        (16,) float64.

    Raises:
        ValueError: when d is below 16.
    """
    dimension = len(embedding)
    if dimension < EMBEDDING_SIZE:
        raise ValueError(f"an embedding needs {EMBEDDING_SIZE} dimensions or more, got {dimension}")
    drawn = np.random.default_rng(PROJECTION_SEED).standard_normal((dimension, EMBEDDING_SIZE))
    directions, triangle = np.linalg.qr(drawn)
    # A factorisation leaves the signs open: those of the drawn columns are kept.
    return np.asarray(embedding @ (directions * np.sign(np.diag(triangle))), dtype=np.float64)
