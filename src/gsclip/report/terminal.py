"""The table of results for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

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


def _per_cent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
