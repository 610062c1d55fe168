"""Page "Categories": figures of each kind of part and of each kind of defect, and the curves behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
from dashboards import data, shell
from dashboards.text import _

from gsclip.report import figures

ROW_HEIGHT = 35


def main() -> None:
    """Draw the page."""
    shell.heading(_("Categories"), _("Which kinds of parts and of defects does the model do worst on?"))
    samples = shell.samples_or_guidance()
    root = shell.run_root()
    metrics = shell.loaded(data.load_metrics, root)
    if metrics is None:
        return
    left, right = st.columns([1.55, 1], gap="large")
    with left:
        show_categories(root)
    with right:
        show_kinds(metrics, samples)
    shell.write_url("run", "category", "defect")
    show_curves(root, samples)


def show_categories(root: Path) -> None:
    """Categories, worst first; a click on a row filters all pages."""
    shell.section(
        _("Kinds of parts, worst first"),
        _("Fractions from 0 to 1; darker is worse. Chance is 0.5 for AUROC. Click on a row to see only its parts."),
    )
    table = shell.loaded(data.load_category_table, root)
    if table is None:
        return
    ends = zip(table["o_auroc_low"], table["o_auroc_high"], strict=True)
    table = table.assign(interval=[f"{shell.number(low)}–{shell.number(high)}" for low, high in ends])
    columns = {
        "category": st.column_config.TextColumn(_("Category"), pinned=True),
        "samples": st.column_config.NumberColumn(_("Parts"), width=60),
        "o_auroc": score_column(_("Object AUROC"), _("Probability that a defective part scores above a good one.")),
        "interval": st.column_config.TextColumn(_("95 %"), help=_("Interval of the object AUROC."), width=105),
        "o_auroc_random": score_column(_("Chance"), _("Object AUROC of random scores on the same parts.")),
        "point_auroc": score_column(_("Point AUROC"), _("The same over the points of the parts.")),
        "point_pro": score_column(_("Point PRO"), _("Share of each defect that is covered, false alarms up to 30 %.")),
    }
    shaded = {"o_auroc": (0.4, 1.0), "point_auroc": (0.4, 1.0), "point_pro": (0.0, 1.0)}
    filter_table("categories_table", table[list(columns)], "category", columns, shaded)


def show_kinds(metrics: data.Metrics, samples: pd.DataFrame) -> None:
    """Kinds of defect, worst first; a click on a row filters all pages."""
    shell.section(
        _("Kinds of defects, worst first"),
        _("Each kind against the good parts; fractions from 0 to 1, darker is worse."),
    )
    found = samples[(samples["label"] == 1) & (samples["role"] != data.AUXILIARY)]
    share = (found["outcome"] == "found").groupby(found["defect"]).mean() if len(found) else pd.Series(dtype=float)
    columns = {
        "defect": st.column_config.TextColumn(_("Defect"), pinned=True),
        "samples": st.column_config.NumberColumn(_("Parts"), width=60),
        "o_auroc": score_column(_("Object AUROC"), _("Against the good parts of the same categories.")),
        "point_auroc": score_column(_("Point AUROC"), _("Over the points of these parts.")),
        "found": score_column(_("Found"), _("Share of these parts at or above the threshold.")),
    }
    rows = [{"defect": kind, **row.model_dump(), "found": share.get(kind)} for kind, row in metrics.defects.items()]
    table = pd.DataFrame(rows, columns=list(columns)).astype({"o_auroc": float, "point_auroc": float, "found": float})
    table = table.sort_values(["o_auroc", "defect"], na_position="last", ignore_index=True)
    shaded = {"o_auroc": (0.4, 1.0), "point_auroc": (0.4, 1.0), "found": (0.0, 1.0)}
    filter_table("kinds_table", table, "defect", columns, shaded)


def score_column(label: str, explanation: str) -> Any:  # noqa: ANN401 - Streamlit's type is private
    """A column of fractions with three decimals."""
    return st.column_config.NumberColumn(label, format="%.3f", help=explanation)


def shade(value: float, low: float, high: float) -> str:
    """Background of a cell: the worse, the more of a colour that holds on white and on dark."""
    if pd.isna(value):
        return ""
    weight = 1 - min(max((value - low) / (high - low), 0.0), 1.0)
    return f"background-color: rgba(213, 94, 0, {0.55 * weight:.2f})"


def filter_table(
    key: str, table: pd.DataFrame, column: str, columns: dict[str, Any], shaded: dict[str, tuple[float, float]]
) -> None:
    """A table whose chosen row is the filter ``column``, in both directions."""
    names = list(table[column])
    current = shell.recall(column)
    rows = [names.index(current)] if current in names else []
    st.session_state[key] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    style = table.style
    for name, (low, high) in shaded.items():
        style = style.map(lambda value, low=low, high=high: shade(value, low, high), subset=[name])
    st.dataframe(
        style,
        key=key,
        height=min(11, len(table) + 1) * ROW_HEIGHT + 3,
        row_height=ROW_HEIGHT,
        column_config=columns,
        hide_index=True,
        on_select=lambda: shell.remember(column, chosen_row(key, names)),
        selection_mode="single-row",
    )
    if current in names and st.button(
        _("Look at the parts: {name}").format(name=shell.plain(current)), key=f"{key}.open"
    ):
        st.switch_page("screens/worst.py")


def chosen_row(key: str, names: list[str]) -> str | None:
    """Name in the chosen row of a table."""
    rows = st.session_state[key]["selection"]["rows"]
    return names[rows[0]] if rows else None


def show_curves(root: Path, samples: pd.DataFrame) -> None:
    """ROC and precision-recall curves, and the scores of each kind of defect."""
    labelled = samples[samples["label"].notna() & (samples["role"] != data.AUXILIARY)]
    category = shell.recall("category")
    columns = st.columns(3, gap="medium")
    for column, name, title, reading in (
        (
            columns[0], "roc", _("ROC"),
            _("Share of defects found against share of good parts stopped: up and left is better."),
        ),
        (
            columns[1], "pr", _("Precision and recall"),
            _("Share of alarms that are right against defects found: up and right is better."),
        ),
    ):  # fmt: skip
        with column:
            shell.section(title, reading)
            curves = shell.loaded(data.load_curves, root, name)
            if curves is None or "category" not in curves:
                st.info(_("This run has no curves."))
                continue
            names = {category} if category else set(curves["category"])
            shown = curves[curves["category"].isin(["all", *(names if len(names) > 2 or category else ())])]
            abnormal = float(labelled["label"].mean()) if len(labelled) else 0.5
            figure = figures.roc_figure(shown) if name == "roc" else figures.pr_figure(shown, abnormal)
            st.plotly_chart(figures.resized(figure, 420), key=name, config={"displayModeBar": False}, alt=title)
    with columns[2]:
        title = _("Scores by kind")
        shell.section(title, _("One mark a part, by its object score (0 to 1); the violet line is the threshold."))
        rows = labelled if category is None else labelled[labelled["category"] == category]
        threshold = data.own_threshold(rows)
        figure = figures.kinds_figure(rows["defect"].tolist(), rows["object_score"].to_numpy(), threshold)
        st.plotly_chart(figures.resized(figure, 420), key="kinds", config={"displayModeBar": False}, alt=title)


main()
