"""Curves of the object score as tables, for DVC's plots and for the page: all categories together, then each alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from gsclip.metrics.ranking import pr_curve_table, roc_curve_table
from gsclip.report.gallery import evaluated_rows
from gsclip.storage import write_csv

ALL = "all"
ROC_COLUMNS = ("fpr", "tpr", "category")
PR_COLUMNS = ("recall", "precision", "category")


def roc_curves(samples: pd.DataFrame) -> pd.DataFrame:
    """Receiver operating characteristics of the object scores.

    Args:
        samples: rows as in ``samples.csv``; those without a label and those training saw are left out.

    Returns:
        Columns ``fpr``, ``tpr``, ``category``; category ``all`` first, the others by name. A category with samples
        of one class only has no rows.
    """
    names = {"false_positive_rate": "fpr", "true_positive_rate": "tpr"}
    return _by_category(samples, roc_curve_table).rename(columns=names)[list(ROC_COLUMNS)]


def pr_curves(samples: pd.DataFrame) -> pd.DataFrame:
    """Precision-recall curves of the object scores: ``recall``, ``precision``, ``category``; see :func:`roc_curves`."""
    return _by_category(samples, pr_curve_table)[list(PR_COLUMNS)]


def write_curves(samples: pd.DataFrame, folder: str | Path) -> None:
    """Write ``roc.csv`` and ``pr.csv`` of the test samples to a folder; see :func:`roc_curves`."""
    write_csv(Path(folder) / "roc.csv", roc_curves(samples))
    write_csv(Path(folder) / "pr.csv", pr_curves(samples))


def _by_category(samples: pd.DataFrame, curve: Callable[[np.ndarray, np.ndarray], pd.DataFrame]) -> pd.DataFrame:
    rows = evaluated_rows(samples)
    groups = [(ALL, rows), *((str(category), members) for category, members in rows.groupby("category", sort=True))]
    tables = [
        curve(members["label"].to_numpy(), members["object_score"].to_numpy()).assign(category=category)
        for category, members in groups
    ]
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
