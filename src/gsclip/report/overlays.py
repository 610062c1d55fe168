"""Pictures of one sample: its views under the anomaly maps, its point scores, its ground truth.

Pure functions of arrays. Every picture of a run is drawn with one range of scores, so that equal colours mean equal
scores everywhere; scores outside the range take the colour of its end.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from gsclip.data.sample import Sample
from gsclip.metrics.table import GOOD
from gsclip.report.palette import (
    TRUTH_COLOUR,
    ScoreRange,
    anomaly_maps,
    blend_map,
    colours,
    depth_panel,
    grey_panel,
    tint,
)
from gsclip.scores.prediction import Prediction
from gsclip.views.views import Views

TRUTH_OPACITY = 0.75
PAPER = (255, 255, 255)
INK = (31, 41, 51)
FAINT_INK = (91, 103, 115)
SMALLEST_PANEL = 200  # pixels; smaller images are enlarged so that their captions fit
GAP = 10
CAPTION_HEIGHT = 20
HEADER_HEIGHT = 54
COLOUR_BAR_WIDTH = 64


def points_panel(views: Views, point_scores: np.ndarray, score_range: ScoreRange, view: int = 0) -> np.ndarray:
    """Draw the scores of the visible points at their pixels of one view.

    Of several points on a pixel the highest score is drawn; pixels of the part between points take the nearest.

    Args:
        views: the views of the sample.
        point_scores: (n,) in the order of the points.
        score_range: see :func:`colours`.
        view: which view; 0 is the most frontal one.

    Returns:
        (h, w, 3) uint8 RGB in the pure colours of the map, the background white.
    """
    foreground = views.foreground[view]
    seen = views.visible[view]
    rows, columns = views.pixels[view][seen].astype(int).T
    image = np.full(foreground.shape, -np.inf)
    np.maximum.at(image, (rows, columns), point_scores[seen])
    nearest = ndimage.distance_transform_edt(np.isneginf(image), return_distances=False, return_indices=True)
    panel = np.full((*foreground.shape, 3), 255, dtype=np.uint8)
    panel[foreground] = colours(image[tuple(nearest)][foreground], score_range)
    return panel


def truth_panel(views: Views, view: int = 0) -> np.ndarray:
    """Rendered image with the defect tinted where it is known: (h, w, 3) uint8."""
    rendered = views.rendered[view]
    if views.mask is None:
        return grey_panel(rendered)
    return tint(rendered, views.mask[view], np.array(TRUTH_COLOUR), TRUTH_OPACITY)


def overlay_image(
    sample: Sample,
    views: Views,
    prediction: Prediction,
    *,
    name: str,
    defect: str = "",
    threshold: float | None = None,
    score_range: ScoreRange = (0.0, 1.0),
    views_shown: int = 3,
) -> Image.Image:
    """Draw one sample: rendered views under their anomaly maps, depth views, point scores, ground truth.

    Args:
        sample: the sample.
        views: its views, most frontal first.
        prediction: its scores.
        name: its name, shown on top.
        defect: ``good``, the kind of defect, or empty where it is not known.
        threshold: of the object score; ``None`` where there is none.
        score_range: see :func:`colours`; the same for all samples that are compared.
        views_shown: number of views, the most frontal ones; all where there are fewer.

    Returns:
        RGB image of two rows: maps and point scores above, depth and ground truth below, a colour bar at the right.
    """
    maps = anomaly_maps(prediction, views.rendered.shape[-1])
    upper: list[tuple[str, np.ndarray]] = []
    lower: list[tuple[str, np.ndarray]] = []
    for view in range(min(views_shown, len(views.rendered))):
        probability = prediction.view_probabilities[view]
        blended = blend_map(views.rendered[view], views.foreground[view], maps[view], score_range)
        upper.append((f"view {view + 1}: probability {probability:.3f}", blended))
        lower.append((f"depth {view + 1}", depth_panel(views.depth[view])))
    upper.append(("point scores, front", points_panel(views, prediction.point_scores, score_range)))
    lower.append((_truth_caption(sample, views, defect), truth_panel(views)))
    line = verdict(prediction.object_score, defect, threshold)
    return _strip([upper, lower], _printable(name), line, score_range)


def verdict(score: float, defect: str, threshold: float | None) -> str:
    """Say in one line what was decided about a sample, and whether rightly where that is known.

    Args:
        score: object score.
        defect: ``good``, the kind of defect, or empty where it is not known.
        threshold: of the object score; ``None`` where there is none.
    """
    parts = [f"object score {score:.3f}"]
    if threshold is not None:
        alarm = score >= threshold
        parts += [f"threshold {threshold:.3f}", f"decision: {'abnormal' if alarm else 'normal'}"]
        if defect:
            wrong = "false alarm" if alarm else "missed"
            parts[-1] += f" ({'correct' if alarm == (defect != GOOD) else wrong})"
    parts.append(f"kind: {_printable(defect) or 'not known'}")
    return "   ·   ".join(parts)


def png_bytes(image: Image.Image) -> bytes:
    """Encode as PNG without metadata: the same picture gives the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, "PNG")
    return buffer.getvalue()


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib as mpl

    # DejaVu comes with matplotlib: the same letters on every machine, Greek and Cyrillic among them.
    file = Path(mpl.get_data_path()) / "fonts" / "ttf" / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    return ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)


def _truth_caption(sample: Sample, views: Views, defect: str) -> str:
    if views.mask is None:
        return "ground truth: not known"
    if views.mask[0].any():
        return "ground truth"
    if sample.mask is not None and sample.mask.any():
        return "ground truth: not seen from the front"
    return "ground truth: no defect" if defect in (GOOD, "") else "ground truth: no point on it"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _strip(rows: list[list[tuple[str, np.ndarray]]], title: str, subtitle: str, score_range: ScoreRange) -> Image.Image:
    """Lay captioned panels of one size out in rows, under a header and beside a colour bar."""
    side = rows[0][0][1].shape[0]
    scale = -(-SMALLEST_PANEL // side)
    panel = side * scale
    width = GAP + len(rows[0]) * (panel + GAP) + COLOUR_BAR_WIDTH
    image = Image.new("RGB", (width, HEADER_HEIGHT + len(rows) * (CAPTION_HEIGHT + panel + GAP)), PAPER)
    draw = ImageDraw.Draw(image)
    _text(draw, (GAP, 8), title, _font(16, bold=True), INK, width - 2 * GAP)
    _text(draw, (GAP, 31), subtitle, _font(13), INK, width - 2 * GAP)
    for row, panels in enumerate(rows):
        top = HEADER_HEIGHT + row * (CAPTION_HEIGHT + panel + GAP)
        for column, (caption, pixels) in enumerate(panels):
            left = GAP + column * (panel + GAP)
            _text(draw, (left, top + 2), caption, _font(12), FAINT_INK, panel)
            picture = Image.fromarray(pixels).resize((panel, panel), Image.Resampling.NEAREST)
            image.paste(picture, (left, top + CAPTION_HEIGHT))
            frame = (left - 1, top + CAPTION_HEIGHT - 1, left + panel, top + CAPTION_HEIGHT + panel)
            draw.rectangle(frame, outline=(214, 219, 224))
    _colour_bar(image, draw, (width - COLOUR_BAR_WIDTH, HEADER_HEIGHT), panel, score_range)
    return image


def _colour_bar(
    image: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], height: int, score_range: ScoreRange
) -> None:
    left, top = corner
    top += CAPTION_HEIGHT
    low, high = score_range
    levels = np.linspace(high, low, height)[:, None].repeat(14, axis=1)
    image.paste(Image.fromarray(colours(levels, score_range)), (left, top))
    draw.text((left, top - CAPTION_HEIGHT + 2), "score", font=_font(12), fill=FAINT_INK)
    for share, anchor in ((0.0, "ls"), (0.5, "lm"), (1.0, "la")):
        value = low + share * (high - low)
        draw.text((left + 19, top + round((1 - share) * height)), f"{value:.3f}", FAINT_INK, _font(12), anchor)


def _text(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    font: ImageFont.FreeTypeFont,
    colour: tuple[int, int, int],
    width: int,
) -> None:
    """Write one line, cut off with an ellipsis where it is wider than ``width`` pixels."""
    shown = text
    while len(shown) > 1 and draw.textlength(shown, font=font) > width:
        shown = shown[:-2] + "…"
    draw.text(corner, shown, font=font, fill=colour)
