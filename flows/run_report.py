"""The readable report of a retraining, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.pipeline import Outcome
from gsclip.errors import InputError
from gsclip.promotion.gate import Verdict

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


@dataclass(frozen=True)
class Registered:
    """What the registry says after a run.

    Attributes:
        version: of the run's model.
        new: whether it was registered by this run; otherwise it has been there, bit for bit.
        champion: the model in use before the run; ``None`` where there was none.
    """

    version: str
    new: bool
    champion: str | None


def markdown_report(
    *,
    run: str,
    commit: str,
    workspace: Path,
    outcomes: Mapping[str, Outcome],
    seconds: Mapping[str, float],
    scans: Mapping[str, int],
    metrics: Mapping[str, Any] | None,
    verdict: Verdict,
    registered: Registered,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    log: Path,
) -> str:
    """Write what a retraining did.

    Args:
        run: its name and its reason.
        commit: of the code and the parameters.
        workspace: folder of the DVC project.
        outcomes: of each stage, in the order of the run.
        seconds: likewise.
        scans: how many are used, and how many left out.
        metrics: content of ``outputs/metrics.json``, if any.
        verdict: of the gate.
        registered: the model's place in the registry.
        before: parameters of the commit's last run, by full name.
        after: parameters of this run.
        log: file of JSON lines.
    """
    sections = [
        "# Retraining",
        f"Run: {run}",
        f"Commit: {commit}",
        "## Decision",
        *_decision(verdict, registered),
        "## Stages",
        _table(
            ["Stage", "Outcome", "Seconds"],
            ([name, outcome, f"{seconds[name]:.1f}"] for name, outcome in outcomes.items()),
        ),
        "## Scans",
        ", ".join(f"{count} {name}" for name, count in scans.items()) or "The project has no list of scans.",
        "## Results",
        *(["No metrics: the project has no " + METRICS_FILE] if metrics is None else _results(metrics)),
        "## Changed parameters",
        _changes(before, after),
        "## Where to look",
        _places(workspace, log),
    ]
    return "\n\n".join(sections) + "\n"


def changes_table(verdict: Verdict) -> list[dict[str, str]]:
    """Rows of the metrics of champion and challenger, means first, in per cent."""
    return [
        {
            "": "mean" if change.name == change.metric else change.name,
            "Metric": _METRICS.get(change.metric, change.metric),
            "Champion": _per_cent(change.champion),
            "Challenger": _per_cent(change.challenger),
            "Difference": f"{100 * change.difference:+.1f}",
            "Bounds": "" if change.low is None or change.high is None
            else f"{100 * change.low:+.1f} to {100 * change.high:+.1f}",
        }
        for change in (*verdict.metrics, *verdict.categories)
    ]  # fmt: skip


def _decision(verdict: Verdict, registered: Registered) -> list[str]:
    version, champion = registered.version, registered.champion
    if not registered.new:
        head = f"No new model: {version} has it. Champion: {champion or 'none'}."
    elif verdict.promoted:
        head = f"**{version} is the champion**" + (f", after {champion}." if champion else ".")
    else:
        head = f"**{version} is refused**, it is kept as challenger. Champion: {champion or 'none'}."
    parts = [head, "\n".join(f"- {reason}" for reason in verdict.reasons)]
    if rows := changes_table(verdict):
        parts.append(_table(list(rows[0]), (list(row.values()) for row in rows)))
    if verdict.costs is not None:
        seconds = verdict.costs.seconds_per_object
        parts.append(
            f"Costs: {verdict.costs.megabytes:.1f} MB"
            + (", time not measured." if seconds is None else f", {seconds:.2f} seconds a part.")
        )
    return parts


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


def _places(workspace: Path, log: Path) -> str:
    report = workspace / REPORT_FILE
    rows = [["Report", report.as_uri()]] if report.is_file() else []
    places = [*rows, ["Workspace", str(workspace)], ["Log", str(log)]]
    return "\n".join(f"- {name}: {place}" for name, place in places)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown table; the columns of figures, all but the first, are right-aligned."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in [header, rule, *rows]
    )


def _per_cent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
