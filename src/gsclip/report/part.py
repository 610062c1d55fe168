"""One page about one part: decision, score, views under their maps; as HTML for the browser, as PDF for the file."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsclip.data.sample import Sample
from gsclip.report.overlays import overlay_image, png_bytes
from gsclip.report.page import template
from gsclip.report.palette import ScoreRange
from gsclip.scores.prediction import Prediction
from gsclip.views.views import Views

A4 = (8.27, 11.69)  # inches
VIEWS_SHOWN = 3
NOTE = (
    "The object score is a probability between 0 and 1; at or above the threshold the part is called abnormal. Bright "
    "colours are points that look unlike a sound part. The score orders parts; it is no measurement of a defect."
)


@dataclass(frozen=True)
class PartReport:
    """What the page says.

    Attributes:
        name: of the scan.
        object_score: score of the part.
        threshold: in effect; ``None`` for none.
        facts: further lines, name and value.
        picture: PNG of the views under their maps.
    """

    name: str
    object_score: float
    threshold: float | None
    facts: tuple[tuple[str, str], ...]
    picture: bytes

    @property
    def decision(self) -> str:
        """The decision in a word or two."""
        if self.threshold is None:
            return "no decision"
        return "abnormal" if self.object_score >= self.threshold else "normal"


def part_report(
    facts: Mapping[str, Any],
    sample: Sample,
    views: Views,
    prediction: Prediction,
    *,
    threshold: float | None,
    score_range: ScoreRange,
    scored_at: str = "",
) -> PartReport:
    """Collect what the page of one part says.

    Args:
        facts: as in the JSON of ``gsclip score``.
        sample: the part.
        views: its views.
        prediction: its scores.
        threshold: of the object score.
        score_range: scores of the first and the last colour.
        scored_at: date and time; empty for none, so that equal parts give equal bytes.
    """
    name = str(facts["name"])
    image = overlay_image(
        sample, views, prediction, name=name, threshold=threshold, score_range=score_range, views_shown=VIEWS_SHOWN
    )
    sides = " × ".join(f"{side:.4g}" for side in np.ptp(sample.points, axis=0))
    probabilities = ", ".join(f"{value:.2f}" for value in prediction.view_probabilities)
    trained = facts.get("trained_on") or {}
    lines = [
        ("Points of the part", f"{int(facts['points']):,}"),
        ("Extent x × y × z", f"{sides} (unit of the scan)"),
        ("Highest point score", f"{float(prediction.point_scores.max()):.3f}"),
        ("Probability of a defect by view", probabilities),
        ("Model trained on", ", ".join(trained.get("auxiliary_categories", ())) or "not stated"),
        ("Scored at", scored_at),
    ]
    return PartReport(
        name=name,
        object_score=float(prediction.object_score),
        threshold=threshold,
        facts=tuple((label, value) for label, value in lines if value),
        picture=png_bytes(image),
    )


def part_html(report: PartReport) -> str:
    """The page as one HTML file that loads nothing; prints on one sheet."""
    picture = "data:image/png;base64," + base64.b64encode(report.picture).decode("ascii")
    return template("part.html.j2").render(report=report, picture=picture, note=NOTE)


def part_pdf(report: PartReport) -> bytes:
    """The page as PDF, A4 upright, with text that can be searched; the same report gives the same bytes."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure
    from PIL import Image

    picture = Image.open(io.BytesIO(report.picture))
    page = Figure(figsize=A4)
    FigureCanvasPdf(page)
    colour = {"abnormal": "#B34700", "normal": "#005A8C"}.get(report.decision, "#5B6773")
    left, width = 0.08, 0.84

    def line(text: str, y: float, x: float = left, **style: Any) -> None:  # noqa: ANN401 - matplotlib's text options
        page.text(x, y, text, va="top", parse_math=False, **{"fontsize": 10, "color": "#1F2933", **style})

    line("gsclip · report on one part", 0.955, fontsize=9, color="#5B6773")
    line(_fitting(report.name), 0.935, fontsize=16, weight="bold")
    line(report.decision.capitalize(), 0.897, fontsize=20, weight="bold", color=colour)
    threshold = "no threshold" if report.threshold is None else f"threshold {report.threshold:.3f}"
    line(f"object score {report.object_score:.3f}   ·   {threshold}", 0.868, fontsize=11)
    height = width * A4[0] * picture.height / picture.width / A4[1]
    axes = page.add_axes((left, 0.835 - height, width, height))
    axes.imshow(np.asarray(picture))
    axes.axis("off")
    y = 0.815 - height
    for label, value in report.facts:
        line(label, y, color="#5B6773")
        line(_fitting(value, 70), y, x=left + 0.3)
        y -= 0.022
    for place, part in enumerate(textwrap.wrap(NOTE, 105)):
        line(part, y - 0.02 - 0.017 * place, fontsize=8.5, color="#5B6773")
    output = io.BytesIO()
    page.savefig(output, format="pdf", metadata={"CreationDate": None, "Title": f"gsclip: {report.name}"})
    return output.getvalue()


def _fitting(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
