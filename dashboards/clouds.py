"""The cloud of a part in three dimensions, twice under one camera; shared by the pages of samples and of new scans."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboards import data, figures, shell
from dashboards.text import _

ASSETS = Path(__file__).parent / "assets"
TRUTH, COLOURS, DECIDED = "truth", "colours", "decided"
_component = st.components.v2.component(
    "gsclip_clouds",
    css=(ASSETS / "clouds.css").read_text(encoding="utf-8"),
    js=(ASSETS / "clouds.js").read_text(encoding="utf-8"),
)


def colour_limits(initial: figures.Range) -> figures.Range:
    """Scores at the ends of the colour scale, the same for every sample."""
    low, high = shell.recall("limits") or initial
    return (low, high) if high > low else (low - 0.001, high + 0.001)


@st.fragment
def show_clouds(
    name: str, inspection: data.Inspection, span: figures.Range, point_threshold: float | None = None
) -> None:
    """The cloud by score, and beside it by what the reader chooses, under one camera.

    Args:
        name: of the part.
        inspection: what is shown of it.
        span: scores at the ends of the colour scale, at first.
        point_threshold: of the model: point scores at or above it are a defect's; ``None`` for none.
    """
    bar = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")  # breaks in a narrow window
    viewpoint = bar.segmented_control(
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
    choices = [*([TRUTH] if inspection.mask is not None else []), DECIDED]
    choices += [COLOURS] if inspection.colors is not None else []
    if st.session_state.get("second", choices[0]) not in choices:
        del st.session_state["second"]
    second = bar.segmented_control(
        _("Beside it"),
        choices,
        default=choices[0],
        required=True,
        key="second",
        persist_state="session",
        format_func=names.__getitem__,
    )
    with bar.popover(_("Display"), width="content"):
        limits, opacity, size, lowest = display_controls(inspection, span, point_threshold)
    colours, title = second_cloud(inspection, second or choices[0], lowest)
    content = figures.cloud_content(
        inspection.points,
        inspection.normals,
        inspection.scores,
        colours,
        viewpoint=viewpoint or "Sensor",
        opacity=opacity,
        limits=limits,
        lowest=lowest if st.session_state.get("hide_low") else None,
    )
    text = {
        "label": _("Point cloud of {name} coloured by score, and the same cloud beside it").format(name=name),
        "score": _("score"),
        "missing": _("This browser draws no clouds: WebGL 2 is switched off or missing."),
        "lost": _("The browser has lost its graphics. Reload the page if the clouds do not come back."),
    }
    titles = [_("Point scores"), title]
    content |= {"name": name, "titles": titles, "text": text, "pointSize": size, "background": shell.behind_pictures()}
    _component(key="clouds", data=content)
    shown = len(inspection.points)
    thinned = _(" {shown:,} of {total:,} points are drawn.").format(shown=shown, total=inspection.total_points)
    st.caption(
        _(
            "Each point in the colour of its score (0 to 1, bright is anomalous); the scale is the same for all parts "
            "of the run. Drag or arrow keys turn both clouds, with Shift they move them, the wheel or + and - zoom, a "
            "double click or 0 starts again."
        )
        + (thinned if shown < inspection.total_points else "")
    )


def display_controls(
    inspection: data.Inspection, span: figures.Range, point_threshold: float | None
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
    usual = 3.2 if len(inspection.points) < 15_000 else 2.8 if len(inspection.points) < 40_000 else 2.4
    size = st.slider(_("Point size, pixels"), 1.0, 8.0, usual, 0.2, key="point_size")
    middle = round((low + high) / 2 if point_threshold is None else point_threshold, 3)
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
    if inspection.mask is None or not inspection.mask.any():
        return colours, _("Ground truth: no defect")
    return colours, _("Ground truth: {share:.1%} of the points").format(share=float(inspection.mask.mean()))
