"""What is set after training, on auxiliary samples: both thresholds and the range of colours of heat maps."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from gsclip.detector import Detector
from gsclip.errors import GsclipError
from gsclip.metrics.threshold import ScoreHistogram, best_f1_threshold
from gsclip.packs import IndexedSample, PackFolders
from gsclip.parallel import FEW, ordered_map


def calibrate(detector: Detector, folders: PackFolders, index: pd.DataFrame, names: Sequence[str]) -> Detector:
    """Return the detector with thresholds and colours from the samples of these names.

    The threshold of the object score is that of best F1 over the samples. The threshold of the point scores is that of
    best F1 over all points of all samples together, so that a sample counts by its number of points; samples without
    ground truth are left out, and without one defective point there is none. Of a thinned cloud all points of the scan
    count, each with its own ground truth and the score of the nearest point that was kept, as where the model is used
    and evaluated. Memory holds a few samples at a time. Colours range from the median of the point scores of a typical
    sample to the highest of all samples.

    Raises:
        GsclipError: when they are all normal or all abnormal.
    """
    chosen = index[index["name"].isin(names)]
    if chosen["label"].nunique() < 2:
        raise GsclipError("calibration needs normal and defective auxiliary samples; see prepare.calibration_samples")
    scores: list[float] = []
    labels: list[int] = []
    medians: list[float] = []
    highest = 0.0
    points = ScoreHistogram()
    found = ordered_map(functools.partial(_scores, detector), folders.read_all(chosen), few=FEW)
    for label, score in tqdm(found, total=len(chosen), desc="calibrate", unit="sample", mininterval=5):
        if score.mask is not None:
            points.add(score.mask, score.points)
        scores.append(score.object)
        medians.append(float(np.median(score.points)))
        highest = max(highest, float(score.points.max()))
        labels.append(label)
    threshold, _ = best_f1_threshold(np.array(labels), np.array(scores))
    best_of_points = points.best_f1_threshold()
    low = float(np.median(medians))
    span = (low, highest) if low < highest else (0.0, 1.0)
    config = detector.config.model_copy(
        update={
            "threshold": threshold,
            "point_threshold": None if best_of_points is None else best_of_points[0],
            "score_range": span,
        }
    )
    return Detector(config, detector.backbone, detector.prompts, detector.depth_stream, detector.refinement)


class _Scores(NamedTuple):
    """Of one sample: scores of object and points, ground truth of the points where it is known."""

    object: float
    points: np.ndarray
    mask: np.ndarray | None


def _scores(detector: Detector, task: IndexedSample) -> tuple[int, _Scores]:
    row, packed = task
    sample, prediction = packed.sample, detector.predict(*packed)
    mask = sample.mask if sample.nearest is None else sample.scan_mask
    return row["label"], _Scores(prediction.object_score, sample.spread(prediction.point_scores), mask)
