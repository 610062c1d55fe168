"""The readable report of a monitoring run, in Markdown."""

from __future__ import annotations

from pathlib import Path

from gsclip.monitoring.meaning import NO_ACCURACY, REJECTED
from gsclip.monitoring.verdict import REJECTED_LIMIT, Verdict


def markdown_report(verdict: Verdict, *, page: Path, reference: Path, action: str) -> str:
    """Write what a monitoring run found.

    Args:
        verdict: of the window.
        page: Evidently's page, if it was written.
        reference: folder of the reference.
        action: what was done about an alarm; empty without one.
    """
    sections = [f"# Monitoring: {verdict.outcome}", verdict.text[0].upper() + verdict.text[1:] + "."]
    if action:
        sections.append(action)
    if verdict.meanings:
        sections.append("## What it means")
        sections += [
            f"**{meaning.name.capitalize()}.** Look at: {meaning.look_at}. Retraining {meaning.retraining}."
            for meaning in verdict.meanings
        ]
        sections.append(NO_ACCURACY)
    if verdict.result is not None or verdict.meanings:
        sections += ["## Columns", _columns(verdict)]
    sections += ["## Window", _window(verdict, reference)]
    if verdict.notes:
        sections += ["## Notes", "\n".join(f"- {note}" for note in verdict.notes)]
    if page.is_file():
        sections += ["## Where to look", f"- Distributions: {page.as_uri()}"]
    return "\n\n".join(sections) + "\n"


def _columns(verdict: Verdict) -> str:
    lines = ["| Column | Distance | Threshold | Reference | Window | |", "|---|---:|---:|---:|---:|---|"]
    if REJECTED in verdict.drifted_columns:
        lines.append(f"| {REJECTED} | {verdict.rejected_share:.3g} | {REJECTED_LIMIT:g} | – | – | **drift** |")
    columns = () if verdict.result is None else verdict.result.columns
    for column in sorted(columns, key=lambda column: -column.distance / column.threshold):
        means = [f"{mean:.4g}" if mean is not None else "–" for mean in (column.reference_mean, column.current_mean)]
        mark = "**drift**" if column.drifted else ""
        lines.append(
            f"| {column.column} | {column.distance:.3f} | {column.threshold:.3f} | {' | '.join(means)} | {mark} |"
        )
    return "\n".join(lines)


def _window(verdict: Verdict, reference: Path) -> str:
    lines = [
        f"- Scans: {verdict.scans}, rejected: {verdict.rejected}",
        f"- Batches: {' to '.join(verdict.batches) or 'none'}",
        f"- Models: {', '.join(verdict.models) or 'none'}",
        f"- Reference: {reference}",
    ]
    if verdict.result is not None:
        rate = 100 * verdict.result.false_alarm_rate
        lines.append(f"- Reference scans: {verdict.result.reference_rows}; by chance {rate:g} % of windows alarm")
    return "\n".join(lines)
