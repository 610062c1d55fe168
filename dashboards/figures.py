"""What the pages draw: pure functions from arrays to plotly figures and images.

Scores have the colours of :mod:`gsclip.report.overlays`, which takes seconds to import (torch, matplotlib): so it is
imported where it is needed, and the page shows its first figures at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from scipy.ndimage import binary_dilation

SURFACE = (163, 172, 181)
SHADE = 0.45  # share of a point's brightness that depends on its normal
CLOUD_HEIGHT = 430
COLOUR_STEP = 3  # of 255, between two colours of a cloud
GAP = 6  # pixels between the two images of a view

Range = tuple[float, float]

_DISTANCE = 1.45  # the part stays whole in scenes higher than wide
# Sensor frame: x to the right, y down, z away. The eye is where the sensor was; "up" is -y.
VIEWPOINTS: Mapping[str, Mapping[str, tuple[float, float, float]]] = MappingProxyType({
    "Sensor": {"eye": (0, 0, -1), "up": (0, -1, 0)},
    "Left": {"eye": (-0.77, 0, -0.64), "up": (0, -1, 0)},
    "Right": {"eye": (0.77, 0, -0.64), "up": (0, -1, 0)},
    "Above": {"eye": (0, -0.77, -0.64), "up": (0, -0.64, 0.77)},
    "Below": {"eye": (0, 0.77, -0.64), "up": (0, -0.64, -0.77)},
})


def camera(viewpoint: str) -> dict[str, dict[str, float]]:
    """Plotly's camera for one of :data:`VIEWPOINTS`."""
    place = VIEWPOINTS[viewpoint]
    return {
        "eye": dict(zip("xyz", (_DISTANCE * value for value in place["eye"]), strict=True)),
        "up": dict(zip("xyz", place["up"], strict=True)),
        "center": {"x": 0, "y": 0, "z": 0},
    }


def view_image(
    rendered: np.ndarray,
    depth: np.ndarray,
    foreground: np.ndarray,
    anomaly_map: np.ndarray,
    *,
    opacity: float,
    limits: Range,
    truth: np.ndarray | None = None,
) -> Image.Image:
    """Rendered and depth image of one view beside each other, under its anomaly map.

    Args:
        rendered: (h, w) uint8.
        depth: (h, w) uint16.
        foreground: (h, w) bool; the map covers it alone.
        anomaly_map: (h, w) scores.
        opacity: of the map, 0 to 1.
        limits: scores at the ends of the colour scale.
        truth: (h, w) bool defect to outline.

    Returns:
        RGBA image, h by 2 w + 6 pixels; what is not part is transparent.
    """
    from gsclip.report.overlays import TRUTH_COLOUR, blend_map, depth_panel

    rim = np.zeros_like(foreground) if truth is None else binary_dilation(truth, iterations=2) & ~truth
    alpha = np.where(foreground | rim, 255, 0).astype(np.uint8)
    halves = []
    for grey in (rendered, depth_panel(depth)[..., 0]):
        blended = blend_map(grey, foreground, anomaly_map, limits, opacity)
        blended[rim] = TRUTH_COLOUR
        halves.append(np.dstack([blended, alpha]))
    gap = np.zeros((len(rendered), GAP, 4), dtype=np.uint8)
    return Image.fromarray(np.hstack([halves[0], gap, halves[1]]))


def cloud_figure(
    points: np.ndarray,
    normals: np.ndarray,
    scores: np.ndarray,
    mask: np.ndarray | None,
    *,
    viewpoint: str,
    opacity: float,
    limits: Range,
) -> go.Figure:
    """One cloud twice: coloured by score, and by ground truth.

    Args:
        points: (m, 3) sensor frame.
        normals: (m, 3) unit vectors; they shade the surface.
        scores: (m,) point scores.
        mask: (m,) bool ground truth; ``None`` leaves the second cloud grey.
        viewpoint: one of :data:`VIEWPOINTS`.
        opacity: of the scores over the grey surface, 0 to 1.
        limits: scores at the ends of the colour scale.
    """
    from gsclip.report.overlays import TRUTH_COLOUR

    brightness = (1 - SHADE + SHADE * np.abs(normals[:, 2]))[:, None]
    surface = brightness * SURFACE
    truth = surface.copy()
    if mask is not None:
        truth[mask] = brightness[mask] * TRUTH_COLOUR
    first = _cloud(points, _laid_over(surface, scores, opacity, limits), "scene")
    first.update(text=scores.round(3), hovertemplate="score %{text:.3f}<extra></extra>")
    second = _cloud(points, truth, "scene2").update(hoverinfo="skip")
    figure = go.Figure([first, second, _scale_bar(opacity, limits)])
    scene_layout = {
        **{axis: {"visible": False, "range": [-1.05, 1.05]} for axis in ("xaxis", "yaxis", "zaxis")},
        "aspectmode": "cube",
        "camera": camera(viewpoint),
        "dragmode": "orbit",
        "bgcolor": "rgba(0,0,0,0)",
    }
    truth_note = ": unknown" if mask is None else "" if mask.any() else ": no defect"
    figure.update_layout(
        scene={**scene_layout, "domain": {"x": [0, 0.495], "y": [0.1, 0.94]}},
        scene2={**scene_layout, "domain": {"x": [0.505, 1], "y": [0.1, 0.94]}},
        annotations=[_title("Point scores", 0.25, 1.0), _title(f"Ground truth{truth_note}", 0.75, 1.0)],
        height=CLOUD_HEIGHT,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        meta=viewpoint,  # read by linked_cameras.html
        paper_bgcolor="rgba(0,0,0,0)",
    )
    return figure


def _cloud(points: np.ndarray, colours: np.ndarray, scene: str) -> go.Scatter3d:
    """Points in colours (m, 3), 0 to 255, moved and scaled into the cube from -1 to 1."""
    low, high = points.min(axis=0), points.max(axis=0)
    x, y, z = ((points - (low + high) / 2) / max(float((high - low).max()) / 2, 1e-12)).round(4).T
    marker = {"size": 3.2 if len(points) < 15_000 else 2.4, "line": {"width": 0}, **_marker_colours(colours)}
    return go.Scatter3d(x=x, y=y, z=z, scene=scene, mode="markers", marker=marker, showlegend=False)


def _marker_colours(colours: np.ndarray) -> dict[str, object]:
    """Marker of a trace whose points have (m, 3) colours, 0 to 255.

    Numbers into a scale of the colours that occur: plotly takes a second to check as many single colours.
    """
    steps = (np.clip(colours, 0, 255) / COLOUR_STEP).round().astype(int)
    keys, index = np.unique(steps @ (1 << 16, 1 << 8, 1), return_inverse=True)
    shades = np.stack([keys >> 16, keys >> 8 & 255, keys & 255], axis=1) * COLOUR_STEP
    names = [f"rgb({red},{green},{blue})" for red, green, blue in shades.clip(0, 255)]
    if len(names) == 1:
        names *= 2  # a scale has two ends
    scale = list(zip(np.linspace(0, 1, len(names)), names, strict=True))
    return {"color": index, "cmin": 0, "cmax": len(names) - 1, "colorscale": scale}


def _laid_over(surface: np.ndarray, scores: np.ndarray, opacity: float, limits: Range) -> np.ndarray:
    """Colours (m, 3) of scores over those of the surface."""
    from gsclip.report.overlays import colours

    return (1 - opacity) * surface + opacity * colours(scores, limits)


def _scale_bar(opacity: float, limits: Range) -> go.Scatter3d:
    """A trace without points that carries the colour bar: scores over a surface that faces the camera."""
    places = np.linspace(0, 1, 33)
    levels = limits[0] + places * (limits[1] - limits[0])
    shades = _laid_over(np.array(SURFACE), levels, opacity, limits).round().astype(int)
    bar = {
        "orientation": "h",
        "x": 0.25,
        "xanchor": "center",
        "y": 0,
        "yanchor": "bottom",
        "len": 0.36,
        "thickness": 10,
        "tickvals": list(np.linspace(*limits, 5)),
        "tickformat": ".3f",
    }
    marker = {
        "color": [limits[0]],
        "cmin": limits[0],
        "cmax": limits[1],
        "colorscale": [(place, f"rgb({r},{g},{b})") for place, (r, g, b) in zip(places, shades, strict=True)],
        "showscale": True,
        "colorbar": bar,
    }
    return go.Scatter3d(x=[None], y=[None], z=[None], mode="markers", marker=marker, showlegend=False)


def _title(text: str, x: float, y: float) -> dict[str, object]:
    anchors = {"xanchor": "center", "yanchor": "top"}
    return {"text": text, "x": x, "y": y, "xref": "paper", "yref": "paper", **anchors, "showarrow": False}
