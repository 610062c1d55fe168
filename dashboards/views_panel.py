"""The nine views of a part, laid over each other in the browser (``assets/views.js``)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import streamlit as st

from dashboards import data, figures, shell
from dashboards.text import _
from gsclip.errors import GsclipError
from gsclip.views.cameras import camera_angles

ASSETS = Path(__file__).parent / "assets"
_component = st.components.v2.component(
    "gsclip_views",
    css=(ASSETS / "views.css").read_text(encoding="utf-8"),
    js=(ASSETS / "views.js").read_text(encoding="utf-8"),
)


def views_panel(inspection: data.Inspection, *, limits: figures.Range, cameras: str) -> None:
    """Draw the views, with a heading that says how to read them.

    Args:
        inspection: the scored sample.
        limits: scores at the ends of the colour scale.
        cameras: arrangement of the cameras, for their names.
    """
    shell.section(
        _("Views"),
        _(
            "What the cameras see: shaded surface and depth (near is bright), under the view's own anomaly map in the "
            "same colours. Point scores are the mean of the maps, smoothed, and raised where a shape occurs once. The "
            "bar is the probability of a defect in that view, 0 to 1."
        ),
    )
    names = view_names(cameras, inspection.places)

    def layers(view: int) -> dict[str, str]:
        return figures.view_layers(
            inspection.rendered[view],
            inspection.depth[view],
            inspection.foreground[view],
            inspection.maps[view],
            limits=limits,
            truth=None if inspection.view_masks is None else inspection.view_masks[view],
        )

    with ThreadPoolExecutor() as pool:  # most of it is the compression of images, on all cores
        drawn = list(pool.map(layers, range(len(names))))
    content: dict[str, Any] = {
        "views": [
            {"name": name, "probability": float(probability), "layers": images}
            for name, probability, images in zip(names, inspection.view_probabilities, drawn, strict=True)
        ],
        "limits": list(limits),
        "text": {
            "both": _("Both"),
            "rendered": _("Rendered"),
            "depth": _("Depth"),
            "layers": _("Images"),
            "opacity": _("Map opacity"),
            "blink": _("Blink (B)"),
            "outline": _("Outline of the defect"),
            "probability": _("Probability of a defect in this view, 0 to 1"),
            "scale": _("Abnormal probability of a place in the view, 0 to 1"),
            "enlarge": _("Click to enlarge"),
        },
        "background": shell.behind_pictures(),
    }
    _component(key="views", data=content)


def view_names(cameras: str, places: Sequence[int]) -> list[str]:
    """Number of each camera, and its angles where the run states its cameras."""
    try:
        angles = camera_angles(cameras)
    except GsclipError:
        return [_("View {number}").format(number=place + 1) for place in places]
    form = _("View {number}: {x:.0f}° about x, {y:.0f}° about y")
    return [form.format(number=place + 1, x=angles[place][0], y=angles[place][1]) for place in places]
