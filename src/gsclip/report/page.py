"""The page: one HTML file with everything inside, and ``report.json`` with the same figures."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from gsclip.metrics.table import METRICS, categories_table
from gsclip.report import figures
from gsclip.report.content import METRIC_NAMES, Run, plain_text, report_content
from gsclip.report.curves import pr_curves, roc_curves
from gsclip.report.gallery import BEST, HIGHEST_GOOD, WORST, ItemReader, Picture, draw_gallery, evaluated_rows
from gsclip.storage import write_json, write_text

TEMPLATES = Path(__file__).parent / "templates"
GROUP_TITLES = {
    WORST: "Worst localised defects",
    HIGHEST_GOOD: "Good samples with the highest scores",
    BEST: "Best localised defects",
}


def write_report(folder: str | Path, run: Run, read: ItemReader, *, gallery: int = 4) -> Path:
    """Write ``index.html`` and ``report.json``.

    Args:
        folder: where to; made if it is missing.
        run: what to report.
        read: gives sample, views and prediction of the samples shown, one at a time.
        gallery: number of best, of worst and of good samples shown.

    Returns:
        Path of the page. It loads nothing from anywhere, and says so to the browser.
    """
    folder = Path(folder)
    pictures = draw_gallery(evaluated_rows(run.samples), read, count=gallery, threshold=run.threshold)
    content = report_content(run, pictures)
    write_json(folder / "report.json", content)
    write_text(folder / "index.html", render_page(content, run_figures(run), pictures))
    return folder / "index.html"


def run_figures(run: Run) -> dict[str, dict[str, Any]]:
    """Figures of a run by the identifier of their place on the page, as JSON values for plotly.js."""
    samples = evaluated_rows(run.samples)
    labels, scores = samples["label"].to_numpy(), samples["object_score"].to_numpy()
    table = _categories_with_intervals(run.metrics)
    drawn = {
        "categories-object": figures.category_figure(table, "o_auroc", METRIC_NAMES["o_auroc"][0]),
        "categories-point": figures.category_figure(table, "point_auroc", METRIC_NAMES["point_auroc"][0]),
        "histogram": figures.score_histogram(labels, scores, run.threshold),
        "operating": figures.operating_figure(labels, scores, run.threshold),
        "kinds": figures.kinds_figure(samples["defect"].tolist(), scores, run.threshold),
        "roc": figures.roc_figure(roc_curves(samples)),
        "precision-recall": figures.pr_figure(pr_curves(samples), float(labels.mean())),
    }
    for place, curve in enumerate(run.learning.values()):
        drawn[f"learning-{place}"] = figures.learning_figure(curve)
    return {name: json.loads(figure.to_json()) for name, figure in drawn.items()}


def render_page(
    content: Mapping[str, Any], figures_by_id: Mapping[str, Mapping[str, Any]], pictures: Sequence[Picture]
) -> str:
    """Fill the template; the result depends on the arguments alone."""
    drawn = [
        {
            "source": "data:image/png;base64," + base64.b64encode(picture.png).decode("ascii"),
            "width": picture.size[0],
            "height": picture.size[1],
        }
        for picture in pictures
    ]
    return template("report.html.j2").render(
        content=content,
        figures=figures_by_id,
        pictures=drawn,
        group_titles=GROUP_TITLES,
        metrics=METRICS,
        metric_names=METRIC_NAMES,
        plotly=_plotly_source(),
    )


def _categories_with_intervals(metrics: Mapping[str, Any]) -> pd.DataFrame:
    table = categories_table(metrics)
    for end, place in (("low", 0), ("high", 1)):
        ends = [metrics["categories"][category]["point_auroc_interval"][place] for category in table["category"]]
        table[f"point_auroc_{end}"] = pd.Series(ends, dtype=float)
    return table


@cache
def _plotly_source() -> Markup:
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())  # noqa: S704 - a file of the plotly package


def template(name: str) -> jinja2.Template:
    """A template of this package, with the filters ``figure``, ``per_cent`` and ``plain``; everything is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _three_decimals
    environment.filters["per_cent"] = _per_cent
    environment.filters["plain"] = plain_text
    return environment.get_template(name)


def _three_decimals(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _per_cent(value: float | None) -> str:
    """One decimal of a figure that is per cent already, as papers print it."""
    return "–" if value is None else f"{value:.1f}"
