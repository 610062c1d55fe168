"""Reads what the page needs from the files of a run: tables whole, packs one record at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from gsclip.data.sample import Sample
from gsclip.errors import InputError, one_line
from gsclip.report.content import STAGE_NAMES, Run
from gsclip.report.gallery import GalleryItem, add_localisation, evaluated_rows
from gsclip.scores.prediction import Prediction, scored_views
from gsclip.storage import Pack
from gsclip.views.views import Views

REMEDY = "run `dvc repro` to make it again"
SAMPLES_COLUMNS = ("name", "category", "defect", "label", "object_score")
TEXT_COLUMNS = ("name", "dataset", "category", "split", "defect", "role")
REJECTED_COLUMNS = ("name", "problem")
REJECTED_TEXT = (*REJECTED_COLUMNS, "path", "check", "remedy")
NONE_REJECTED = pd.DataFrame(columns=list(REJECTED_COLUMNS))


@dataclass(frozen=True)
class RunFiles:
    """Where the parts of a run lie.

    Attributes:
        metrics: ``metrics.json``.
        predictions: folder of ``samples.csv`` and of one pack of predictions a category.
        prepared: folder of one pack of samples a category, and of ``rejected.csv`` where there is one.
        views: folder of one pack of views a category.
        curves: folder of the learning curves; those that are missing are left out.
        cross: ``cross.json``; may be missing.
    """

    metrics: Path
    predictions: Path
    prepared: Path
    views: Path
    curves: Path
    cross: Path

    @classmethod
    def of(cls, workspace: str | Path) -> RunFiles:
        """Files of the pipeline below its folder."""
        root = Path(workspace)
        return cls(
            metrics=root / "outputs" / "metrics.json",
            predictions=root / "outputs" / "predictions",
            prepared=root / "data" / "prepared",
            views=root / "data" / "views",
            curves=root / "outputs" / "curves",
            cross=root / "outputs" / "cross.json",
        )


def read_run(files: RunFiles, parameters: Mapping[str, Mapping[str, Any]] | None = None) -> Run:
    """Read a run.

    Args:
        files: where it lies.
        parameters: values by group and name.

    Raises:
        InputError: a file is missing or broken, or a table lacks a column.
    """
    samples = read_samples(files.predictions / "samples.csv")
    rejected = files.prepared / "rejected.csv"
    learning = {stage: files.curves / f"{stage}.csv" for stage in STAGE_NAMES}
    return Run(
        metrics=_read_metrics(files.metrics),
        samples=add_localisation(samples, _localised(files, evaluated_rows(samples))),
        rejected=_read_table(rejected, REJECTED_COLUMNS, text=REJECTED_TEXT)
        if rejected.is_file()
        else NONE_REJECTED,
        learning={stage: _read_table(path, ("epoch", "loss")) for stage, path in learning.items() if path.is_file()},
        parameters=parameters or {},
        cross=_read_cross(files.cross),
    )


def read_samples(path: str | Path) -> pd.DataFrame:
    """Read ``samples.csv``: names stay text (``NA`` and ``007`` too), empty labels and scores become missing.

    Raises:
        InputError: the file is missing or broken, or lacks a column.
    """
    return _read_table(Path(path), SAMPLES_COLUMNS, text=TEXT_COLUMNS)


@dataclass(frozen=True)
class PackReader:
    """Reads the samples to be shown from the packs of a run; an :data:`~gsclip.report.gallery.ItemReader`."""

    files: RunFiles

    def __call__(self, row: Mapping[str, Any]) -> GalleryItem:
        """Read sample, views and prediction of one row of ``samples.csv``.

        Raises:
            InputError: a pack or the record is missing.
        """
        file, name = f"{row['category']}.h5", row["name"]
        with (
            Pack(self.files.prepared / file, Sample) as samples,
            Pack(self.files.views / file, Views) as views,
            Pack(self.files.predictions / file, Prediction) as predictions,
        ):
            prediction = predictions[name]
            return GalleryItem(samples[name], scored_views(views[name], prediction), prediction, row)


def _localised(files: RunFiles, samples: pd.DataFrame) -> Iterator[tuple[str, np.ndarray | None, np.ndarray]]:
    """Name, mask and point scores of the defective samples."""
    for category, rows in samples[samples["label"] == 1].groupby("category", sort=True):
        file = f"{category}.h5"
        with (
            Pack(files.prepared / file, Sample) as prepared,
            Pack(files.predictions / file, Prediction) as predictions,
        ):
            for name in rows["name"]:
                mask = prepared.read(name, ["mask"]).mask
                yield name, mask, predictions.read(name, ["point_scores"]).point_scores


def _read_cross(path: Path) -> dict[str, Any] | None:
    """Metrics of the cross-data-set evaluation; ``None`` where there was none."""
    if not path.is_file() or "skipped" in _read_json(path):
        return None
    return _read_metrics(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"cannot be read ({one_line(error, None)})", REMEDY) from error
    return dict(content) if isinstance(content, dict) else {}


def _read_metrics(path: Path) -> dict[str, Any]:
    metrics = _read_json(path)
    missing = {"data", "mean", "categories", "defects"} - set(metrics)
    if missing:
        raise InputError(path, f"lacks {', '.join(sorted(missing))}", REMEDY)
    return metrics


def _read_table(path: Path, columns: tuple[str, ...], text: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a table that has these columns, all of them numbers but those of ``text``."""
    try:
        # Only an empty cell is a missing value: a category may be called NA.
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys(text, str),
            keep_default_na=False,
            na_values=[""],
            float_precision="round_trip",
        )
    except (OSError, ValueError) as error:
        raise InputError(path, f"cannot be read ({one_line(error, None)})", REMEDY) from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(path, f"lacks the column {', '.join(missing)}", REMEDY)
    numbers = [column for column in columns if column not in text and len(table)]
    broken = [column for column in numbers if not is_numeric_dtype(table[column])]
    if broken:
        raise InputError(path, f"has text in the column {', '.join(broken)}", REMEDY)
    return table.fillna(dict.fromkeys(text, ""))
