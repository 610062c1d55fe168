"""Scores without any training, to compare with: what the geometry of one scan says by itself.

*Self-similarity by FPFH*: a place is as anomalous as its local shape is unlike that of all distant places of the same
part (:mod:`gsclip.scores.self_similarity`), here with all points.
"""

from __future__ import annotations

import numpy as np

from gsclip.data.sample import Sample
from gsclip.scores.prediction import Prediction
from gsclip.scores.self_similarity import Comparison, unlikeness
from gsclip.scores.smoothing import smooth_scores

ALL_POINTS = Comparison(radius=8.0, distant=20.0)
TOP_SHARE = 0.01  # of the points: their mean is the object score


def self_similarity(sample: Sample, smoothing: float) -> Prediction:
    """Score one object by FPFH against its own distant places.

    Args:
        sample: the object.
        smoothing: see :func:`~gsclip.scores.smoothing.smooth_scores`.

    Returns:
        Scores in [0, 1]: distances in parts of the largest that two histograms can have. There are no views.
    """
    smooth = smooth_scores(sample, unlikeness(sample, ALL_POINTS), smoothing)
    top = np.sort(smooth)[-max(1, round(TOP_SHARE * len(smooth))) :]
    empty = np.empty(0, np.float32)
    return Prediction(float(top.mean()), smooth, empty, empty.reshape(0, 0, 0))
