"""Page "Threshold": what a threshold of the object score costs, a suggestion, and its export."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import streamlit as st
from dashboards import data, shell
from dashboards.text import _

from gsclip.decision import DecisionThreshold, model_digest
from gsclip.errors import InputError
from gsclip.metrics.threshold import Confusion, confusion, lowest_cost_threshold
from gsclip.report.figures import operating_figure, resized, score_histogram

STEP = 0.001


def main() -> None:
    """Draw the page."""
    shell.heading(
        _("Threshold"),
        _("From which object score on is a part called abnormal? Move the threshold and see what it costs."),
    )
    shell.samples_or_guidance()
    samples = data.load_samples(shell.run_root())
    labelled = samples[samples["label"].notna() & (samples["role"] != data.AUXILIARY)]
    if labelled.empty:
        st.info(_("No sample of this run has a label: what a threshold costs cannot be counted."))
        return
    own = data.own_threshold(samples)
    left, right = st.columns([2.6, 1], gap="large")
    with right:
        suggestion(own)
    with left:
        shell.filter_box(st.columns([1, 2])[0], labelled, "category", _("Category"))
        if (category := shell.recall("category")) is not None:
            labelled = labelled[labelled["category"] == category]
        live(labelled, own)
    shell.write_url("run", "category", "threshold")


def live(labelled: pd.DataFrame, own: float | None) -> None:
    """Histogram, slider and counts."""
    labels, scores = labelled["label"].to_numpy(dtype=int), labelled["object_score"].to_numpy(dtype=float)
    chosen = shell.recall("threshold")
    value = chosen if chosen is not None else own if own is not None else 0.5
    ceiling = float(np.ceil(max(scores.max(), value, 0.1) * 20) / 20)
    st.session_state["threshold_slider"] = min(round(value, 4), ceiling)
    threshold = st.slider(
        _("Threshold of the object score, 0 to 1"), 0.0, ceiling, step=STEP, format="%.3f", key="threshold_slider",
        on_change=lambda: shell.remember("threshold", float(st.session_state["threshold_slider"])),
    )  # fmt: skip
    threshold = value if abs(threshold - value) < STEP / 2 else threshold
    counts = confusion(labels, scores, threshold)
    show_counts(counts)
    figure = score_histogram(labels, scores, threshold)
    resized(figure, 330)
    figure.update_xaxes(range=[0, ceiling])
    shell.section(
        _("Object scores of good and defective parts"),
        _(
            "Bars count parts by score, defective ones upwards, good ones downwards; the line is the threshold. Blue "
            "right of it are false alarms, orange left of it are missed defects."
        ),
    )
    st.plotly_chart(figure, key="histogram", config={"displayModeBar": False}, alt=_("Histogram of the object scores"))
    shell.section(
        _("What each threshold would do"),
        _("Shares of the parts of this run, in per cent, at every threshold: recall should be high, false alarms low."),
    )
    figure = resized(operating_figure(labels, scores, threshold), 320)
    figure.update_xaxes(range=[0, ceiling])
    st.plotly_chart(
        figure, key="operating", config={"displayModeBar": False}, alt=_("Recall and false alarms by threshold")
    )


def show_counts(counts: Confusion) -> None:
    """The confusion as counts, and what follows from it."""
    good = counts.false_positive + counts.true_negative
    false_alarms = 1000 * counts.false_positive / good if good else None
    tiles = (
        (_("Missed"), str(counts.false_negative), _("Defective parts below the threshold.")),
        (_("Found"), str(counts.true_positive), _("Defective parts at or above the threshold.")),
        (_("False alarms"), str(counts.false_positive), _("Good parts at or above the threshold.")),
        (_("Passed"), str(counts.true_negative), _("Good parts below the threshold.")),
        (_("Recall"), share(counts.recall), _("Share of the defective parts that are found.")),
        (_("Precision"), share(counts.precision), _("Share of the alarms that are right, at this run's mix of parts.")),
        (_("False alarms per 1,000"), shell.number(false_alarms, 0), _("Of 1,000 good parts, so many are stopped.")),
    )
    with st.container(horizontal=True, gap="medium"):
        for label, value, explanation in tiles:
            st.metric(label, value, help=explanation, width="content")


def share(value: float) -> str:
    """A fraction in per cent."""
    return "–" if np.isnan(value) else f"{value:.0%}"


def suggestion(own: float | None) -> None:
    """Costs, the threshold that is cheapest on the calibration's samples, and the export."""
    shell.section(
        _("Suggestion"),
        _(
            "The threshold of the lowest expected cost on the auxiliary samples of the calibration. The labels of the "
            "parts at the left are not used: a threshold chosen on them would look better than it is."
        ),
    )
    st.number_input(
        _("Cost of a missed defect"), 0.0, 1e9, 10.0, 1.0, key="miss_cost", persist_state="session",
        help=_("In any unit; what matters is the ratio to the other cost."),
    )  # fmt: skip
    st.number_input(_("Cost of a false alarm"), 0.0, 1e9, 1.0, 1.0, key="alarm_cost", persist_state="session")
    st.number_input(
        _("Defective parts in production, %"), 0.01, 99.99, 10.0, 1.0, key="defective_share", persist_state="session",
        help=_("The share that you expect, not that of the test."),
    )  # fmt: skip
    costs = {
        "miss": float(st.session_state["miss_cost"]),
        "false_alarm": float(st.session_state["alarm_cost"]),
        "defective_share": float(st.session_state["defective_share"]) / 100,
    }
    suggested = None
    try:
        rows = data.calibration_rows(shell.run_root(), data.workspace())
        labels, scores = rows["label"].to_numpy(dtype=int), rows["object_score"].to_numpy(dtype=float)
        suggested, cost = lowest_cost_threshold(labels, scores, **costs)
    except InputError as error:
        st.caption(_("No suggestion: {problem}.").format(problem=shell.plain(error.problem)))
    else:
        with st.container(border=True):
            st.metric(_("Suggested threshold"), shell.number(suggested))
            text = _("Expected cost {cost:.3g} a part; from {count} auxiliary samples, {defective} of them defective.")
            st.caption(text.format(cost=cost, count=len(labels), defective=int(labels.sum())))
            st.button(
                _("Use the suggestion"),
                on_click=shell.remember,
                args=("threshold", round(suggested, 6)),
                width="stretch",
                key="use_suggestion",
            )
    if own is not None:
        st.button(
            _("Use the model's, {value:.3f}").format(value=own),
            on_click=shell.remember,
            args=("threshold", None),
            width="stretch",
            key="use_own",
        )
    export(own, suggested, costs)


def export(own: float | None, suggested: float | None, costs: dict[str, float]) -> None:
    """Download of the threshold in effect, for ``gsclip score --threshold``."""
    chosen = shell.recall("threshold")
    value = own if chosen is None else chosen
    if value is None:
        return
    is_suggestion = suggested is not None and abs(value - suggested) < 1e-6
    files = data.model_files(shell.run_root()) or data.model_files(data.workspace())
    threshold = DecisionThreshold(
        threshold=value,
        model=model_digest(files) if files else None,
        profile=data.profile(shell.run_root()),
        source="model" if chosen is None else "suggestion" if is_suggestion else "manual",
        costs=costs if is_suggestion else {},
    )
    st.download_button(
        _("Export threshold {value:.3f}").format(value=value),
        json.dumps(threshold.as_json(), indent=2) + "\n",
        "threshold.json",
        "application/json",
        type="primary",
        width="stretch",
        on_click="ignore",
        key="export",
    )
    st.caption(_("For the command line:"))
    st.code("gsclip score … --threshold threshold.json", language="bash", wrap_lines=True)


main()
