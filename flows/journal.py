"""The log of one run for machines: a file of JSON lines, one event a line.

Every line has ``time`` (UTC), ``run`` (its id) and ``event``; durations are in ``seconds`` and come from a clock that
is never set. Secrets are masked.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.secrets import without_secrets
from gsclip.run_log import RunLog


class Journal:
    """Appends events to ``<folder>/<start>-<run>.jsonl``.

    Attributes:
        path: the file.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self._start = time.monotonic()
        self.path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{run[:8]}.jsonl"
        self._log = RunLog(self.path, run, without_secrets)

    def write(self, event: str, **facts: Any) -> None:  # noqa: ANN401 - any JSON values
        """Append one event."""
        self._log.write(event, **facts)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """Tell start and end of a step, with seconds; what the block puts into the mapping goes to the end's line."""
        self.write("started", step=name)
        start, facts = time.monotonic(), dict[str, Any]()
        try:
            yield facts
        except BaseException as error:
            # The message of an error of the command's output has many lines; all of them are in the run's log.
            first = next(iter(str(error).splitlines()), "")
            self.write("failed", step=name, seconds=_seconds(start), error=f"{type(error).__name__}: {first}")
            raise
        self.write("finished", step=name, seconds=_seconds(start), **facts)

    def seconds(self) -> float:
        """Since the journal was opened."""
        return _seconds(self._start)


def _seconds(start: float) -> float:
    return round(time.monotonic() - start, 3)
