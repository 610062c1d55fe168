"""The log of scored scans: a folder with one file of JSON lines a batch, one line a scan, written once it is known.

Files are only ever added to, a line at a time and flushed to the disk: whatever ends a batch, the scans it scored are
in the log, and at most a last line is torn, which reading leaves out. A line holds

====================================  ==========================================================================
``time``                              when the scan was scored or rejected, ISO 8601, UTC
``batch``                             the file's name without ``.jsonl``: time of its start and a random number
``scan``, ``scan_sha256``             the file, and SHA-256 of its bytes
``model``                             see :func:`gsclip.detector.model_version`
``rejected``                          why the scan could not be scored; the line ends there
columns of ``samples.csv``            geometry, statistics of the views, embedding, scores and decision
====================================  ==========================================================================
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsclip.errors import printable
from gsclip.monitoring.columns import EMBEDDING_COLUMNS, VALUE_COLUMNS
from gsclip.storage import append_line, plain, sha256

if TYPE_CHECKING:
    import pandas as pd

LOG_FOLDER = "log"  # within the folder of the monitoring
RUNS_FILE = "runs.jsonl"
EXTENSION = ".jsonl"
BATCH_TIME = "%Y%m%dT%H%M%SZ"
CLOCK_TOLERANCE = timedelta(minutes=5)  # between the clocks of the machines that write and read
LONGEST_BATCH = timedelta(days=2)  # files that were begun so long before a window are not read for it
_BATCH = re.compile(r"(?P<time>\d{8}T\d{6}Z)-[0-9a-f]{8}")


class BatchLog:
    """Writes the log of one batch.

    Args:
        folder: of the log; made with the first line.
        model: version of the model.
        now: the start of the batch.
    """

    def __init__(self, folder: str | Path, model: str, now: datetime | None = None) -> None:
        self.batch = f"{(now or datetime.now(UTC)).astimezone(UTC).strftime(BATCH_TIME)}-{secrets.token_hex(4)}"
        self.path = Path(folder) / (self.batch + EXTENSION)
        self._model = model
        self._now = now

    def scored(self, scan: str | Path, row: Mapping[str, Any]) -> None:
        """Log a scan that was scored.

        Args:
            scan: its file.
            row: its row of ``samples.csv``.

        Raises:
            OSError: the line could not be written: no space, no permission.
        """
        self._write(scan, {"scan_sha256": sha256(scan), **row})

    def rejected(self, scan: str | Path, problem: str) -> None:
        """Log a scan that could not be scored, and why.

        Raises:
            OSError: see :meth:`scored`.
        """
        self._write(scan, {"rejected": problem})

    def _write(self, scan: str | Path, values: Mapping[str, Any]) -> None:
        time = (self._now or datetime.now(UTC)).isoformat(timespec="milliseconds")
        line = {"time": time, "batch": self.batch, "scan": printable(scan), "model": self._model, **values}
        append_line(self.path, json.dumps(plain(line), allow_nan=False))


@dataclass(frozen=True)
class LogWindow:
    """The newest scans of a log.

    Attributes:
        rows: scored ones, oldest first; columns of the log's lines.
        rejected: number of scans that were rejected in the same time.
        notes: what was left out and why, a sentence each.
    """

    rows: pd.DataFrame
    rejected: int
    notes: tuple[str, ...]


def read_window(
    folder: str | Path, scans: int, *, since: datetime | None = None, now: datetime | None = None
) -> LogWindow:
    """Read the newest scored scans of a log; memory holds them and one batch.

    A scan that was scored again by the same model counts once, as it was scored last. Left out, with a note, are torn
    or incomplete lines, scans with values that are no finite numbers, and batches dated in the future: there a clock
    was wrong.

    Args:
        folder: of the log; one that is missing or empty gives no rows.
        scans: number of scans at most.
        since: no scan scored before it.
        now: the time.
    """
    latest = (now or datetime.now(UTC)) + CLOCK_TOLERANCE
    rows: list[dict[str, Any]] = []
    seen: set[tuple[str, str]] = set()
    left_out = {"torn or incomplete lines": 0, "scans without finite numbers": 0, "batches dated in the future": 0}
    rejected = 0
    for path, started in _batches(Path(folder)):
        if started > latest:
            left_out["batches dated in the future"] += 1
            continue
        if since is not None and started < since - LONGEST_BATCH:
            break
        for line in reversed(_lines(path)):
            if not _is_line(line):
                left_out["torn or incomplete lines"] += 1
            elif since is not None and datetime.fromisoformat(line["time"]) < since:
                continue
            elif "rejected" in line:
                rejected += 1
            elif not _finite(line):
                left_out["scans without finite numbers"] += 1
            elif (key := (line["scan_sha256"], line["model"])) not in seen:
                seen.add(key)
                rows.append(line)
                if len(rows) == scans:
                    break
        if len(rows) == scans:
            break
    notes = tuple(f"left out of the log: {count} {what}" for what, count in left_out.items() if count)
    import pandas as pd

    return LogWindow(pd.DataFrame(rows[::-1]), rejected, notes)


def _batches(folder: Path) -> Iterator[tuple[Path, datetime]]:
    """Files of batches and their start, the newest first."""
    found = []
    for path in folder.glob("*" + EXTENSION):
        if match := _BATCH.fullmatch(path.stem):
            found.append((path, datetime.strptime(match["time"], BATCH_TIME).replace(tzinfo=UTC)))
    yield from sorted(found, key=lambda item: item[0].name, reverse=True)


def _lines(path: Path) -> list[Any]:
    """Content of each line; ``None`` for one that is no JSON."""
    lines: list[Any] = []
    for text in path.read_bytes().split(b"\n"):
        if text:
            try:
                lines.append(json.loads(text))
            except ValueError:
                lines.append(None)
    return lines


def _is_line(line: object) -> bool:
    """Whether a line holds everything that is read of it."""
    if not isinstance(line, dict) or not all(isinstance(line.get(name), str) for name in ("time", "model", "batch")):
        return False
    try:
        zone = datetime.fromisoformat(line["time"]).tzinfo
    except ValueError:
        return False
    columns = ("scan_sha256", *VALUE_COLUMNS, *EMBEDDING_COLUMNS)
    return zone is not None and ("rejected" in line or all(name in line for name in columns))


def _finite(line: Mapping[str, Any]) -> bool:
    values = [line[name] for name in (*VALUE_COLUMNS, *EMBEDDING_COLUMNS)]
    return all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
