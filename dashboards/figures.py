"""What the pages draw: pure functions from arrays to clouds and images for the browser.

Scores have the colours of :mod:`gsclip.report.palette`; matplotlib, from which they come, and scipy are imported
when they are first needed: the first page waits for neither.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image

SURFACE = (163, 172, 181)
SHADE = 0.45  # share of a point's brightness that depends on its normal
ALARM_COLOUR = (213, 94, 0)  # vermilion of the Okabe-Ito palette
SCALE_COLOURS = 33  # between the ends of the colour scale

Range = tuple[float, float]
Colours = np.ndarray

# Sensor frame: x to the right, y down, z away. The eye is where the sensor was; "up" is -y.
VIEWPOINTS: Mapping[str, Mapping[str, tuple[float, float, float]]] = MappingProxyType({
    "Sensor": {"eye": (0, 0, -1), "up": (0, -1, 0)},
    "Left": {"eye": (-0.77, 0, -0.64), "up": (0, -1, 0)},
    "Right": {"eye": (0.77, 0, -0.64), "up": (0, -1, 0)},
    "Above": {"eye": (0, -0.77, -0.64), "up": (0, -0.64, 0.77)},
    "Below": {"eye": (0, 0.77, -0.64), "up": (0, -0.64, -0.77)},
})


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


def cloud_content(
    points: np.ndarray,
    normals: np.ndarray,
    scores: np.ndarray,
    second: np.ndarray,
    *,
    viewpoint: str,
    opacity: float,
    limits: Range,
    lowest: float | None = None,
) -> dict[str, Any]:
    """One cloud twice, under one camera: coloured by score, and in colours of the reader's choice.

    Args:
        points: (m, 3) sensor frame.
        normals: (m, 3) unit vectors; they shade the surface.
        scores: (m,) point scores, 0 to 1.
        second: (m, 3) colours of the second cloud, 0 to 255; see :func:`truth_colours` and its like.
        viewpoint: one of :data:`VIEWPOINTS`.
        opacity: of the scores over the grey surface, 0 to 1.
        limits: scores at the ends of the colour scale.
        lowest: points of lower scores are left out of the first cloud; ``None`` shows all.

    Returns:
        What ``assets/clouds.js`` draws: ``content`` (base64 of m (x, y, z, score) as uint16, the places in the cube
        about the cloud; then m and m (red, green, blue, alpha) as uint8, alpha 0 where a point is left out), ``count``,
        ``view``, ``limits`` and the colours ``scale`` between them on a surface that faces the camera.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    extent = max(float((high - low).max()), 1e-12)
    places = np.column_stack([(points - (low + high) / 2) / extent + 0.5, scores])
    kept = np.ones(len(points), bool) if lowest is None else scores >= lowest
    first = _laid_over(surface_colours(normals), scores, opacity, limits)
    parts = (
        np.rint(places.clip(0, 1) * 65535).astype("<u2"),
        _with_alpha(first, kept),
        _with_alpha(second, np.ones_like(kept)),
    )
    levels = np.linspace(*limits, SCALE_COLOURS)
    shades = _laid_over(np.array(SURFACE), levels, opacity, limits).round().astype(int)
    return {
        "content": base64.b64encode(b"".join(part.tobytes() for part in parts)).decode("ascii"),
        "count": len(points),
        "view": VIEWPOINTS[viewpoint],
        "limits": list(limits),
        "scale": [f"rgb({red},{green},{blue})" for red, green, blue in shades],
    }


def _with_alpha(colours: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return np.column_stack([np.rint(colours).clip(0, 255), np.where(kept, 255, 0)]).astype(np.uint8)


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


def _laid_over(surface: np.ndarray, scores: np.ndarray, opacity: float, limits: Range) -> np.ndarray:
    """Colours (m, 3) of scores over those of the surface."""
    from gsclip.report.palette import colours

    return (1 - opacity) * surface + opacity * colours(scores, limits)
