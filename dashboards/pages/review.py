"""Page "Review": the figures of the last run, its categories and samples, and one sample from all sides."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import streamlit as st
from dashboards import data, figures

from gsclip.errors import GsclipError, InputError
from gsclip.views.cameras import camera_angles

Loaded = TypeVar("Loaded")

METRICS = {
    "o_auroc": ("Object AUROC", "Probability that a defective part scores higher than a good one."),
    "o_ap": ("Object AP", "Average precision of the object score."),
    "point_auroc": ("Point AUROC", "AUROC over the points of the parts, background excluded."),
    "point_pro": ("Point PRO", "Per-region overlap over the points of the parts."),
    "pixel_auroc": ("Pixel AUROC", "AUROC over the whole grid, background included: chance is high here."),
    "pixel_pro": ("Pixel PRO", "Per-region overlap over the whole grid, background included: chance is high here."),
}
ROLES = {"test": "Test: never trained on", "auxiliary": "Auxiliary: for the threshold"}
FILTERS = {"role": "Role", "category": "Category", "defect": "Kind", "outcome": "Decision"}
ROW_HEIGHT = 35
TABLE_HEIGHT = 9 * ROW_HEIGHT + 3
HISTOGRAM_HEIGHT = 290
LIST_HEIGHT = 508
VIEWS_IN_ROW = 3
MARKUP = re.compile(f"[{re.escape(string.punctuation)}]")
CAMERA_LINK = Path(__file__).parents[1] / "linked_cameras.html"


def main() -> None:
    """Draw the page."""
    root = data.workspace()
    st.title("Review", anchor=False)
    metrics = loaded(data.load_metrics, root)
    if metrics is not None:
        show_headline(metrics)
    samples = loaded(data.load_samples, root)
    if samples is None:
        return
    choose_from_url(list(samples["name"]))
    set_filters(samples)
    categories, kinds, histogram = st.columns([10.7, 6.3, 7], gap="medium")
    if metrics is not None:
        with categories:
            show_categories(root)
        with kinds:
            show_kinds(metrics)
    with histogram:
        show_histogram(samples)
    st.divider()
    left, right = st.columns([2, 3], gap="medium")
    with left:
        shown = show_list(samples)
    with right:
        chosen = choose_sample(samples, shown)
        choose_colours(samples)
        inspection = loaded(data.load_inspection, root, chosen["category"], chosen["name"])
        if inspection is not None:
            show_clouds(inspection)
    if inspection is not None:
        show_views(inspection, view_captions(metrics, len(inspection.rendered)))


def loaded(load: Callable[..., Loaded], *arguments: Any) -> Loaded | None:  # noqa: ANN401
    """Call a loader; where it fails, tell why and what helps, and go on without."""
    try:
        return load(*arguments)
    except InputError as error:
        st.error(plain(str(error)), icon=":material/error:")
        return None


def plain(text: object) -> str:
    """Text as it is: names from files must not act as Markdown."""
    return MARKUP.sub(r"\\\g<0>", " ".join(str(text).split()))


def number(value: float | None) -> str:
    """A figure as the page shows it."""
    return "–" if value is None or pd.isna(value) else f"{value:.3f}"


# --- headline ---------------------------------------------------------------------------------------------------------


def show_headline(metrics: data.Metrics) -> None:
    """What was trained on what, and each metric beside chance and the best possible."""
    st.markdown(description(metrics))
    for column, (metric, (label, explanation)) in zip(st.columns(len(METRICS)), METRICS.items(), strict=True):
        figure: data.Triple = getattr(metrics.mean, metric)
        low, high = getattr(metrics, f"{metric}_interval", None) or (None, None)
        with column.container(border=True):
            st.metric(label, number(figure.ours), help=explanation)
            interval = "not computed" if low is None else f"{number(low)}–{number(high)}"
            chance = f"random {number(figure.random)} · oracle {number(figure.oracle)}"
            st.caption(f"95 % interval {interval}  \n{chance}")


def description(metrics: data.Metrics) -> str:
    """Markdown on data, training, backbone and threshold."""
    facts = metrics.data
    note = listed(facts, "backbone_note" if "backbone_note" in facts else "backbone")
    if facts.get("backbone") == "embedded":
        note = f"**is not CLIP**; its figures do not compare with published ones. {note[:1].upper()}{note[1:]}"
    lines = (
        f"**Tested on** {listed(facts, 'test_categories')}: {listed(facts, 'samples')} samples, "
        f"{listed(facts, 'defective')} of them defective; data set {listed(facts, 'dataset')}.",
        f"**Trained on** {listed(facts, 'auxiliary_categories')}: {listed(facts, 'training_samples')} samples with "
        f"masks; {listed(facts, 'views')} views, cameras {listed(facts, 'cameras')}; seeds {listed(facts, 'seeds')}.",
        f"**Protocol** {listed(facts, 'protocol')}.",
        f"**Backbone** {note}.",
        f"**Threshold** {number(metrics.threshold)}, chosen on auxiliary samples; F1 on the test samples "
        f"{number(metrics.f1_at_threshold)}.",
    )
    return "  \n".join(lines)


def listed(facts: dict[str, Any], key: str) -> str:
    """One fact in words."""
    value = facts.get(key)
    if value is None:
        return "(not stated)"
    if isinstance(value, dict):
        return plain(", ".join(f"{name} {item}" for name, item in value.items()))
    return plain(", ".join(map(str, value)) if isinstance(value, list) else value)


# --- categories and scores --------------------------------------------------------------------------------------------


def show_categories(root: Path) -> None:
    """Categories, worst first; a click on a row filters the samples."""
    st.markdown("**Categories** – worst first; choose a row to filter")
    table = loaded(data.load_category_table, root)
    if table is None:
        return
    ends = zip(table["o_auroc_low"], table["o_auroc_high"], strict=True)
    table = table.assign(interval=[f"{number(low)}–{number(high)}" for low, high in ends])
    columns = {
        "category": st.column_config.TextColumn("Category", pinned=True, width=100),
        "samples": st.column_config.NumberColumn("Samples", width=60),
        "o_auroc": score_column("O-AUROC", METRICS["o_auroc"][1]),
        "interval": st.column_config.TextColumn("95 %", help="Interval of the object AUROC.", width=90),
        "o_auroc_random": score_column("random", "Object AUROC of random scores on the same samples."),
        "point_auroc": score_column("P-AUROC", METRICS["point_auroc"][1]),
        "point_pro": score_column("P-PRO", METRICS["point_pro"][1]),
    }
    filter_table("categories", table[list(columns)], "category", columns)


def show_kinds(metrics: data.Metrics) -> None:
    """Kinds of defect, worst first; a click on a row filters the samples."""
    st.markdown("**Kinds of defect** – against good samples")
    columns = {
        "defect": st.column_config.TextColumn("Kind", pinned=True, width=108),
        "samples": st.column_config.NumberColumn("n", help="Samples with this defect.", width=40),
        "o_auroc": score_column("O-AUROC", METRICS["o_auroc"][1]),
        "point_auroc": score_column("P-AUROC", METRICS["point_auroc"][1]),
    }
    rows = [{"defect": kind, **row.model_dump()} for kind, row in metrics.defects.items()]
    table = pd.DataFrame(rows, columns=list(columns)).astype({"o_auroc": float, "point_auroc": float})
    table = table.sort_values(["o_auroc", "defect"], na_position="last", ignore_index=True)
    filter_table("kinds", table, "defect", columns)


def score_column(label: str, explanation: str) -> Any:  # noqa: ANN401 - Streamlit's type is private
    """A narrow column of fractions with three decimals."""
    return st.column_config.NumberColumn(label, format="%.3f", help=explanation, width=66)


def filter_table(key: str, table: pd.DataFrame, column: str, columns: dict[str, Any]) -> None:
    """A table whose chosen row is the filter ``column`` of the samples, in both directions."""
    names = list(table[column])
    current = st.session_state.get(column)
    mark_row(key, names.index(current) if current in names else None)
    st.dataframe(
        table,
        key=key,
        height=min(TABLE_HEIGHT, ROW_HEIGHT * (len(table) + 1) + 3),
        column_config=columns,
        hide_index=True,
        on_select=lambda: st.session_state.update({column: chosen_row(key, names)}),
        selection_mode="single-row",
    )


def mark_row(key: str, row: int | None) -> None:
    """Choose a row of a table before it is drawn."""
    st.session_state[key] = {"selection": {"rows": [] if row is None else [row], "columns": [], "cells": []}}


def chosen_row(key: str, names: list[str]) -> str | None:
    """Name in the chosen row of a table."""
    rows = st.session_state[key]["selection"]["rows"]
    return names[rows[0]] if rows else None


def show_histogram(samples: pd.DataFrame) -> None:
    """Scores of the labelled samples of the chosen role and category."""
    from gsclip.report.figures import score_histogram

    chosen = filtered(samples, "role", "category")
    labelled = chosen[chosen["label"].notna()]
    thresholds = chosen["threshold"].unique()
    threshold = float(thresholds[0]) if len(thresholds) == 1 and np.isfinite(thresholds[0]) else None
    st.markdown(f"**Object scores** – {len(labelled)} samples as filtered")
    figure = score_histogram(labelled["label"].to_numpy(), labelled["object_score"].to_numpy(), threshold)
    figure.update_layout(height=HISTOGRAM_HEIGHT, legend={"y": 1, "yanchor": "bottom"}, margin={"t": 28})
    st.plotly_chart(figure, key="histogram", config={"displayModeBar": False}, alt="Histogram of the object scores")
    counts = chosen["outcome"].value_counts()
    st.caption(" · ".join(f"{outcome} {counts[outcome]}" for outcome in data.OUTCOMES if outcome in counts))


# --- list of samples --------------------------------------------------------------------------------------------------


def filtered(samples: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Samples that the filters of these columns let through."""
    for column in columns:
        if (value := st.session_state.get(column)) is not None:
            samples = samples[samples[column] == value]
    return samples


def set_filters(samples: pd.DataFrame) -> None:
    """Start with the test samples, and forget a filter that no sample of the role matches."""
    if not (samples["role"] == st.session_state.get("role")).any():
        st.session_state["role"] = "test" if (samples["role"] == "test").any() else samples["role"].iloc[0]
    for column in FILTERS:
        if not (filtered(samples, "role")[column] == st.session_state.get(column)).any():
            st.session_state[column] = None


def show_list(samples: pd.DataFrame) -> pd.DataFrame:
    """Filters and the samples they let through, worst first; a click on a row chooses the sample."""
    st.markdown("**Samples, worst first** – farthest on the wrong side of the threshold")
    for row in (("role", "category"), ("defect", "outcome")):
        for column, name in zip(st.columns(2), row, strict=True):
            values = set((samples if name == "role" else filtered(samples, "role"))[name])
            column.selectbox(
                FILTERS[name],
                sorted(values),
                index=0 if name == "role" else None,
                placeholder="all",
                format_func=lambda value: ROLES.get(value, value) or "(none)",
                key=name,
            )
    shown = filtered(samples, *FILTERS)
    names = list(shown["name"])
    filters = [st.session_state[name] for name in FILTERS]
    changed = filters != st.session_state.get("filters", filters)
    st.session_state["filters"] = filters
    current = st.session_state.get("sample")
    if current is None or (changed and names and current not in names):
        choose(names[0] if names else samples["name"].iloc[0])
        current = st.session_state["sample"]
    mark_row("list", names.index(current) if current in names else None)
    st.dataframe(
        shown[["outcome", "object_score", "margin", "defect", "name"]],
        key="list",
        height=LIST_HEIGHT,
        column_config={
            "outcome": st.column_config.TextColumn("Outcome", width=90),
            "object_score": score_column("Score", "Object score."),
            "margin": score_column("Margin", "Distance to the threshold; negative on the wrong side."),
            "defect": st.column_config.TextColumn("Kind", width=70),
            "name": st.column_config.TextColumn("Name"),
        },
        hide_index=True,
        on_select=lambda: choose(chosen_row("list", names) or current),
        selection_mode="single-row",
    )
    return shown


# --- one sample -------------------------------------------------------------------------------------------------------


def choose(name: str | None) -> None:
    """Make a sample the chosen one."""
    st.session_state["sample"] = name


def choose_from_url(names: list[str]) -> None:
    """Take the sample of the URL when it is not the one that this page put there (a link, or the back button)."""
    wanted = st.query_params.get("sample")
    if wanted is not None and wanted != st.session_state.get("sample_in_url"):
        if wanted in names:
            choose(wanted)
        else:
            st.toast(f"This run has no sample {plain(wanted[:200])}: the worst one is shown.")
    if st.session_state.get("sample") not in names:
        choose(None)


def choose_sample(samples: pd.DataFrame, shown: pd.DataFrame) -> pd.Series:
    """Name of the chosen sample, the steps to its neighbours in the list, and its facts; the sample's row."""
    names = list(shown["name"])
    current = st.session_state["sample"]
    # A filter does not take away the sample that is being looked at.
    options = names if current in names else [current, *names]
    place = options.index(current)
    steps = st.columns([5, 1.2, 1.2], vertical_alignment="bottom")
    steps[0].selectbox("Sample", options, key="sample")
    for column, label, key, target in ((steps[1], "Previous", "P", place - 1), (steps[2], "Next", "N", place + 1)):
        inside = 0 <= target < len(options)
        column.button(
            label,
            shortcut=key,
            width="stretch",
            disabled=not inside,
            on_click=choose,
            args=(options[target] if inside else current,),
        )
    st.session_state["sample_in_url"] = current
    if st.query_params.get("sample") != current:
        st.query_params["sample"] = current
    row = samples[samples["name"] == current].iloc[0]
    show_facts(row)
    return row


def show_facts(row: pd.Series) -> None:
    """Score, decision and size of a sample."""
    facts = {
        "Object score": number(row["object_score"]),
        "Threshold": number(row["threshold"]),
        "Decision": {1: "abnormal", 0: "normal"}.get(row["decision"], "none") + f" ({row['outcome']})",
        "Kind": row["defect"] or "not labelled",
        "Points": f"{int(row['points']):,}",
        "Extent x × y × z": " × ".join(f"{row[f'extent_{axis}']:.3g}" for axis in "xyz"),
    }
    for column, (label, value) in zip(st.columns([1.15, 0.9, 1.85, 1.35, 0.8, 1.95]), facts.items(), strict=True):
        column.caption(label)
        column.text(value)


def choose_colours(samples: pd.DataFrame) -> None:
    """Range and opacity of the scores' colours; the range starts with what the scores of the whole run need."""
    from gsclip.report.gallery import score_range

    low, high = score_range(samples)
    step = 0.01 if high > 0.1 else 0.001
    initial = (float(np.floor(low / step) * step), float(np.ceil(high / step) * step))
    left, right = st.columns(2, gap="medium")
    left.slider("Colour range of the scores, one for all samples", 0.0, initial[1], initial, step, "%.3f", key="limits")
    right.slider("Opacity of the scores over the surface", 0.0, 1.0, 0.6, 0.05, key="opacity")


def colour_limits() -> figures.Range:
    """Scores at the ends of the colour scale, the same for every sample."""
    low, high = st.session_state["limits"]
    return (low, high) if high > low else (low - 0.001, high + 0.001)


@st.fragment
def show_clouds(inspection: data.Inspection) -> None:
    """The cloud by score and by ground truth, under one camera."""
    viewpoint = st.segmented_control(
        "Camera", list(figures.VIEWPOINTS), default="Sensor", required=True, key="viewpoint"
    )
    figure = figures.cloud_figure(
        inspection.points,
        inspection.normals,
        inspection.scores,
        inspection.mask,
        viewpoint=viewpoint or "Sensor",
        opacity=st.session_state["opacity"],
        limits=colour_limits(),
    )
    st.plotly_chart(
        figure,
        key="clouds",
        config={"displaylogo": False, "displayModeBar": False},
        alt="Point cloud coloured by score, and the same cloud coloured by ground truth",
    )
    st.html(CAMERA_LINK, unsafe_allow_javascript=True)


@st.fragment
def show_views(inspection: data.Inspection, captions: list[str]) -> None:
    """Rendered and depth image of every view under its anomaly map."""
    left, right = st.columns([3, 1], vertical_alignment="center")
    left.markdown("**Views** – rendered and depth image under the anomaly map, colours as above")
    outline = right.toggle("Outline of the ground truth", value=True, key="outline")
    for first in range(0, len(captions), VIEWS_IN_ROW):
        for column, view in zip(st.columns(VIEWS_IN_ROW), range(first, len(captions)), strict=False):
            image = figures.view_image(
                inspection.rendered[view],
                inspection.depth[view],
                inspection.foreground[view],
                inspection.maps[view],
                opacity=st.session_state["opacity"],
                limits=colour_limits(),
                truth=inspection.view_masks[view] if outline and inspection.view_masks is not None else None,
            )
            caption = f"{captions[view]} · defect probability {number(float(inspection.view_probabilities[view]))}"
            column.image(image, caption, width="stretch", output_format="PNG", alt=f"Rendered and depth, {caption}")


def view_captions(metrics: data.Metrics | None, count: int) -> list[str]:
    """The camera's angles where the run states its cameras, else numbers."""
    cameras = None if metrics is None else metrics.data.get("cameras")
    try:
        angles = camera_angles(str(cameras), count)
    except GsclipError:
        return [f"View {view + 1}" for view in range(count)]
    return [f"View {view + 1} · {x:.0f}° about x, {y:.0f}° about y" for view, (x, y) in enumerate(angles)]


main()
