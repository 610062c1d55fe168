"""Runs a command and all its descendants no longer than the process that started this script lives.

Usage: ``python supervisor.py COMMAND [ARGUMENT...]`` with a pipe as standard input. When the pipe closes, because its
holder closed it or is gone for whatever reason (SIGKILL included), everything that COMMAND started is ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

# DVC lets an interrupted command end and then tidies up; what is deaf to that is ended more firmly.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
PATIENCE_SECONDS = 5.0


def main(command: list[str]) -> int:
    """Run ``command``; return its exit code (negative: the signal that ended it)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background of a shell is born deaf to it
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    abandoned = threading.Event()

    def watch() -> None:
        while os.read(0, 1024):  # unbuffered: nothing to lock while the interpreter ends
            pass
        abandoned.set()
        end_group(process.pid)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    code = process.wait()
    if abandoned.is_set():
        watcher.join()  # the command's own children may outlive it for a moment
    return code


def end_group(group: int) -> None:
    """End all processes of a group, with more and more force."""
    with contextlib.suppress(ProcessLookupError):
        for number in SIGNALS:
            os.killpg(group, number)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < deadline:
                os.killpg(group, 0)
                time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
