"""Drift: whether the scans of a window, or their scores, still look like those of a reference.

Both windows are tables in the form of ``samples.csv``. Compared are the inputs, the scores and the embedding of each
sample; without labels nothing follows about accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gsclip.errors import InputError, one_line
from gsclip.monitoring.columns import EMBEDDING, EMBEDDING_COLUMNS, VALUE_COLUMNS
from gsclip.monitoring.distances import (
    FALSE_ALARM_RATE,
    SPLITS,
    calibrate_thresholds,
    embedding_distance,
    value_distance,
)
from gsclip.storage import write_json

SMALLEST_WINDOW = 10
PAGE_NAME = "drift.html"
RESULT_NAME = "drift.json"
SCOPE = "inputs, scores and embeddings; without labels nothing is said about accuracy"


@dataclass(frozen=True)
class ColumnDrift:
    """Comparison of one column, or of the embedding.

    Attributes:
        column: its name; ``embedding`` stands for all columns of the embedding together.
        distance: see :mod:`gsclip.monitoring.distances`; 0 where both windows are alike.
        threshold: distance above which the column has drifted.
        reference_mean: mean over the reference, in the unit of the column; ``None`` for the embedding.
        current_mean: mean over the current window.
    """

    column: str
    distance: float
    threshold: float
    reference_mean: float | None
    current_mean: float | None

    @property
    def drifted(self) -> bool:
        """Whether the distance exceeds what chance explains."""
        return self.distance > self.threshold


@dataclass(frozen=True)
class DriftResult:
    """Comparison of two windows.

    Attributes:
        columns: one entry a column, in the order of ``samples.csv``, the embedding last.
        reference_rows: number of samples of the reference.
        current_rows: number of samples of the current window.
        notes: what a reader of the page should know, a sentence each.
        false_alarm_rate: of the whole comparison.
        splits: random splits of the reference that the thresholds come from.
    """

    columns: tuple[ColumnDrift, ...]
    reference_rows: int
    current_rows: int
    notes: tuple[str, ...] = ()
    false_alarm_rate: float = FALSE_ALARM_RATE
    splits: int = SPLITS

    @property
    def drifted_columns(self) -> tuple[str, ...]:
        """Columns that have drifted, the farthest beyond its threshold first."""
        drifted = [column for column in self.columns if column.drifted]
        return tuple(
            column.column for column in sorted(drifted, key=lambda column: -column.distance / column.threshold)
        )

    @property
    def drifted(self) -> bool:
        """Whether any column has drifted; by chance alone at the false alarm rate."""
        return bool(self.drifted_columns)

    @property
    def verdict(self) -> str:
        """The result on one line."""
        windows = f"{self.current_rows} samples against {self.reference_rows} of the reference"
        if not self.drifted:
            return f"no drift: {windows}, none of {len(self.columns)} columns beyond its threshold"
        names = ", ".join(self.drifted_columns)
        return f"drift: {windows}, {len(self.drifted_columns)} of {len(self.columns)} columns: {names}"


def compare_files(reference: str | Path, current: str | Path, folder: str | Path) -> str:
    """Compare two files in the form of ``samples.csv``; write page and result; return the verdict on one line.

    Raises:
        InputError: see :func:`read_samples` and :func:`drift_report`.
    """
    names = (str(reference), str(current))
    return drift_report(read_samples(reference), read_samples(current), folder, names=names).verdict


def read_samples(path: str | Path) -> pd.DataFrame:
    """Read a ``samples.csv``.

    Raises:
        InputError: the file is missing or no table.
    """
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        problem = f"cannot be read as a table ({one_line(error, None)})"
        raise InputError(path, problem, "give the samples.csv that `gsclip score` writes") from error


def drift_report(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    folder: str | Path,
    *,
    names: tuple[str, str] = ("reference", "current"),
) -> DriftResult:
    """Compare two windows and write ``drift.html`` (self-contained, by Evidently) and ``drift.json``.

    The bytes of both depend on the two windows alone.

    Args:
        reference: samples known to be in order, at least 10: of the same parts and the same model as ``current``.
        current: samples to judge, at least 10.
        folder: where the two files go; it need not exist.
        names: what errors call the two windows.

    Raises:
        InputError: a window lacks columns, has too few rows, or values that are no finite numbers.
    """
    reference, current = (checked(frame, name) for frame, name in zip((reference, current), names, strict=True))
    result = write_drift_page(reference, current, compare_windows(reference, current), Path(folder) / PAGE_NAME)
    write_json(Path(folder) / RESULT_NAME, as_json(result))
    return result


def write_drift_page(reference: pd.DataFrame, current: pd.DataFrame, result: DriftResult, path: Path) -> DriftResult:
    """Write Evidently's page of a comparison.

    Returns:
        The comparison, with a note where the page lacks the map of the embeddings.
    """
    from gsclip.monitoring.page import map_obstacle, write_page

    obstacle = map_obstacle(reference, current)
    thresholds = {column.column: column.threshold for column in result.columns}
    write_page(reference, current, thresholds, path, embedding_map=obstacle is None)
    return result if obstacle is None else replace(result, notes=(*result.notes, obstacle))


def compare_windows(
    reference: pd.DataFrame, current: pd.DataFrame, thresholds: Mapping[str, float] | None = None
) -> DriftResult:
    """Compare two windows of finite numbers; nothing is written.

    Args:
        reference: monitored columns.
        current: the same columns.
        thresholds: distance above which a column has drifted, by the names of the columns to compare (``embedding``
            for the embedding); by default all, with thresholds from the reference.
    """
    if thresholds is None:
        thresholds = window_thresholds(reference, len(current))
    columns = [
        ColumnDrift(
            column=name,
            distance=value_distance(reference[name].to_numpy(), current[name].to_numpy()),
            threshold=thresholds[name],
            reference_mean=float(reference[name].mean()),
            current_mean=float(current[name].mean()),
        )
        for name in VALUE_COLUMNS
        if name in thresholds
    ]
    if EMBEDDING in thresholds:
        names = list(EMBEDDING_COLUMNS)
        distance = embedding_distance(reference[names].to_numpy(), current[names].to_numpy())
        columns.append(ColumnDrift(EMBEDDING, distance, thresholds[EMBEDDING], None, None))
    return DriftResult(tuple(columns), len(reference), len(current))


def window_thresholds(
    reference: pd.DataFrame, window: int, *, rate: float = FALSE_ALARM_RATE, splits: int = SPLITS
) -> dict[str, float]:
    """Thresholds of all columns, by name, for windows of one size: see :func:`calibrate_thresholds`."""
    values, embeddings = (
        reference[list(names)].to_numpy(np.float64) for names in (VALUE_COLUMNS, EMBEDDING_COLUMNS)
    )
    found, embedding = calibrate_thresholds(values, embeddings, window, rate=rate, splits=splits)
    return {**dict(zip(VALUE_COLUMNS, found.tolist(), strict=True)), EMBEDDING: embedding}


def as_json(result: DriftResult) -> dict[str, Any]:
    """Everything about a comparison, as ``drift.json`` holds it."""
    return {
        "drifted": result.drifted,
        "verdict": result.verdict,
        "drifted_columns": result.drifted_columns,
        "counts": {
            "reference": result.reference_rows,
            "current": result.current_rows,
            "columns": len(result.columns),
            "drifted": len(result.drifted_columns),
        },
        "method": {
            "columns": "Wasserstein distance in standard deviations of the reference",
            "embedding": "distance of the mean embeddings in units of the reference's spread",
            "thresholds": f"{result.splits} random splits of the reference",
            "false_alarm_rate": result.false_alarm_rate,
            "scope": SCOPE,
        },
        "columns": [
            {
                "column": column.column,
                "distance": column.distance,
                "threshold": column.threshold,
                "drifted": column.drifted,
                "reference_mean": column.reference_mean,
                "current_mean": column.current_mean,
            }
            for column in result.columns
        ],
        "notes": result.notes,
    }


def checked(frame: pd.DataFrame, name: str, smallest: int = SMALLEST_WINDOW) -> pd.DataFrame:
    """Monitored columns of a window as float64, once they are known to be there and finite.

    Args:
        frame: rows in the form of ``samples.csv``.
        name: what errors call them.
        smallest: number of rows that a window needs.

    Raises:
        InputError: columns or rows are missing, or values are no finite numbers.
    """
    wanted = [*VALUE_COLUMNS, *EMBEDDING_COLUMNS]
    missing = [column for column in wanted if column not in frame]
    if missing:
        raise InputError(name, f"lacks columns: {_list(missing)}", "give a samples.csv of this version of gsclip")
    if len(frame) < smallest:
        problem = f"holds {len(frame)} samples, a comparison needs {smallest}"
        raise InputError(name, problem, "collect more scans, or join windows")
    values = frame[wanted].apply(pd.to_numeric, errors="coerce").astype(np.float64).reset_index(drop=True)
    finite = np.isfinite(values.to_numpy())
    if not finite.all():
        bad = [column for column, good in zip(wanted, finite.all(axis=0), strict=True) if not good]
        row = int(np.argmin(finite.all(axis=1)))
        problem = f"row {row + 1} and perhaps more: no finite number in {_list(bad)}"
        raise InputError(name, problem, "score the scans again, or remove those rows")
    return values


def _list(names: list[str], most: int = 5) -> str:
    """The first names, and how many there are beyond them."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
