"""From refined tokens and prompts to the prediction of one object (method, section 6)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from gsclip.axes import ABNORMAL
from gsclip.data.sample import Sample
from gsclip.scores.back_projection import back_project
from gsclip.scores.prediction import Prediction
from gsclip.scores.similarity import class_logits, enlarge_maps, patch_maps
from gsclip.scores.smoothing import smooth_scores
from gsclip.views.views import Views


@torch.no_grad()
def score_views(
    sample: Sample,
    views: Views,
    tokens: Float[Tensor, "v t d"],
    prompts: Float[Tensor, "2 d"],
    *,
    smoothing: float,
    map_weight: float,
) -> Prediction:
    """Score one object.

    Args:
        sample: its points.
        views: its views; the correspondence of points and pixels is read.
        tokens: G of every view, class token first.
        prompts: normal and abnormal text feature of this object.
        smoothing: see :func:`~gsclip.scores.smoothing.smooth_scores`.
        map_weight: weight of the highest point score in the object score; the rest goes to the mean of the views
            (0.5 in the paper).
    """
    probabilities = class_logits(tokens[None], prompts[None]).softmax(-1)
    view_probabilities = probabilities[0, :, 0, ABNORMAL]
    view_maps = patch_maps(probabilities[:, :, 1:])[0, :, ABNORMAL]
    scores = score_points(sample, views, view_maps, smoothing=smoothing)
    object_score = map_weight * float(scores.max()) + (1 - map_weight) * float(view_probabilities.mean())
    return Prediction(
        object_score=object_score,
        point_scores=scores,
        view_probabilities=view_probabilities.numpy(),
        view_maps=view_maps.numpy(),
    )


def score_points(
    sample: Sample, views: Views, view_maps: Float[Tensor, "v rows columns"], *, smoothing: float
) -> np.ndarray:
    """(n,) float32 point scores: mean over the views that see the point, then smoothed over neighbours.

    A point seen by no view takes the score of the nearest seen point.
    """
    large = enlarge_maps(view_maps[None], views.rendered.shape[-1])[0]
    mean, seen = back_project(large, torch.from_numpy(views.pixels), torch.from_numpy(views.visible))
    scores, known = mean.numpy(), seen.numpy()
    if not known.all():
        _, nearest = cKDTree(sample.points[known]).query(sample.points[~known])
        scores[~known] = scores[known][nearest]
    return smooth_scores(sample, scores, smoothing)
