"""What is set after training, on auxiliary samples: both thresholds and the range of colours of heat maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from gsclip.detector import Detector
from gsclip.errors import GsclipError
from gsclip.metrics.threshold import ScoreHistogram, best_f1_threshold
from gsclip.packs import PackFolders


def calibrate(detector: Detector, folders: PackFolders, index: pd.DataFrame, names: Sequence[str]) -> Detector:
    """Return the detector with thresholds and colours from the samples of these names.

    The threshold of the object score is that of best F1 over the samples. The threshold of the point scores is that of
    best F1 over all points of all samples together, so that a sample counts by its number of points; samples without
    ground truth are left out, and without one defective point there is none. Of a thinned cloud all points of the scan
    count, each with its own ground truth and the score of the nearest point that was kept, as where the model is used
    and evaluated. Memory holds one sample at a time. Colours range from the median of the point scores of a typical
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
    progress = tqdm(total=len(chosen), desc="calibrate", mininterval=5)
    for category, rows in chosen.groupby("category"):
        with folders.open(str(category)) as packs:
            for name, label in zip(rows["name"], rows["label"], strict=True):
                packed = packs.read(name)
                sample, prediction = packed.sample, detector.predict(*packed)
                point_scores = sample.spread(prediction.point_scores)
                mask = sample.mask if sample.nearest is None else sample.scan_mask
                if mask is not None:
                    points.add(mask, point_scores)
                scores.append(prediction.object_score)
                medians.append(float(np.median(point_scores)))
                highest = max(highest, float(point_scores.max()))
                labels.append(label)
                progress.update()
    progress.close()
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
