"""A dashboard on a free port, and the system's Chromium to look at it; for the benchmark and the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE = 180_000  # milliseconds; imports take long on a busy machine
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CLOUDS = ".st-key-clouds canvas"
# Whether the server has no more to say.
IDLE = """() => !document.querySelector("[data-testid=stStatusWidget]")
    && !document.querySelector("[data-testid=stSkeleton]") && !document.querySelector("[data-stale=true]")"""


class Server:
    """A dashboard on a workspace, whose output goes to ``server.log`` there; it can be started again on its port."""

    def __init__(self, root: Path) -> None:
        """Start it, and wait until it answers."""
        self.root, self.port = root, free_port()
        self.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://localhost:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "dashboards", f"--server.port={self.port}"]
        environment = {**os.environ, "GSCLIP_WORKSPACE": str(self.root)}
        with open(self.root / "server.log", "a") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        self._wait()

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(timeout=30)

    def peak_memory(self) -> float:
        """Peak resident memory in MiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"the dashboard has stopped; see {self.root / 'server.log'}")
            try:
                with urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=5):  # noqa: S310 - this machine
                    return
            except OSError:
                time.sleep(0.05)
        self.process.kill()
        raise RuntimeError(f"the dashboard does not answer; see {self.root / 'server.log'}")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
