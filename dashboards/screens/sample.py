"""Page "Sample": one part from all sides, what was decided, and what a person says about it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st
from dashboards import clouds, data, judging, selection, shell
from dashboards.text import _
from dashboards.views_panel import views_panel


def main() -> None:
    """Draw the page."""
    shell.heading(_("Sample"), _("One part from all sides: is the decision right? Keys N and P go on and back."))
    samples = shell.samples_or_guidance()
    root = shell.run_root()
    metrics = shell.loaded(data.load_metrics, root) if (root / data.METRICS_FILE).is_file() else None
    row = choose(samples, root)
    shell.write_url("run", "category", "defect", "group", "sample", "threshold")
    left, right = st.columns([3.4, 1], gap="medium")
    inspection = None
    with left:
        show_facts(row)
        inspection = shell.loaded(data.load_inspection, root, row["category"], row["name"])
        if inspection is not None:
            clouds.show_clouds(
                str(row["name"]),
                inspection,
                data.colour_range(samples),
                None if metrics is None else metrics.point_threshold,
            )
    with right:
        judging.decision(row)
        judging.mark_form(
            judging.Part(
                sample=str(row["name"]),
                run=str(shell.recall("run")),
                category=str(row["category"]),
                object_score=float(row["object_score"]),
                threshold=None if pd.isna(row["threshold"]) else float(row["threshold"]),
                label=str(row["defect"]) if pd.notna(row["label"]) else "",
            ),
            sorted(set(samples["defect"]) - {"", data.GOOD}),
        )
    if inspection is not None:
        views_panel(
            inspection,
            limits=clouds.colour_limits(data.colour_range(samples)),
            cameras="" if metrics is None else str(metrics.data.get("cameras")),
        )


def choose(samples: pd.DataFrame, root: Path) -> pd.Series:
    """The toolbar: which list, which sample of it, one step on or back; the sample's row."""
    known = set(samples["name"])
    if (wanted := shell.recall("sample")) is not None and wanted not in known:
        st.toast(_("This run has no sample {name}: the worst one is shown.").format(name=shell.plain(wanted[:200])))
        shell.remember("sample", None)
    group = shell.recall("group") or selection.WORST
    bar = st.container(horizontal=True, vertical_alignment="bottom", gap="small")  # breaks in a narrow window
    st.session_state["group_choice"] = group
    bar.selectbox(
        _("List"),
        selection.GROUPS,
        key="group_choice",
        width=210,
        format_func=shell.group_name,
        on_change=lambda: shell.remember("group", st.session_state["group_choice"]),
    )
    shell.filter_box(bar, samples, "category", _("Category"), 170)
    shell.filter_box(bar, samples, "defect", _("Kind of defect"), 170)
    names = list(listed(samples, group, root)["name"])
    filters = (group, shell.recall("category"), shell.recall("defect"))
    changed = shell.recall("filters", filters) != filters
    shell.remember("filters", filters)
    current = shell.recall("sample")
    if current is None or (changed and names and current not in names):
        current = names[0] if names else str(samples["name"].iloc[0])
        shell.remember("sample", current)
    # A filter does not take away the sample that is being looked at.
    options = names if current in names else [current, *names]
    st.session_state["sample_choice"] = current
    bar.selectbox(
        _("Sample {place} of {count}").format(place=options.index(current) + 1, count=len(options)),
        options,
        key="sample_choice",
        width=340,
        on_change=lambda: shell.remember("sample", st.session_state["sample_choice"]),
    )
    before, after = selection.neighbours(options, current)
    for label, shortcut, target in ((_("Previous"), "P", before), (_("Next"), "N", after)):
        bar.button(
            label,
            shortcut=shortcut,
            disabled=target is None,
            on_click=shell.remember,
            args=("sample", target),
        )
    return samples[samples["name"] == current].iloc[0]


def listed(samples: pd.DataFrame, group: str, root: Path) -> pd.DataFrame:
    """Samples of the list in its order."""
    localisation = None
    if group in selection.NEEDS_LOCALISATION:
        with st.spinner(_("Comparing the point scores of every part with its ground truth …")):
            localisation = shell.loaded(data.load_localisation, root)
    return selection.listed(
        samples,
        group,
        category=shell.recall("category"),
        defect=shell.recall("defect"),
        localisation=localisation,
    )


def show_facts(row: pd.Series) -> None:
    """What is known about the part, one line; the name can be copied."""
    facts = {
        _("Category"): str(row["category"]),
        _("Label"): str(row["defect"]) or _("not labelled"),
        _("Points"): f"{int(row['points']):,}",
        _("Extent x × y × z, scan's unit"): " × ".join(f"{row[f'extent_{axis}']:.3g}" for axis in "xyz"),
        _("Top point score"): shell.number(row["map_max"]),
    }
    with st.container(horizontal=True, gap="medium"):  # one that breaks between the facts, not within them
        for label, value in facts.items():
            with st.container(width="content"):
                st.caption(label, width="content")
                st.text(value, width="content")
        with st.container(width=270):
            st.caption(_("Identifier"))
            st.code(str(row["name"]), language=None)



main()
