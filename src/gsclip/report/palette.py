"""Colours of scores and of ground truth, and the pixels that carry them. Quick to import: pages need it at once."""

from __future__ import annotations

import numpy as np

from gsclip.scores.prediction import Prediction

OPACITY = 0.6
TRUTH_COLOUR = (0, 158, 115)  # bluish green of the Okabe-Ito palette: not a colour of the map
DEPTH_LEVELS = 65535  # of depth images

ScoreRange = tuple[float, float]

# RGB of matplotlib's `inferno`, which takes a quarter of a second to import. Brightness rises evenly with the score:
# readable without colour vision, and in grey print.
_COLOURS = np.frombuffer(bytes.fromhex(
    "00000300000400000601000701010901010b02010e02021003021204031404031605041806041b07051d08061f0906210a07230b07260d0828"
    "0e082a0f092d10092f120a32130a34140b36160b39170b3b190b3e1a0b401c0c431d0c451f0c47200c4a220b4c240b4e260b50270b52290b54"
    "2b0a562d0a582e0a5a300a5c32095d34095f3509603709613909623b09643c09653e0966400966410967430a68450a69460a69480b6a4a0b6a"
    "4b0c6b4d0c6b4f0d6c500d6c520e6c530e6d550f6d570f6d58106d5a116d5b116e5d126e5f126e60136e62146e63146e65156e66156e68166e"
    "6a176e6b176e6d186e6e186e70196e72196d731a6d751b6d761b6d781c6d7a1c6d7b1d6c7d1d6c7e1e6c801f6b811f6b83206b85206a86216a"
    "88216a8922698b22698d23698e24689024689125679325679526669626669827659928649b28649c29639e2963a02a62a12b61a32b61a42c60"
    "a62c5fa72d5fa92e5eab2e5dac2f5cae305baf315bb1315ab23259b43358b53357b73456b83556ba3655bb3754bd3753be3852bf3951c13a50"
    "c23b4fc43c4ec53d4dc73e4cc83e4bc93f4acb4049cc4148cd4247cf4446d04544d14643d24742d44841d54940d64a3fd74b3ed94d3dda4e3b"
    "db4f3adc5039dd5238de5337df5436e05634e25733e35832e45a31e55b30e65c2ee65e2de75f2ce8612be9622aea6428eb6527ec6726ed6825"
    "ed6a23ee6c22ef6d21f06f1ff0701ef1721df2741cf2751af37719f37918f47a16f57c15f57e14f68012f68111f78310f7850ef8870df8880c"
    "f88a0bf98c09f98e08f99008fa9107fa9306fa9506fa9706fb9906fb9b06fb9d06fb9e07fba007fba208fba40afba60bfba80dfbaa0efbac10"
    "fbae12fbb014fbb116fbb318fbb51afbb71cfbb91efabb21fabd23fabf25fac128f9c32af9c52cf9c72ff8c931f8cb34f8cd37f7cf3af7d13c"
    "f6d33ff6d542f5d745f5d948f4db4bf4dc4ff3de52f3e056f3e259f2e45df2e660f1e864f1e968f1eb6cf1ed70f1ee74f1f079f1f27df2f381"
    "f2f485f3f689f4f78df5f891f6fa95f7fb99f9fc9dfafda0fcfea4"
), np.uint8).reshape(256, 3)  # fmt: skip


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
    return _COLOURS[np.rint(position * 255).astype(int)]


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
