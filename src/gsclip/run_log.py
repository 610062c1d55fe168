"""Structured logs: one line of JSON an event, with the run it belongs to."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gsclip.storage import append_line, plain


class RunLog:
    """Adds events to a file of JSON lines; processes may share the file.

    Args:
        path: the file; it need not exist. ``None``: nothing is written.
        run: identifier of the run; a random one by default.
        mask: takes secrets out of a line.
    """

    def __init__(
        self, path: Path | None, run: str | None = None, mask: Callable[[str], str] = lambda line: line
    ) -> None:
        self.run = run or secrets.token_hex(8)
        self._path, self._mask = path, mask

    def write(self, event: str, **fields: Any) -> None:  # noqa: ANN401 - any JSON value
        """Add an event: ``time`` (UTC), ``run``, ``event`` and the fields. Secrets that are not masked would stay.

        Raises:
            OSError: the line could not be written.
        """
        if self._path is not None:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = {"time": now, "run": self.run, "event": event, **fields}
            append_line(self._path, self._mask(json.dumps(plain(line), allow_nan=False)))

    @contextlib.contextmanager
    def timed(self, event: str, **fields: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401
        """Add an event at the end of the block, with its ``seconds`` and how it ended.

        Yields:
            Further fields, to be filled in the block. ``outcome`` is ``done`` unless the block says otherwise;
            ``failed`` with the ``error`` when it raises.
        """
        found: dict[str, Any] = {"outcome": "done"}
        start = time.perf_counter()
        try:
            yield found
        except BaseException as error:
            found |= {"outcome": "failed", "error": f"{type(error).__name__}: {error}"}
            raise
        finally:
            self.write(event, **fields, **found, seconds=round(time.perf_counter() - start, 3))
