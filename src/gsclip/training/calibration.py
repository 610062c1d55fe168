"""The decision threshold: best F1 of the object scores of auxiliary samples."""

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
    """Return the detector with a threshold from the samples of these names.

    Raises:
        GsclipError: when they are all normal or all abnormal.
    """
    chosen = index[index["name"].isin(names)]
    if chosen["label"].nunique() < 2:
        raise GsclipError("calibration needs normal and defective auxiliary samples; see prepare.calibration_samples")
    scores: list[float] = []
    labels: list[int] = []
    progress = tqdm(total=len(chosen), desc="calibrate", mininterval=5)
    for category, rows in chosen.groupby("category"):
        with folders.open(str(category)) as packs:
            for name, label in zip(rows["name"], rows["label"], strict=True):
                scores.append(detector.predict(*packs.read(name)).object_score)
                labels.append(label)
                progress.update()
    progress.close()
    threshold, _ = best_f1_threshold(np.array(labels), np.array(scores))
    config = detector.config.model_copy(update={"threshold": threshold})
    return Detector(config, detector.backbone, detector.prompts, detector.depth_stream, detector.refinement)
