"""What the detector says about one part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gsclip.views.views import Views


@dataclass(frozen=True)
class Prediction:
    """Scores of one sample; all are probabilities in [0, 1], higher is more anomalous.

    Attributes:
        object_score: one score for the part.
        point_scores: (n,) float32, one score for every point of the sample, in its order.
        view_probabilities: (v,) float32, probability of a defect in each view.
        view_maps: (v, rows, columns) float32 abnormal probability of each patch of each view; the anomaly map
            of a view is its bilinear enlargement to the size of the image.
        places: (v,) int64 places of the views among those of the model; ``None``: all of them, in their order.
    """

    object_score: float
    point_scores: np.ndarray
    view_probabilities: np.ndarray
    view_maps: np.ndarray
    places: np.ndarray | None = None


def scored_places(prediction: Prediction) -> list[int]:
    """Places of the views of a prediction in the list of cameras."""
    return list(range(len(prediction.view_maps))) if prediction.places is None else prediction.places.tolist()


def scored_views(views: Views, prediction: Prediction) -> Views:
    """The views that a prediction is about, out of all of the model's or of them alone: packs hold either."""
    if prediction.places is None or len(views.rendered) == len(prediction.places):
        return views
    return views.select(prediction.places.tolist())
