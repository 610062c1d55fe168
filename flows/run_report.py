"""The readable report of a retraining, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.pipeline import Outcome
from gsclip.errors import InputError

METRICS_FILE = "outputs/metrics.json"
REPORT_FILE = "outputs/report/index.html"
_METRICS = {
    "o_auroc": "Object AUROC",
    "o_ap": "Object AP",
    "point_auroc": "Point AUROC",
    "point_pro": "Point PRO",
    "pixel_auroc": "Pixel AUROC",
    "pixel_pro": "Pixel PRO",
}
_SOURCES = {"ours": "Ours", "random": "Random scores", "oracle": "Oracle"}


def read_metrics(workspace: Path) -> dict[str, Any] | None:
    """Metrics of the last evaluation; ``None`` where the project has none.

    Raises:
        InputError: the file is no JSON.
    """
    path = workspace / METRICS_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(path, f"is no JSON ({error})", "run `dvc repro evaluate`") from error
    return dict(content)


def markdown_report(
    *,
    commit: str,
    workspace: Path,
    outcomes: Mapping[str, Outcome],
    metrics: Mapping[str, Any] | None,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> str:
    """Write what a retraining did.

    Args:
        commit: of the code and the parameters.
        workspace: folder of the DVC project.
        outcomes: of each stage, in the order of the run.
        metrics: content of ``outputs/metrics.json``, if any.
        before: parameters of the run before, by full name.
        after: parameters of this run.
    """
    sections = [
        "# Retraining",
        f"Commit: {commit}",
        "## Stages",
        _table(["Stage", "Outcome"], outcomes.items()),
        "## Results",
        *(["No metrics: the project has no " + METRICS_FILE] if metrics is None else _results(metrics)),
        "## Changed parameters",
        _changes(before, after),
        "## Where to look",
        _places(workspace),
    ]
    return "\n\n".join(sections) + "\n"


def _results(metrics: Mapping[str, Any]) -> list[str]:
    """Means with chance and oracle, then each category."""
    shown = {key: name for key, name in _METRICS.items() if key in metrics["mean"]}
    means = [
        [name, *(_per_cent(metrics["mean"][metric].get(source)) for source in _SOURCES)]
        for metric, name in shown.items()
    ]
    categories = [
        [category, str(row["samples"]), *(_per_cent(row[metric]["ours"]) for metric in shown)]
        for category, row in metrics["categories"].items()
    ]
    low, high = metrics["o_auroc_interval"]
    return [
        "Mean over the test categories, in per cent:",
        _table(["Metric", *_SOURCES.values()], means),
        f"95 % interval of the mean object AUROC: {_per_cent(low)} to {_per_cent(high)}.",
        "By category, in per cent:",
        _table(["Category", "Samples", *shown.values()], categories),
    ]


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    if not before:
        return "There was no run before."
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if not names:
        return "None since the run before."
    rows = [[name, _value(before, name), _value(after, name)] for name in names]
    return _table(["Parameter", "Before", "Now"], rows)


def _value(parameters: Mapping[str, Any], name: str) -> str:
    return json.dumps(parameters[name]) if name in parameters else "–"


def _places(workspace: Path) -> str:
    report = workspace / REPORT_FILE
    rows = [["Report", report.as_uri()]] if report.is_file() else []
    return "\n".join(f"- {name}: {place}" for name, place in [*rows, ["Workspace", str(workspace)]])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown table; the columns of figures, all but the first, are right-aligned."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in [header, rule, *rows]
    )


def _per_cent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
