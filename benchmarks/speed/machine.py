"""What a result was measured on; no names of hosts, no paths."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from typing import Any

from benchmarks.shared import processor
from benchmarks.speed.common import ROOT

LIBRARIES = ("torch", "numpy", "scipy", "open3d-cpu", "open_clip_torch", "peft", "h5py")


def describe(threads: int) -> dict[str, Any]:
    """Processor, cores that may be used, memory, versions, commit."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "commit": commit(),
    }


def commit() -> str:
    """Short commit of the working tree, with ``+`` where files differ from it; ``unknown`` without git."""
    try:
        name = _git("rev-parse", "--short", "HEAD")
        return name + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
