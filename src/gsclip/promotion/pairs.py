"""Reads predictions of two models for the same samples, one category at a time, into what the gate compares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from gsclip.data.sample import Sample
from gsclip.metrics.sample_scores import StoredSamples
from gsclip.promotion.gate import CategoryScores, ModelScores, model_scores
from gsclip.scores.prediction import Prediction
from gsclip.storage import Pack


def paired_scores(samples: pd.DataFrame, prepared: Path, champion: Path, challenger: Path) -> Iterator[CategoryScores]:
    """Scores of both models, by category.

    Args:
        samples: columns ``name``, ``category``, ``defect``, ``label`` of the samples that count.
        prepared: folder of ``<category>.h5``, packs of samples.
        champion: folder of ``<category>.h5``, packs of predictions of the model in use.
        challenger: likewise, of the new one.

    Raises:
        InputError: a pack or a sample in it is missing, or does not fit.
    """
    for category, rows in samples.groupby("category", sort=True):
        with Pack(prepared / f"{category}.h5", Sample) as pack:
            first = _scores(rows, pack, champion / f"{category}.h5")
            second = _scores(rows, pack, challenger / f"{category}.h5")
        labels, points, scores = first
        yield CategoryScores(str(category), labels, points, scores, second[2])


def _scores(rows: pd.DataFrame, pack: Pack[Sample], predictions: Path) -> tuple[np.ndarray, np.ndarray, ModelScores]:
    labels, objects, masks, points = [], [], [], []
    with Pack(predictions, Prediction) as predicted:
        for sample in StoredSamples(rows, lambda _: (pack, predicted)):
            known = sample.point_regions >= 0
            labels.append(sample.label)
            objects.append(sample.object_score)
            masks.append(sample.point_mask[known])
            points.append(np.asarray(sample.point_scores, dtype=np.float32)[known])
    counts = np.array([np.bincount(mask, minlength=2) for mask in masks])
    return np.array(labels), counts, model_scores(np.array(objects), masks, points)
