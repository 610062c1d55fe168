"""Colours of scores and of ground truth, and the pixels that carry them. Quick to import: pages need it at once."""

from __future__ import annotations

from functools import cache

import numpy as np

from gsclip.scores.prediction import Prediction

COLOUR_MAP = "inferno"  # brightness rises evenly with the score: readable without colour vision, and in grey print
OPACITY = 0.6
TRUTH_COLOUR = (0, 158, 115)  # bluish green of the Okabe-Ito palette: not a colour of the map
DEPTH_LEVELS = 65535  # of depth images

ScoreRange = tuple[float, float]


def colours(scores: np.ndarray, score_range: ScoreRange) -> np.ndarray:
    """Colour scores by the map of this module.

    Args:
        scores: (...) finite.
        score_range: scores of the first and the last colour.

    Returns:
        (..., 3) uint8 RGB.

    Raises:
        ValueError: an empty range.
    """
    low, high = score_range
    if not low < high:
        raise ValueError(f"the range of scores is empty: {low} to {high}")
    position = np.clip((np.asarray(scores, dtype=np.float64) - low) / (high - low), 0, 1)
    return _palette()[np.rint(position * 255).astype(int)]


def anomaly_maps(prediction: Prediction, image_size: int) -> np.ndarray:
    """Enlarge the maps of all views to the size of the images, bilinearly: (v, h, w) float32.

    As :func:`gsclip.scores.similarity.enlarge_maps` does, without torch.
    """
    rows, columns = (_enlarging(side, image_size) for side in prediction.view_maps.shape[1:])
    return np.asarray(rows @ prediction.view_maps @ columns.T, dtype=np.float32)


def _enlarging(side: int, size: int) -> np.ndarray:
    """Weights (size, side) of the bilinear enlargement of one axis, pixels as areas."""
    places = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, side - 1)
    low = np.minimum(places.astype(int), max(side - 2, 0))
    weights = np.zeros((size, side), dtype=np.float32)
    share = places - low
    weights[np.arange(size), low] = 1 - share
    if side > 1:
        weights[np.arange(size), low + 1] = share
    return weights


def blend_map(
    rendered: np.ndarray,
    foreground: np.ndarray,
    anomaly_map: np.ndarray,
    score_range: ScoreRange,
    opacity: float = OPACITY,
) -> np.ndarray:
    """Lay an anomaly map over the part of a rendered image; the background stays as it is.

    Args:
        rendered: (h, w) uint8 grey.
        foreground: (h, w) bool, where the part is.
        anomaly_map: (h, w) scores.
        score_range: see :func:`colours`.
        opacity: 0 shows the image alone, 1 the map alone.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    return tint(rendered, foreground, colours(anomaly_map, score_range), opacity)


def depth_panel(depth: np.ndarray) -> np.ndarray:
    """Depth image as the depth stream sees it: (h, w) uint16, near = bright, to (h, w, 3) uint8."""
    return grey_panel(np.rint(depth * (255 / DEPTH_LEVELS)).astype(np.uint8))


def grey_panel(image: np.ndarray) -> np.ndarray:
    """Grey values (h, w) as RGB (h, w, 3)."""
    return np.repeat(image[..., None], 3, axis=-1)


def tint(rendered: np.ndarray, where: np.ndarray, colour: np.ndarray, opacity: float) -> np.ndarray:
    """Mix a colour, or one of each pixel, into a grey image (h, w) where a mask (h, w) says so: (h, w, 3) uint8."""
    grey = grey_panel(rendered)
    mixed = np.rint((1 - opacity) * grey + opacity * colour).astype(np.uint8)
    return np.where(where[..., None], mixed, grey)


@cache
def _palette() -> np.ndarray:
    import matplotlib as mpl

    levels = mpl.colormaps[COLOUR_MAP](np.arange(256), bytes=True)
    return np.asarray(levels)[:, :3]
