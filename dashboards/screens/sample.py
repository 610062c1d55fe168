"""Page "Sample": one part from all sides, what was decided, and what a person says about it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st
from dashboards import data, figures, judging, selection, shell
from dashboards.text import _
from dashboards.views_panel import views_panel

CAMERA_LINK = Path(__file__).parents[1] / "assets" / "linked_cameras.html"
TRUTH, COLOURS, DECIDED = "truth", "colours", "decided"


def main() -> None:
    """Draw the page."""
    shell.heading(_("Sample"), _("One part from all sides: is the decision right? Keys N and P go on and back."))
    samples = shell.samples_or_guidance()
    root = shell.run_root()
    row = choose(samples, root)
    shell.write_url("run", "category", "defect", "group", "sample", "threshold")
    left, right = st.columns([3.4, 1], gap="medium")
    inspection = None
    with left:
        show_facts(row)
        inspection = shell.loaded(data.load_inspection, root, row["category"], row["name"])
        if inspection is not None:
            show_clouds(inspection, data.colour_range(samples), row)
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
        shell.section(
            _("Views"),
            _(
                "What the nine cameras see: shaded surface and depth (near is bright), under the map of the point scores. "
                "The bar is the probability of a defect in that view, 0 to 1."
            ),
        )
        metrics = shell.loaded(data.load_metrics, root) if (root / data.METRICS_FILE).is_file() else None
        views_panel(
            inspection.rendered,
            inspection.depth,
            inspection.foreground,
            inspection.maps,
            inspection.view_probabilities,
            limits=colour_limits(data.colour_range(samples)),
            cameras="" if metrics is None else str(metrics.data.get("cameras")),
            truth=inspection.view_masks,
        )


def choose(samples: pd.DataFrame, root: Path) -> pd.Series:
    """The toolbar: which list, which sample of it, one step on or back; the sample's row."""
    known = set(samples["name"])
    if (wanted := shell.recall("sample")) is not None and wanted not in known:
        st.toast(_("This run has no sample {name}: the worst one is shown.").format(name=shell.plain(wanted[:200])))
        shell.remember("sample", None)
    group = shell.recall("group") or selection.WORST
    boxes = st.columns([2, 1.7, 1.7, 4.2, 1.15, 1.15], vertical_alignment="bottom")
    st.session_state["group_choice"] = group
    boxes[0].selectbox(
        _("List"),
        selection.GROUPS,
        key="group_choice",
        format_func=shell.group_name,
        on_change=lambda: shell.remember("group", st.session_state["group_choice"]),
    )
    shell.filter_box(boxes[1], samples, "category", _("Category"))
    shell.filter_box(boxes[2], samples, "defect", _("Kind of defect"))
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
    boxes[3].selectbox(
        _("Sample {place} of {count}").format(place=options.index(current) + 1, count=len(options)),
        options,
        key="sample_choice",
        on_change=lambda: shell.remember("sample", st.session_state["sample_choice"]),
    )
    before, after = selection.neighbours(options, current)
    for box, label, shortcut, target in ((boxes[4], _("Previous"), "P", before), (boxes[5], _("Next"), "N", after)):
        box.button(
            label,
            shortcut=shortcut,
            width="stretch",
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
        _("Extent x × y × z, unit of the scan"): " × ".join(f"{row[f'extent_{axis}']:.3g}" for axis in "xyz"),
        _("Highest point score"): shell.number(row["map_max"]),
    }
    columns = st.columns([1.2, 1.2, 0.8, 2, 1.2, 3], vertical_alignment="center")
    for column, (label, value) in zip(columns, facts.items(), strict=False):
        column.caption(label)
        column.text(value)
    columns[-1].caption(_("Identifier"))
    columns[-1].code(str(row["name"]), language=None)


def colour_limits(initial: figures.Range) -> figures.Range:
    """Scores at the ends of the colour scale, the same for every sample."""
    low, high = shell.recall("limits") or initial
    return (low, high) if high > low else (low - 0.001, high + 0.001)


@st.fragment
def show_clouds(inspection: data.Inspection, span: figures.Range, row: pd.Series) -> None:
    """The cloud by score, and beside it by what the reader chooses, under one camera."""
    views, other, display = st.columns([2.6, 2.6, 1], vertical_alignment="bottom")
    viewpoint = views.segmented_control(
        _("View from"),
        list(figures.VIEWPOINTS),
        default="Sensor",
        required=True,
        key="viewpoint",
        persist_state="session",
        format_func=lambda name: {
            "Sensor": _("Sensor"), "Left": _("Left"), "Right": _("Right"), "Above": _("Above"), "Below": _("Below")
        }[name],
    )  # fmt: skip
    names = {TRUTH: _("Ground truth"), DECIDED: _("Alarms"), COLOURS: _("Scan's colours")}
    second = other.segmented_control(
        _("Beside it"),
        [TRUTH, DECIDED, *([COLOURS] if inspection.colors is not None else [])],
        default=TRUTH,
        required=True,
        key="second",
        persist_state="session",
        format_func=names.__getitem__,
    )
    with display.popover(_("Display"), width="stretch"):
        limits, opacity, size, lowest = display_controls(inspection, span)
    colours, title = second_cloud(inspection, second or TRUTH, lowest)
    figure = figures.cloud_figure(
        inspection.points,
        inspection.normals,
        inspection.scores,
        colours,
        titles=(_("Point scores"), title),
        viewpoint=viewpoint or "Sensor",
        opacity=opacity,
        limits=limits,
        point_size=size,
        lowest=lowest if st.session_state.get("hide_low") else None,
        hover=_("score") + " %{text:.3f}",
    )
    st.plotly_chart(
        figure,
        key="clouds",
        config={"displaylogo": False, "displayModeBar": False},
        alt=_("Point cloud coloured by score, and the same cloud beside it"),
    )
    st.html(CAMERA_LINK, unsafe_allow_javascript=True)
    shown = len(inspection.points)
    thinned = _(" {shown:,} of {total:,} points are drawn.").format(shown=shown, total=inspection.total_points)
    st.caption(
        _(
            "Each point in the colour of its score (0 to 1, bright is anomalous); the scale is the same for all parts of "
            "the run. Drag to turn, scroll to zoom: both clouds follow."
        )
        + (thinned if shown < inspection.total_points else "")
    )


def display_controls(
    inspection: data.Inspection, span: figures.Range
) -> tuple[figures.Range, float, float, float]:
    """Colour range, opacity, size of a point, threshold of the point scores."""
    low, high = span
    step = 0.01 if high > 0.1 else 0.001
    limits = st.slider(
        _("Colour range of the point scores"), 0.0, 1.0, shell.recall("limits") or span, step, "%.3f", key="limits",
        persist_state="session", on_change=lambda: shell.remember("limits", st.session_state["limits"]),
    )  # fmt: skip
    opacity = st.slider(
        _("Opacity of the scores over the surface"), 0.0, 1.0, 0.8, 0.05, key="opacity", persist_state="session"
    )
    usual = 3.2 if len(inspection.points) < 15_000 else 2.4 if len(inspection.points) < 40_000 else 1.8
    size = st.slider(_("Point size, pixels"), 1.0, 8.0, usual, 0.2, key="point_size")
    middle = round((low + high) / 2, 3)
    lowest = st.slider(
        _("Threshold of the point scores"), 0.0, 1.0, middle, step, "%.3f", key="point_threshold",
        persist_state="session",
    )  # fmt: skip
    st.toggle(_("Hide points below it"), key="hide_low", persist_state="session")
    low, high = limits
    return ((low, high) if high > low else (low - 0.001, high + 0.001)), opacity, size, lowest


def second_cloud(inspection: data.Inspection, second: str, lowest: float) -> tuple[figures.Colours, str]:
    """Colours of the second cloud, and its title."""
    if second == COLOURS and inspection.colors is not None:
        return inspection.colors.astype(float), _("Scan's colours")
    if second == DECIDED:
        share = float((inspection.scores >= lowest).mean())
        title = _("Points scored {lowest:.3f} or more: {share:.1%}").format(lowest=lowest, share=share)
        return figures.decided_colours(inspection.normals, inspection.scores, lowest), title
    colours = figures.truth_colours(inspection.normals, inspection.mask)
    if inspection.mask is None:
        return colours, _("Ground truth: unknown")
    if not inspection.mask.any():
        return colours, _("Ground truth: no defect")
    return colours, _("Ground truth: {share:.1%} of the points").format(share=float(inspection.mask.mean()))


main()
