"""Figures of the page, as plotly figures without colours of text and grid: the page sets those, light or dark.

Names that come from data are escaped, since plotly reads markup in texts.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

# Okabe and Ito's colours that hold on white and on dark alike.
BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE = "#2F7FBF", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
DASHES = ("solid", "dash", "dot")
LIGHT_BLUE = "rgba(47,127,191,0.6)"  # under marks and intervals
PLUM = "#A04C9B"
NEUTRAL = "#8A949E"
HISTOGRAM_BINS = 30
# Pixels: of the area inside the axes, above it, below it for ticks and title, and of one row of the legend.
PLOT_HEIGHT, TOP_MARGIN, AXIS_HEIGHT, LEGEND_ROW = 285, 8, 46, 22
TERMS = ("loss", "classification", "segmentation", "consistency")


def roc_figure(curves: pd.DataFrame) -> go.Figure:
    """Receiver operating characteristics, columns ``fpr``, ``tpr``, ``category``, and the diagonal of chance."""
    figure = _curves(curves, "fpr", "tpr")
    figure.add_trace(_line([0, 1], [0, 1], "chance", NEUTRAL, "dot", 1.5))
    return _finish(figure, "false positive rate", "true positive rate", unit_axes=True)


def pr_figure(curves: pd.DataFrame, abnormal_share: float) -> go.Figure:
    """Precision-recall curves, columns ``recall``, ``precision``, ``category``; chance is the share of the abnormal."""
    figure = _curves(curves, "recall", "precision")
    figure.add_trace(_line([0, 1], [abnormal_share] * 2, "chance", NEUTRAL, "dot", 1.5))
    return _finish(figure, "recall", "precision", unit_axes=True)


def learning_figure(curve: pd.DataFrame) -> go.Figure:
    """Losses of one stage by epoch: ``epoch``, ``loss``, and those of its terms that the table holds."""
    figure = go.Figure()
    for place, term in enumerate(term for term in TERMS if term in curve and curve[term].notna().any()):
        width = 3 if term == "loss" else 1.8
        figure.add_trace(_line(curve["epoch"].tolist(), curve[term].tolist(), term, SERIES[place], "solid", width))
    figure.update_traces(mode="lines+markers", marker={"size": 5})
    return _finish(figure, "epoch", "loss")


def score_histogram(labels: np.ndarray, scores: np.ndarray, threshold: float | None) -> go.Figure:
    """Object scores of abnormal samples upwards and of good ones downwards, and the decision threshold.

    Args:
        labels: (m,) 0 or 1.
        scores: (m,) finite.
        threshold: a line there; ``None`` for none.
    """
    figure = go.Figure()
    ends = [*scores.tolist(), *([] if threshold is None else [threshold])] or [0.0, 1.0]
    edges = np.linspace(min(ends), max(ends) + 1e-9, HISTOGRAM_BINS + 1)
    highest = []
    for label, sign, name, colour in ((1, 1, "defective, upwards", VERMILION), (0, -1, "good, downwards", BLUE)):
        counts, _ = np.histogram(scores[labels == label], edges)
        centres = (edges[:-1] + edges[1:]) / 2
        bars = go.Bar(x=centres.tolist(), y=(sign * counts).tolist(), name=name, marker_color=colour, opacity=0.85)
        bars.update(width=float(edges[1] - edges[0]), customdata=counts.tolist())
        figure.add_trace(bars.update(hovertemplate="%{x:.3f}: %{customdata}<extra></extra>"))
        highest.append(max(int(counts.max(initial=0)), 1))
    figure.update_layout(barmode="overlay", bargap=0)
    if threshold is not None:
        ends = [-highest[1], highest[0]]
        figure.add_trace(_line([threshold] * 2, ends, f"threshold {threshold:.3f}", PLUM, "solid", 2.5))
    step = next((step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500) if sum(highest) / step <= 8), 1000)
    ticks = [step * number for number in range(-(highest[1] // step), highest[0] // step + 1)]
    figure.update_yaxes(tickvals=ticks, ticktext=[str(abs(tick)) for tick in ticks])
    return _finish(figure, "object score, 0 to 1", "parts")


def operating_figure(labels: np.ndarray, scores: np.ndarray, threshold: float | None) -> go.Figure:
    """Recall, false alarms and precision of every threshold, in per cent.

    Args:
        labels: (m,) 0 or 1.
        scores: (m,) in [0, 1].
        threshold: a line there; ``None`` for none.
    """
    labels = np.asarray(labels).astype(bool)
    levels = np.unique(np.concatenate([[0.0], scores, np.nextafter(scores, 2), [1.0]]))
    found = np.array([(scores[labels] >= level).sum() for level in levels])
    stopped = np.array([(scores[~labels] >= level).sum() for level in levels])
    figure = go.Figure()
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, values, colour, dash in (
            ("recall: defective parts found", found / labels.sum(), VERMILION, "solid"),
            ("false alarms: good parts stopped", stopped / (~labels).sum(), BLUE, "solid"),
            ("precision: alarms that are right", found / (found + stopped), NEUTRAL, "dash"),
        ):
            line = _line(levels.tolist(), [None if np.isnan(v) else 100 * v for v in values], name, colour, dash, 2.2)
            figure.add_trace(line)
    if threshold is not None:
        figure.add_trace(_line([threshold] * 2, [0, 100], f"threshold {threshold:.3f}", PLUM, "solid", 2.5))
    figure.update_yaxes(range=[-1, 103], ticksuffix=" %", automargin=True, title_standoff=10)
    return _finish(figure, "threshold of the object score", "share of the parts").update_layout(hovermode="x unified")


def kinds_figure(kinds: Sequence[str], scores: np.ndarray, threshold: float | None) -> go.Figure:
    """Object scores of the parts of each kind of defect, a mark a part; good parts first, then by median score.

    Args:
        kinds: (m,) kind of defect of each part, ``good`` for none.
        scores: (m,) object scores.
        threshold: a line there; ``None`` for none.
    """
    table = pd.DataFrame({"kind": list(kinds), "score": scores})
    order = table.groupby("kind")["score"].median().sort_values().index.tolist()
    order = [kind for kind in order if kind == "good"] + [kind for kind in order if kind != "good"]
    figure = go.Figure()
    for kind in order:
        rows = table.loc[table["kind"] == kind, "score"]
        colour = BLUE if kind == "good" else VERMILION
        figure.add_trace(
            go.Box(
                x=rows.tolist(), name=html.escape(str(kind)) or "not labelled", boxpoints="all", jitter=0.7, pointpos=0,
                orientation="h", marker={"color": colour, "size": 5, "opacity": 0.7},
                line={"width": 1.2, "color": NEUTRAL}, fillcolor="rgba(0,0,0,0)", showlegend=False, hoveron="points",
                hovertemplate="%{x:.3f}<extra></extra>",
            )
        )  # fmt: skip
    if threshold is not None:
        line = {"color": PLUM, "width": 2.5}
        figure.add_shape(type="line", x0=threshold, x1=threshold, y0=0, y1=1, yref="paper", line=line)
    figure.update_yaxes(automargin=True, ticklabelstandoff=4)
    return _finish(figure, "object score, 0 to 1", "", plot_height=60 + 28 * max(len(order), 1))


def category_figure(table: pd.DataFrame, metric: str, title: str) -> go.Figure:
    """One metric of every category as bars, with marks for random scores and for the oracle.

    Args:
        table: as :func:`gsclip.metrics.table.categories_table` gives it; its first row is drawn on top.
        metric: column of the metric; bars get the 95 % interval where there is one.
        title: name of the metric, for the axis.
    """
    names = [html.escape(str(name)) for name in table["category"]]
    errors = None
    if {f"{metric}_low", f"{metric}_high"} <= set(table):
        above, below = table[f"{metric}_high"] - table[metric], table[metric] - table[f"{metric}_low"]
        errors = {"type": "data", "symmetric": False, "array": above.tolist(), "arrayminus": below.tolist()}
        errors |= {"color": NEUTRAL, "thickness": 2, "width": 4}
    bars = go.Bar(x=table[metric].tolist(), y=names, orientation="h", name="ours", marker_color=LIGHT_BLUE)
    figure = go.Figure(bars.update(error_x=errors))
    for source, symbol, colour in (("random", "x-thin", VERMILION), ("oracle", "diamond-open", GREEN)):
        marker = {"symbol": symbol, "size": 9, "color": colour, "line": {"width": 2.5, "color": colour}}
        values = table[f"{metric}_{source}"].tolist()
        figure.add_trace(go.Scatter(x=values, y=names, mode="markers", name=source, marker=marker))
    figure.update_xaxes(range=[0, 1.03])
    figure.update_yaxes(autorange="reversed", type="category", automargin=True, ticklabelstandoff=4)
    return _finish(figure, title, "", plot_height=60 + 28 * len(table)).update_layout(hovermode="y unified")


def resized(figure: go.Figure, height: int) -> go.Figure:
    """A figure of this module at another height in pixels, its legend still below the title of its axis."""
    rows = math.ceil(len(figure.data) / 3) if figure.layout.showlegend else 0
    plot = max(height - TOP_MARGIN - AXIS_HEIGHT - LEGEND_ROW * rows, 40)
    return figure.update_layout(height=height, legend={"y": -AXIS_HEIGHT / plot})


def _curves(curves: pd.DataFrame, x: str, y: str) -> go.Figure:
    """One line a category: all of them together thick, each alone thin."""
    from gsclip.report.curves import ALL  # here: scipy comes with it, and learning curves need none

    figure = go.Figure()
    for place, (category, rows) in enumerate(curves.groupby("category", sort=False)):
        if category == ALL:
            line = _line(rows[x].tolist(), rows[y].tolist(), "all samples", BLUE, "solid", 3.5)
        else:
            style = DASHES[place // len(SERIES) % len(DASHES)]
            line = _line(rows[x].tolist(), rows[y].tolist(), str(category), SERIES[place % len(SERIES)], style, 1.3)
        figure.add_trace(line)
    return figure


def _line(x: list[float], y: Sequence[float | None], name: str, colour: str, dash: str, width: float) -> go.Scatter:
    style = {"color": colour, "dash": dash, "width": width}
    return go.Scatter(x=x, y=y, mode="lines", name=html.escape(name), line=style)


def _finish(
    figure: go.Figure, x_title: str, y_title: str, *, plot_height: int = PLOT_HEIGHT, unit_axes: bool = False
) -> go.Figure:
    legend_height = LEGEND_ROW * math.ceil(len(figure.data) / 3)
    figure.update_layout(
        template="none",
        height=TOP_MARGIN + plot_height + AXIS_HEIGHT + legend_height,
        margin={"l": 52, "r": 12, "t": TOP_MARGIN, "b": AXIS_HEIGHT},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "x": 0, "y": -AXIS_HEIGHT / plot_height, "yanchor": "top"},
        hoverlabel={"namelength": -1},
        showlegend=True,
    )
    figure.update_xaxes(title={"text": x_title, "standoff": 6}, zeroline=False)
    figure.update_yaxes(title={"text": y_title, "standoff": 6}, zeroline=False)
    if unit_axes:
        figure.update_xaxes(range=[-0.01, 1.01])
        figure.update_yaxes(range=[-0.01, 1.03])
    return figure
