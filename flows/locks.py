"""A lock on a folder that lasts exactly as long as someone works in it, whatever becomes of that someone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from gsclip.errors import InputError

LOCK_FILE = "lock"
# Longer than a supervisor takes to end what a killed run had started.
PATIENCE_SECONDS = 20.0
_held: set[int] = set()


def held_locks() -> tuple[int, ...]:
    """File descriptors that a child must keep open, so that the lock lasts until it has ended, too."""
    return tuple(sorted(_held))


@contextlib.contextmanager
def exclusive(folder: Path, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Hold a folder's lock during the block. The kernel frees it when the last process that holds it is gone.

    Raises:
        InputError: another run holds it for longer than ``patience`` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK_FILE, "a+", encoding="utf-8") as file:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    file.seek(0)
                    holder = file.read().strip() or "unknown"
                    raise InputError(
                        folder, f"another run is at work there (process {holder})", "wait until it has ended"
                    ) from None
                time.sleep(0.1)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        _held.add(file.fileno())
        try:
            yield
        finally:
            _held.discard(file.fileno())
