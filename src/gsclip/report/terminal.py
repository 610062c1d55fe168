"""The table of results for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from gsclip.data.checking import Checked
from gsclip.metrics.table import HEADLINE_METRICS, SOURCES


def results_table(metrics: Mapping[str, Any]) -> Table:
    """Mean over categories and each category, in per cent; below the means, what chance and ground truth get.

    Args:
        metrics: as :func:`gsclip.metrics.table.evaluate_samples` returns it.
    """
    data = metrics["data"]
    title = f"{data['dataset']}: {data['samples']} samples, {data['defective']} defective (per cent)"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for metric in HEADLINE_METRICS:
        table.add_column(metric, justify="right")
    for category, figures in metrics["categories"].items():
        table.add_row(category, *(_per_cent(figures[metric]["ours"]) for metric in HEADLINE_METRICS))
    table.add_section()
    for source, name in zip(SOURCES, ("mean", "random scores", "oracle"), strict=True):
        style = "bold" if source == "ours" else "dim"
        table.add_row(name, *(_per_cent(metrics["mean"][metric][source]) for metric in HEADLINE_METRICS), style=style)
    low, high = metrics["o_auroc_interval"]
    table.caption = f"o_auroc: 95 % interval of the mean {_per_cent(low)} to {_per_cent(high)}"
    table.caption_justify = "left"
    return table


def checked_tables(checked: Checked) -> list[RenderableType]:
    """What the checks of a data set found: problems, where there are some, numbers of scans, assumptions."""
    parts: list[RenderableType] = []
    if not checked.problems.empty:
        title = f"{len(checked.problems)} problems of {checked.problems['name'].nunique()} scans"
        parts.append(_text_table(title, checked.problems))
    parts.append(_text_table("scans", checked.counts, right=("found", "usable", "official")))
    parts.append("\n".join(escape(f"assumed: {line}") for line in checked.assumptions) or "nothing assumed")
    if checked.problems.empty:
        parts.append("no problems")
    return parts


def _text_table(title: str, frame: pd.DataFrame, right: Sequence[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in frame.columns:
        table.add_column(str(column), justify="right" if column in right else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*("–" if pd.isna(value) else escape(str(value)) for value in row))
    return table


def _per_cent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
