"""What the pages draw: pure functions from arrays to plotly figures and images.

Scores have the colours of :mod:`gsclip.report.palette`; matplotlib, from which they come, and scipy are imported
when they are first needed: the first page waits for neither.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import plotly.graph_objects as go
from PIL import Image

SURFACE = (163, 172, 181)
SHADE = 0.45  # share of a point's brightness that depends on its normal
ALARM_COLOUR = (213, 94, 0)  # vermilion of the Okabe-Ito palette
CLOUD_HEIGHT = 560
COLOUR_STEP = 3  # of 255, between two colours of a cloud
SYMBOL = "square"  # plotly makes 18 corners of triangles of it, 69 of a circle; two pixels wide they look alike

Range = tuple[float, float]
Colours = np.ndarray

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


def view_layers(
    rendered: np.ndarray,
    depth: np.ndarray,
    foreground: np.ndarray,
    anomaly_map: np.ndarray,
    *,
    limits: Range,
    truth: np.ndarray | None = None,
) -> dict[str, str]:
    """Layers of one view that the browser lays over each other, as data addresses of PNG files.

    Args:
        rendered: (h, w) uint8.
        depth: (h, w) uint16.
        foreground: (h, w) bool; the map covers it alone, the rest is transparent.
        anomaly_map: (h, w) scores.
        limits: scores at the ends of the colour scale.
        truth: (h, w) bool defect to outline.

    Returns:
        ``rendered``, ``depth``, ``map``, and ``truth`` where there is a defect to be seen.
    """
    from gsclip.report.palette import TRUTH_COLOUR, colours, depth_panel

    alpha = np.where(foreground, 255, 0).astype(np.uint8)
    layers = {
        "rendered": _png(np.dstack([rendered, alpha])),
        "depth": _png(np.dstack([depth_panel(depth)[..., 0], alpha])),
        "map": _png(np.dstack([colours(anomaly_map, limits), alpha])),
    }
    if truth is not None and truth.any():
        rim = outline(truth)
        layers["truth"] = _png(np.dstack([np.full((*rim.shape, 3), TRUTH_COLOUR, np.uint8), rim * np.uint8(255)]))
    addresses = ((name, base64.b64encode(content).decode("ascii")) for name, content in layers.items())
    return {name: f"data:image/png;base64,{address}" for name, address in addresses}


def outline(truth: np.ndarray) -> np.ndarray:
    """Rim two pixels wide around the true pixels of a mask (h, w)."""
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(truth, iterations=2) & ~truth)


def thumbnail(
    rendered: np.ndarray,
    foreground: np.ndarray,
    anomaly_map: np.ndarray,
    *,
    limits: Range,
    truth: np.ndarray | None,
    size: int,
) -> bytes:
    """PNG of one view under its map, the defect outlined, the background transparent; arguments as of the layers."""
    from gsclip.report.palette import TRUTH_COLOUR, blend_map

    image = blend_map(rendered, foreground, anomaly_map, limits)
    alpha = np.where(foreground, 255, 0).astype(np.uint8)
    if truth is not None and truth.any():
        rim = outline(truth)
        image[rim], alpha[rim] = TRUTH_COLOUR, 255
    picture = Image.fromarray(np.dstack([image, alpha]))
    picture.thumbnail((size, size))
    return _png(np.asarray(picture))


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=2)
    return buffer.getvalue()


def cloud_figure(
    points: np.ndarray,
    normals: np.ndarray,
    scores: np.ndarray,
    second: np.ndarray,
    *,
    titles: tuple[str, str],
    viewpoint: str,
    opacity: float,
    limits: Range,
    point_size: float = 2.5,
    lowest: float | None = None,
    hover: str = "score %{text:.3f}",
    height: int = CLOUD_HEIGHT,
    background: str = "rgba(0,0,0,0)",
) -> go.Figure:
    """One cloud twice, under one camera: coloured by score, and in colours of the reader's choice.

    Args:
        points: (m, 3) sensor frame.
        normals: (m, 3) unit vectors; they shade the surface.
        scores: (m,) point scores.
        second: (m, 3) colours of the second cloud, 0 to 255; see :func:`truth_colours` and its like.
        titles: of the two clouds.
        viewpoint: one of :data:`VIEWPOINTS`.
        opacity: of the scores over the grey surface, 0 to 1.
        limits: scores at the ends of the colour scale.
        point_size: diameter in pixels.
        lowest: points of lower scores are left out of the first cloud; ``None`` shows all.
        hover: text at a point, in plotly's form.
        height: in pixels.
        background: colour behind the clouds.
    """
    surface = surface_colours(normals)
    kept = np.ones(len(points), bool) if lowest is None else scores >= lowest
    frame = _frame(points)
    first = _cloud(points[kept], frame, _laid_over(surface[kept], scores[kept], opacity, limits), "scene", point_size)
    first.update(text=scores[kept].astype(float).round(3), hovertemplate=f"{hover}<extra></extra>")
    other = _cloud(points, frame, second, "scene2", point_size).update(hoverinfo="skip")
    figure = go.Figure([first, other, _scale_bar(opacity, limits)])
    scene_layout = {
        **{axis: {"visible": False, "range": [-1.05, 1.05]} for axis in ("xaxis", "yaxis", "zaxis")},
        "aspectmode": "cube",
        "camera": camera(viewpoint),
        "dragmode": "orbit",
        "bgcolor": background,
    }
    figure.update_layout(
        scene={**scene_layout, "domain": {"x": [0, 0.495], "y": [0.1, 0.94]}},
        scene2={**scene_layout, "domain": {"x": [0.505, 1], "y": [0.1, 0.94]}},
        annotations=[_title(titles[0], 0.25, 1.0), _title(titles[1], 0.75, 1.0)],
        height=height,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        meta=viewpoint,  # read by linked_cameras.html
        paper_bgcolor="rgba(0,0,0,0)",
    )
    return figure


def surface_colours(normals: np.ndarray) -> np.ndarray:
    """Grey shades (m, 3) of a surface with (m, 3) unit normals, lit from the sensor."""
    return np.asarray(_brightness(normals) * SURFACE)


def truth_colours(normals: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The surface with its defect (m,) in the colour of the ground truth; grey where it is unknown."""
    return _marked(normals, np.zeros(len(normals), bool) if mask is None else mask)


def decided_colours(normals: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """The surface with the points of scores at or above a threshold in the colour of alarms."""
    return _marked(normals, scores >= threshold, ALARM_COLOUR)


def _marked(normals: np.ndarray, where: np.ndarray, colour: tuple[int, int, int] | None = None) -> np.ndarray:
    from gsclip.report.palette import TRUTH_COLOUR

    marked = surface_colours(normals)
    marked[where] = _brightness(normals[where]) * (TRUTH_COLOUR if colour is None else colour)
    return marked


def _brightness(normals: np.ndarray) -> np.ndarray:
    return np.asarray((1 - SHADE + SHADE * np.abs(normals[:, 2]))[:, None])


def _frame(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and half extent of the cube around a cloud."""
    low, high = points.min(axis=0), points.max(axis=0)
    return (low + high) / 2, max(float((high - low).max()) / 2, 1e-12)


def _cloud(
    points: np.ndarray, frame: tuple[np.ndarray, float], colours: np.ndarray, scene: str, size: float
) -> go.Scatter3d:
    """Points in colours (m, 3), 0 to 255, moved and scaled into the cube from -1 to 1."""
    x, y, z = ((points - frame[0]) / frame[1]).astype(float).round(4).T
    if not len(points):
        return go.Scatter3d(x=[None], y=[None], z=[None], scene=scene, mode="markers", showlegend=False)
    marker = {"symbol": SYMBOL, "size": size, "line": {"width": 0}, **_marker_colours(colours)}
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
    from gsclip.report.palette import colours

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
