"""The verdict on the newest scans of a log: drift, no drift, or too few scans to tell."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from gsclip.monitoring.columns import SCORE_COLUMNS
from gsclip.monitoring.drift import (
    PAGE_NAME,
    RESULT_NAME,
    DriftResult,
    as_json,
    checked,
    compare_windows,
    write_drift_page,
)
from gsclip.monitoring.log import LogWindow, read_window
from gsclip.monitoring.meaning import NO_ACCURACY, REJECTED, Meaning, meanings
from gsclip.monitoring.reference import Reference, read_reference
from gsclip.storage import atomic_directory, write_json

DEFAULT_WINDOW = 50
REJECTED_LIMIT = 0.2  # as prepare.rejected_share_limit has it


class Outcome(enum.StrEnum):
    """What a window shows."""

    DRIFT = "drift"
    NO_DRIFT = "no drift"
    TOO_FEW = "too few scans"


@dataclass(frozen=True)
class Verdict:
    """What was found in a window.

    Attributes:
        outcome: the verdict.
        scans: scored scans of the window.
        rejected: scans of the same time that could not be scored.
        result: the comparison; ``None`` with too few scans.
        batches: first and last batch of the window; empty without scans.
        models: versions of the models that scored the window.
        notes: what a reader should know, a sentence each.
    """

    outcome: Outcome
    scans: int
    rejected: int
    result: DriftResult | None
    batches: tuple[str, ...]
    models: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def rejected_share(self) -> float:
        """Share of the scans that could not be scored."""
        return self.rejected / max(self.scans + self.rejected, 1)

    @property
    def drifted_columns(self) -> tuple[str, ...]:
        """What raised the alarm, the farthest beyond its threshold first, the share of rejected scans before all."""
        columns = () if self.result is None else self.result.drifted_columns
        return (REJECTED, *columns) if self.outcome is Outcome.DRIFT and self._rejects else columns

    @property
    def meanings(self) -> tuple[Meaning, ...]:
        """Kinds of drift that the columns are signs of."""
        return meanings(self.drifted_columns)

    @property
    def text(self) -> str:
        """The verdict on one line."""
        scans = f"{self.scans} scans"
        if self.outcome is Outcome.TOO_FEW:
            return f"{self.outcome}: {scans}, {self.rejected} rejected"
        if self.outcome is Outcome.NO_DRIFT:
            return f"{self.outcome}: {scans}, no column beyond its threshold"
        return f"{self.outcome}: {scans}, {self.rejected} rejected, {', '.join(self.drifted_columns)}"

    @property
    def _rejects(self) -> bool:
        return self.rejected_share > REJECTED_LIMIT


def judge(window: LogWindow, reference: Reference) -> Verdict:
    """Judge a window; nothing is written.

    Scores are compared where one model scored window and reference; otherwise inputs and embeddings alone. Scans are
    too few below the smallest calibrated window; many rejected ones raise an alarm once they and the scored ones
    together are as many.
    """
    rows, notes = window.rows, list(window.notes)
    models = tuple(sorted(set(rows["model"]))) if len(rows) else ()
    thresholds = dict(reference.thresholds(len(rows)) or {})
    if not reference.settings.thresholds:
        notes.append(f"the reference holds {reference.settings.scans} scans, too few for thresholds")
    if thresholds and models != (reference.settings.model,):
        thresholds = {name: value for name, value in thresholds.items() if name not in SCORE_COLUMNS}
        notes.append(
            f"scores are not compared: the reference is of model {reference.settings.model}, "
            f"the window of {', '.join(models)}"
        )
    result = None
    if thresholds:
        result = compare_windows(reference.rows, checked(rows, "log"), thresholds)
        result = replace(
            result, false_alarm_rate=reference.settings.false_alarm_rate, splits=reference.settings.splits
        )
    smallest = min(reference.settings.thresholds, default=0)
    verdict = Verdict(
        Outcome.TOO_FEW,
        scans=len(rows),
        rejected=window.rejected,
        result=result,
        batches=tuple(dict.fromkeys([rows["batch"].iloc[0], rows["batch"].iloc[-1]])) if len(rows) else (),
        models=models,
        notes=tuple(notes),
    )
    enough = smallest and len(rows) + window.rejected >= smallest
    if (result is not None and result.drifted) or (enough and verdict.rejected_share > REJECTED_LIMIT):
        return replace(verdict, outcome=Outcome.DRIFT)
    return verdict if result is None else replace(verdict, outcome=Outcome.NO_DRIFT)


def judge_log(
    log: str | Path,
    reference: str | Path,
    folder: str | Path,
    *,
    scans: int = DEFAULT_WINDOW,
    since: datetime | None = None,
    now: datetime | None = None,
) -> Verdict:
    """Judge the newest scans of a log; write ``drift.json``, and ``drift.html`` (by Evidently) unless they are too few.

    The bytes of both depend on log and reference alone.

    Args:
        log: folder of the log.
        reference: folder of the reference.
        folder: for the two files; appears whole or not at all, an earlier one is replaced.
        scans: number of scans at most.
        since: no scan scored before it.
        now: the time.

    Raises:
        InputError: the reference cannot be used.
    """
    loaded = read_reference(reference)
    window = read_window(log, scans, since=since, now=now)
    verdict = judge(window, loaded)
    with atomic_directory(folder) as temporary:
        if verdict.result is not None:
            current = checked(window.rows, "log")
            verdict = replace(
                verdict, result=write_drift_page(loaded.rows, current, verdict.result, temporary / PAGE_NAME)
            )
        write_json(temporary / RESULT_NAME, verdict_json(verdict))
    return verdict


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """Everything about a verdict, as ``drift.json`` holds it."""
    comparison = {} if verdict.result is None else as_json(verdict.result)
    return {
        "outcome": verdict.outcome,
        "verdict": verdict.text,
        "drifted": verdict.outcome is Outcome.DRIFT,
        "drifted_columns": verdict.drifted_columns,
        "scans": verdict.scans,
        "rejected": verdict.rejected,
        "rejected_share": verdict.rejected_share,
        "batches": verdict.batches,
        "models": verdict.models,
        "meanings": [
            {"name": meaning.name, "look_at": meaning.look_at, "retraining": meaning.retraining}
            for meaning in verdict.meanings
        ],
        "scope": NO_ACCURACY,
        "method": comparison.get("method"),
        "columns": comparison.get("columns", []),
        "notes": [*verdict.notes, *comparison.get("notes", [])],
    }
