"""What is set after training, on auxiliary samples: the decision threshold and the range of colours of heat maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from gsclip.detector import Detector
from gsclip.errors import GsclipError
from gsclip.metrics.threshold import best_f1_threshold
from gsclip.packs import PackFolders


def calibrate(detector: Detector, folders: PackFolders, index: pd.DataFrame, names: Sequence[str]) -> Detector:
    """Return the detector with the threshold of best F1 over the object scores of the samples of these names.

    Colours range from the median of the point scores of a typical sample to the highest of all samples.

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
    progress = tqdm(total=len(chosen), desc="calibrate", mininterval=5)
    for category, rows in chosen.groupby("category"):
        with folders.open(str(category)) as packs:
            for name, label in zip(rows["name"], rows["label"], strict=True):
                prediction = detector.predict(*packs.read(name))
                scores.append(prediction.object_score)
                medians.append(float(np.median(prediction.point_scores)))
                highest = max(highest, float(prediction.point_scores.max()))
                labels.append(label)
                progress.update()
    progress.close()
    threshold, _ = best_f1_threshold(np.array(labels), np.array(scores))
    low = float(np.median(medians))
    span = (low, highest) if low < highest else (0.0, 1.0)
    config = detector.config.model_copy(update={"threshold": threshold, "score_range": span})
    return Detector(config, detector.backbone, detector.prompts, detector.depth_stream, detector.refinement)
