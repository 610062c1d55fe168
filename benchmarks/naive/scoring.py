"""One object scored view by view and point by point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch.nn import functional

from benchmarks.naive.encoder import naive_text_features, naive_tokens
from benchmarks.naive.grouping import naive_grouping
from gsclip.data.geometry import normalise_unit_sphere
from gsclip.data.sample import Sample
from gsclip.detector import Detector
from gsclip.features.images import depth_images, rendered_images
from gsclip.prompts.geometry_prompts import GeometryAwarePrompts
from gsclip.prompts.grouping import CLOUD_SEED
from gsclip.scores.similarity import TEMPERATURE
from gsclip.scores.smoothing import smooth_scores
from gsclip.views.views import Views


@dataclass(frozen=True)
class NaiveScores:
    """Scores of one object; as of :class:`gsclip.scores.prediction.Prediction`."""

    object_score: float
    point_scores: np.ndarray
    view_probabilities: np.ndarray


@torch.no_grad()
def naive_scores(detector: Detector, sample: Sample, views: Views) -> NaiveScores:
    """Score an object with the modules of a detector that has learned prompts and a depth stream.

    Views are encoded one by one and in float32, groupings and prompts as in :mod:`benchmarks.naive`, and each view's
    map is carried to the points in a Python loop. Colours are not read.
    """
    prompts, depth_stream, srm = detector.prompts, detector.depth_stream, detector.refinement
    if depth_stream is None or srm is None or not isinstance(prompts, GeometryAwarePrompts):
        raise ValueError("the naive scores need learned prompts and a depth stream")
    config = detector.config.features
    layers = {"local_blocks": config.local_blocks, "local_layers": config.local_layers}
    size = views.rendered.shape[-1]
    cloud = torch.from_numpy(_cloud(sample.points, config.cloud_points))[None]
    text = naive_text_features(prompts, detector.backbone.clip, naive_grouping(cloud))[0]
    rendered = rendered_images(views, config.rendered_encoding)
    depth = depth_images(views, config.depth_encoding)
    probabilities, maps = [], []
    for rendered_image, depth_image in zip(rendered, depth, strict=True):
        first = naive_tokens(detector.backbone, detector.backbone.clip.visual, rendered_image[None], **layers)
        second = naive_tokens(detector.backbone, depth_stream, depth_image[None], **layers)
        refined = srm(first[None], second[None])[0, 0]
        abnormal = (refined @ text.T / TEMPERATURE).softmax(-1)[:, 1]
        probabilities.append(float(abnormal[0]))
        side = round((len(abnormal) - 1) ** 0.5)
        patches = abnormal[1:].view(1, 1, side, side)
        large = functional.interpolate(patches, size=(size, size), mode="bilinear", align_corners=False)
        maps.append(large[0, 0].numpy())
    scores = _carry(maps, views)
    known = ~np.isnan(scores)
    if not known.all():
        _, nearest = cKDTree(sample.points[known]).query(sample.points[~known])
        scores[~known] = scores[known][nearest]
    predict = detector.config.predict
    scores = smooth_scores(sample, scores, predict.smoothing)
    object_score = predict.map_weight * float(scores.max()) + (1 - predict.map_weight) * float(np.mean(probabilities))
    return NaiveScores(object_score, scores, np.array(probabilities, np.float32))


def _carry(maps: list[np.ndarray], views: Views) -> np.ndarray:
    """(n,) float32 mean over the views that see each point, point by point; NaN where none does."""
    scores = np.full(views.pixels.shape[1], np.nan, np.float32)
    for point in range(len(scores)):
        seen = []
        for view, large in enumerate(maps):
            if views.visible[view, point]:
                row, column = views.pixels[view, point]
                seen.append(large[row, column])
        if seen:
            scores[point] = np.mean(seen)
    return scores


def _cloud(points: np.ndarray, count: int) -> np.ndarray:
    """(count, 3) the points that ours chooses, in the unit sphere."""
    random = np.random.default_rng(CLOUD_SEED)
    chosen = random.choice(len(points), count, replace=len(points) < count)
    return normalise_unit_sphere(points[np.sort(chosen)])
