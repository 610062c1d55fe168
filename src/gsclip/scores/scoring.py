"""From refined tokens and prompts to the prediction of one object (method, section 6)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree
from torch import Tensor

from gsclip.axes import ABNORMAL
from gsclip.data.sample import Sample
from gsclip.params import MapScore
from gsclip.scores.back_projection import back_project
from gsclip.scores.prediction import Prediction
from gsclip.scores.self_similarity import raised_scores
from gsclip.scores.similarity import class_logits, enlarge_maps, patch_maps
from gsclip.scores.smoothing import smooth_scores
from gsclip.views.views import Views

HIGHEST_PATCHES = 4  # of each view, whose mean is the view's share of ``highest_patches``


@torch.no_grad()
def score_views(
    sample: Sample,
    views: Views,
    tokens: Float[Tensor, "v t d"],
    prompts: Float[Tensor, "2 d"],
    *,
    smoothing: float,
    map_weight: float,
    map_score: MapScore = "highest_point",
    unlike: Float[np.ndarray, " n"] | None = None,
    self_similarity: float = 0.0,
    color_tokens: Float[Tensor, "1 t d"] | None = None,
    kept: Bool[Tensor, "v p"] | None = None,
) -> Prediction:
    """Score one object.

    Args:
        sample: its points.
        views: its views; the correspondence of points and pixels is read.
        tokens: G of every view, class token first.
        prompts: normal and abnormal text feature of this object.
        smoothing: see :func:`~gsclip.scores.smoothing.smooth_scores`.
        map_weight: weight of the maps in the object score; the rest goes to the mean of the views (0.5 in the paper).
        map_score: what the maps say of the object: ``highest_point``, the highest point score (the paper's), or
            ``highest_patches``, the mean of the :data:`HIGHEST_PATCHES` highest patches of each view, averaged over
            the views. A maximum over thousands of points is that of the noise where there is no defect.
        unlike: of every point (:func:`~gsclip.scores.self_similarity.smooth_unlikeness`); ``None`` with exponent 0.
        self_similarity: its exponent, see :func:`~gsclip.scores.self_similarity.raised_scores`; ``highest_point`` is
            that of the raised scores.
        color_tokens: tokens of the picture that the first camera sees in the scan's own colours, class token first.
            With them the scores are multimodal (method, section 6): point scores are the mean of those of all views
            and of this picture, which also counts as one more view in the object score.
        kept: patches that were encoded, see :func:`~gsclip.features.images.part_patches`; in the maps the others get
            the lowest value of their view. ``None``: all.

    Raises:
        ValueError: when there is an exponent without ``unlike``.
    """
    if self_similarity and unlike is None:
        raise ValueError("self_similarity needs the unlikeness of every point")
    streams = [_stream_scores(sample, views, tokens, prompts, smoothing, kept)]
    if color_tokens is not None:
        streams.append(_stream_scores(sample, views.select([0]), color_tokens, prompts, smoothing, None))
    all_scores, all_probabilities, all_maps = zip(*streams, strict=True)
    mean = np.mean(all_scores, axis=0)
    point_scores = mean if unlike is None else raised_scores(mean, unlike, exponent=self_similarity)
    probabilities, maps = np.concatenate(all_probabilities), np.concatenate(all_maps)
    return Prediction(
        object_score=_object_score(point_scores, probabilities, maps, map_weight, map_score),
        point_scores=point_scores,
        view_probabilities=all_probabilities[0],
        view_maps=all_maps[0],
    )


def _stream_scores(
    sample: Sample,
    views: Views,
    tokens: Float[Tensor, "v t d"],
    prompts: Float[Tensor, "2 d"],
    smoothing: float,
    kept: Bool[Tensor, "v p"] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n,) scores of the points, (v,) probabilities of the views and their (v, rows, columns) maps."""
    probabilities = class_logits(tokens[None], prompts[None]).softmax(-1)
    maps = patch_maps(probabilities[:, :, 1:])[0, :, ABNORMAL]
    if kept is not None:
        maps = _without_background(maps, kept.view_as(maps))
    scores = score_points(sample, views, maps, smoothing=smoothing)
    return scores, probabilities[0, :, 0, ABNORMAL].numpy(), maps.numpy()


def _without_background(
    maps: Float[Tensor, "v rows columns"], kept: Bool[Tensor, "v rows columns"]
) -> Float[Tensor, "v rows columns"]:
    lowest = maps.masked_fill(~kept, torch.inf).amin((1, 2), keepdim=True)
    return torch.where(kept, maps, lowest.nan_to_num(posinf=0.0))  # of a view that does not see the part: 0


def _object_score(
    point_scores: np.ndarray, probabilities: np.ndarray, maps: np.ndarray, map_weight: float, map_score: MapScore
) -> float:
    if map_score == "highest_point":
        highest = float(point_scores.max())
    else:
        patches = maps.reshape(len(maps), -1)
        highest = float(np.sort(patches, axis=1)[:, -HIGHEST_PATCHES:].mean(axis=1).mean())
    return map_weight * highest + (1 - map_weight) * float(probabilities.mean())


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
