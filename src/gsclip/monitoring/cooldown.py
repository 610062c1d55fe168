"""The pause between two alarms that are passed on, kept in a file beside the log."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gsclip.errors import InputError
from gsclip.storage import write_json

STATE_FILE = "last_alarm.json"
LOCK_FILE = ".last_alarm.lock"


@dataclass(frozen=True)
class Cooldown:
    """State of the pause.

    Attributes:
        last: when an alarm was passed on for the last time; ``None``: never.
        until: when the next one may be.
    """

    last: datetime | None
    until: datetime | None

    @property
    def waiting(self) -> bool:
        """Whether the pause lasts."""
        return self.until is not None


@contextlib.contextmanager
def hold(folder: str | Path) -> Iterator[None]:
    """Let no other process of this machine pass an alarm of the folder on during the block; wait for it."""
    path = Path(folder) / LOCK_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def read_cooldown(folder: str | Path, pause: timedelta, now: datetime | None = None) -> Cooldown:
    """Tell whether the pause after the last alarm still lasts.

    An alarm dated in the future does not count: a clock was wrong then.

    Raises:
        InputError: the file of the last alarm is damaged.
    """
    path = Path(folder) / STATE_FILE
    now = now or datetime.now(UTC)
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Cooldown(None, None)
    try:
        last = datetime.fromisoformat(json.loads(content)["time"])
        until = last + pause
        return Cooldown(last, until if last <= now < until else None)
    except (ValueError, KeyError, TypeError) as error:
        problem = "does not hold the time of the last alarm"
        raise InputError(path, problem, "delete it; the next alarm counts") from error


def start_cooldown(folder: str | Path, now: datetime, **facts: str) -> None:
    """Note that an alarm was passed on."""
    write_json(Path(folder) / STATE_FILE, {"time": now.isoformat(), **facts})
