"""The nine views of a part, laid over each other in the browser (``assets/views.js``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from dashboards import figures, shell
from dashboards.text import _
from gsclip.errors import GsclipError
from gsclip.views.cameras import camera_angles

ASSETS = Path(__file__).parent / "assets"
_component = st.components.v2.component(
    "gsclip_views",
    css=(ASSETS / "views.css").read_text(encoding="utf-8"),
    js=(ASSETS / "views.js").read_text(encoding="utf-8"),
)


def views_panel(
    rendered: np.ndarray,
    depth: np.ndarray,
    foreground: np.ndarray,
    maps: np.ndarray,
    probabilities: np.ndarray,
    *,
    places: Sequence[int],
    limits: figures.Range,
    cameras: str,
    truth: np.ndarray | None = None,
    key: str = "views",
) -> None:
    """Draw the views; arrays as in :class:`dashboards.data.Inspection`.

    Args:
        rendered: (v, h, w) uint8.
        depth: (v, h, w) uint16.
        foreground: (v, h, w) bool.
        maps: (v, h, w) anomaly maps.
        probabilities: (v,) probability of a defect in each view.
        places: v places of the views in the list of cameras.
        limits: scores at the ends of the colour scale.
        cameras: arrangement of the cameras, for their names.
        truth: (v, h, w) bool ground truth; ``None`` where it is unknown.
        key: of the component.
    """
    names = view_names(cameras, places)
    content: dict[str, Any] = {
        "views": [
            {
                "name": names[view],
                "probability": float(probabilities[view]),
                "layers": figures.view_layers(
                    rendered[view],
                    depth[view],
                    foreground[view],
                    maps[view],
                    limits=limits,
                    truth=None if truth is None else truth[view],
                ),
            }
            for view in range(len(rendered))
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
            "scale": _("Point score, 0 to 1"),
            "enlarge": _("Click to enlarge"),
        },
        "background": shell.behind_pictures(),
    }
    _component(key=key, data=content)


def view_names(cameras: str, places: Sequence[int]) -> list[str]:
    """Number of each camera, and its angles where the run states its cameras."""
    try:
        angles = camera_angles(cameras)
    except GsclipError:
        return [_("View {number}").format(number=place + 1) for place in places]
    form = _("View {number}: {x:.0f}° about x, {y:.0f}° about y")
    return [form.format(number=place + 1, x=angles[place][0], y=angles[place][1]) for place in places]
