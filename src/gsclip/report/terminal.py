"""Results for a terminal: the table of an evaluation, and what the checks of a data set found."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.cells import cell_len
from rich.table import Table

from gsclip.data.checking import Checked
from gsclip.data.checks import REJECTED_COLUMNS
from gsclip.errors import printable
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


def checked_text(checked: Checked, width: int) -> str:
    """What the checks of a data set found: problems, where there are some, numbers of scans, assumptions, and the sum.

    Args:
        checked: see there.
        width: columns of the terminal. Sentences are wrapped between words; names, paths and tables never are.
    """
    lines: list[str] = []
    if not checked.problems.empty:
        lines.append(f"{len(checked.problems)} problems of {checked.problems['name'].nunique()} scans")
        for name, path, check, *reasons in checked.problems[list(REJECTED_COLUMNS)].astype(str).to_numpy():
            lines += [f"{name} (check: {check})", f"  {path}"]
            lines += _wrapped("; ".join(reason for reason in reasons if reason), width, "  ")
        lines.append("")
    lines += [*_columns(checked.counts, right=("found", "usable", "official")), ""]
    for assumption in checked.assumptions:
        lines += _wrapped(f"assumed: {assumption}", width)
    whole = checked.counts.drop_duplicates(["category", "split"], keep="last")  # the sums, below the kinds
    lines.append(f"{whole['usable'].sum()} of {whole['found'].sum()} scans can be used")
    missing = _missing(checked.counts)
    if missing:
        lines.append(f"not complete: {missing} scans of the official data set are not here")
    if checked.clean:
        lines.append("no problems")
    return "\n".join(lines)


def _missing(counts: pd.DataFrame) -> int:
    """How many scans an official data set has more, at least: those of one label may be too many."""
    known = counts.dropna()
    gaps = (known["official"] - known["found"]).clip(lower=0)
    return int(gaps.groupby([known["category"], known["split"]]).max().sum())


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Lines of at most ``width`` columns, unless a word is longer."""
    return textwrap.wrap(
        text,
        max(width, len(indent) + 1),
        initial_indent=indent,
        subsequent_indent=indent or "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _columns(frame: pd.DataFrame, right: Sequence[str] = ()) -> list[str]:
    """Lines of a table, the names of its columns first; none is wrapped."""
    rows = [[printable("–" if pd.isna(value) else value) for value in row] for row in frame.itertuples(index=False)]
    table = [list(frame.columns), *rows]
    widths = [max(cell_len(row[place]) for row in table) for place in range(len(frame.columns))]
    lines = []
    for row in table:
        cells = []
        for name, text, width in zip(frame.columns, row, widths, strict=True):
            space = " " * (width - cell_len(text))
            cells.append(space + text if name in right else text + space)
        lines.append("  ".join(cells).rstrip())
    return lines


def _per_cent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
