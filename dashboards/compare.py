"""Two runs against each other: pure functions of their tables, metrics and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from gsclip.report.content import plain_text
from gsclip.report.figures import BLUE, NEUTRAL, VERMILION

BROKEN, FIXED, CHANGED, SAME = "broken", "fixed", "changed", "same"
CHANGES = (BROKEN, FIXED, CHANGED, SAME)


def joined(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Samples of both runs, those whose decision changed first, then by the difference of their scores.

    Args:
        first: samples of the run that is looked at: ``name``, ``category``, ``defect``, ``label``, ``object_score``,
            ``decision``.
        second: those of the other run, the same columns.

    Returns:
        ``name``, ``category``, ``defect``, ``label``, ``score`` and ``decision`` of the first run, ``other_score`` and
        ``other_decision`` of the second, ``difference`` of the scores (first minus second), and ``change``, one of
        :data:`CHANGES`: right before and wrong now, wrong before and right now, changed without a label, the same.
    """
    columns = ["name", "object_score", "decision"]
    both = first[[*columns, "category", "defect", "label"]].merge(second[columns], on="name", suffixes=("", "_other"))
    table = pd.DataFrame(
        {
            "name": both["name"],
            "category": both["category"],
            "defect": both["defect"],
            "label": both["label"],
            "score": both["object_score"].astype(float),
            "other_score": both["object_score_other"].astype(float),
            "decision": both["decision"],
            "other_decision": both["decision_other"],
        }
    )
    table["difference"] = table["score"] - table["other_score"]
    known = table["decision"].notna() & table["other_decision"].notna()
    moved = known & (table["decision"] != table["other_decision"])
    table["change"] = SAME
    table.loc[moved & table["label"].isna(), "change"] = CHANGED
    table.loc[moved & (table["label"] == table["decision"]), "change"] = FIXED
    table.loc[moved & table["label"].notna() & (table["label"] != table["decision"]), "change"] = BROKEN
    order = table.assign(rank=table["change"].map(CHANGES.index), size=-table["difference"].abs())
    return table.loc[order.sort_values(["rank", "size", "name"]).index].reset_index(drop=True)


def metric_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> pd.DataFrame:
    """Mean metrics of both runs: ``metric``, ``ours``, ``other``, ``difference``."""
    rows = []
    for name, figure in first.get("mean", {}).items():
        ours, other = figure.get("ours"), second.get("mean", {}).get(name, {}).get("ours")
        # Rounded as shown, plus zero: no "-0.000".
        change = None if ours is None or other is None else round(ours - other, 3) + 0.0
        rows.append({"metric": name, "ours": ours, "other": other, "difference": change})
    table = pd.DataFrame(rows, columns=["metric", "ours", "other", "difference"])
    return table.astype({"ours": float, "other": float, "difference": float})


def parameter_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> pd.DataFrame:
    """Parameters that differ: ``parameter``, ``ours``, ``other`` as text; a dash where a run does not have one."""
    names = sorted({*first, *second})
    rows = [
        {"parameter": name, "ours": _text(first.get(name)), "other": _text(second.get(name))}
        for name in names
        if first.get(name) != second.get(name)
    ]
    return pd.DataFrame(rows, columns=["parameter", "ours", "other"])


def _text(value: Any) -> str:  # noqa: ANN401 - any value of a parameter
    return "–" if value is None else plain_text(value)


def scatter(
    table: pd.DataFrame,
    *,
    names: tuple[str, str],
    thresholds: tuple[float | None, float | None],
    labels: tuple[str, str, str],
) -> go.Figure:
    """Scores of both runs against each other, a mark a part; those whose decision changed are filled.

    Args:
        table: as :func:`joined` gives it.
        names: titles of the axes: of the other run (x), of this one (y).
        thresholds: of the other run, of this one; lines there.
        labels: what good, defective and unlabelled parts are called.
    """
    figure = go.Figure()
    for label, name, colour, shape in (
        (0, labels[0], BLUE, "circle"), (1, labels[1], VERMILION, "diamond"), (None, labels[2], NEUTRAL, "square")
    ):  # fmt: skip
        rows = table[table["label"].isna()] if label is None else table[table["label"] == label]
        if rows.empty:
            continue
        moved = rows["change"] != SAME
        symbols = [shape if changed else f"{shape}-open" for changed in moved]
        marker = {"color": colour, "size": [10 if changed else 7 for changed in moved], "symbol": symbols}
        figure.add_trace(
            go.Scatter(
                x=rows["other_score"].tolist(), y=rows["score"].tolist(), mode="markers", name=name, marker=marker,
                customdata=rows.index.tolist(), hovertemplate="%{x:.3f} → %{y:.3f}<extra></extra>",
            )
        )  # fmt: skip
    shown = [*table[["score", "other_score"]].to_numpy().ravel(), *(value for value in thresholds if value is not None)]
    ends = [max(min(shown) - 0.05, 0.0), min(max(shown) + 0.05, 1.0)] if shown else [0.0, 1.0]
    dotted = {"color": NEUTRAL, "width": 1.2, "dash": "dot"}
    figure.add_shape(type="line", x0=ends[0], y0=ends[0], x1=ends[1], y1=ends[1], line=dotted)
    line = {"color": "#A04C9B", "width": 1.8}
    if thresholds[0] is not None:
        figure.add_shape(type="line", x0=thresholds[0], x1=thresholds[0], y0=0, y1=1, yref="paper", line=line)
    if thresholds[1] is not None:
        figure.add_shape(type="line", y0=thresholds[1], y1=thresholds[1], x0=0, x1=1, xref="paper", line=line)
    figure.update_layout(
        height=470,
        margin={"l": 50, "r": 10, "t": 30, "b": 45},
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    figure.update_xaxes(title={"text": names[0], "standoff": 6}, range=ends, zeroline=False)
    figure.update_yaxes(title={"text": names[1], "standoff": 6}, range=ends, zeroline=False)
    return figure
