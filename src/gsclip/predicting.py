"""Scores a whole data set from its packs, one pack of predictions a category."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from gsclip.detector import Detector
from gsclip.monitoring.rows import sample_row
from gsclip.packs import IndexedSample, PackFolders
from gsclip.parallel import FEW, ordered_map
from gsclip.scores.prediction import Prediction
from gsclip.storage import write_pack


def write_predictions(
    detector: Detector, index: pd.DataFrame, folders: PackFolders, folder: Path
) -> list[dict[str, Any]]:
    """Write ``<category>.h5`` with the :class:`~gsclip.scores.prediction.Prediction` of every sample of an index.

    All cores work, or the workers of a scheduler (:mod:`gsclip.parallel`); the bytes are the same.

    Args:
        detector: the model.
        index: samples to score, columns of :data:`~gsclip.monitoring.rows.IDENTITY_COLUMNS`.
        folders: of their packs.
        folder: where the packs of predictions go.

    Returns:
        Rows of ``samples.csv``, category by category.
    """
    rows: list[dict[str, Any]] = []
    scored = ordered_map(functools.partial(_score, detector), folders.read_all(index), few=FEW)
    with tqdm(total=len(index), desc="predict", unit="sample", mininterval=5) as progress:
        for category, members in index.groupby("category", sort=True):
            with write_pack(folder / f"{category}.h5") as predictions:
                for name in members["name"]:
                    prediction, row = next(scored)
                    predictions.add(name, prediction)
                    rows.append(row)
                    progress.update()
    return rows


def _score(detector: Detector, task: IndexedSample) -> tuple[Prediction, dict[str, Any]]:
    identity, packed = task
    views, tokens = detector.own(packed.views, packed.tokens)
    prediction = detector.predict(packed.sample, views, tokens, packed.grouping)
    row = sample_row(identity, packed.sample, views, tokens, prediction, detector.config.threshold)
    return prediction, row
