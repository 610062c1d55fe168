"""Start-up of the command line.

The start of `gsclip score` is all but its steps: Python, the libraries, the model, and writing the results. No library
is loaded within a step: Open3D, which preparing uses, is loaded with the model.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.common import MODEL, Check, Found, Row, Settings, read_one_scan

COMMAND = "from gsclip.cli import app; app()"
HELP_SECONDS, SCORE_SECONDS = 0.5, 2.0


def measure(settings: Settings) -> Found:
    """Rows ``help`` and ``start``."""
    scan, description = read_one_scan(settings)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        file, model = work / "scan.npy", work / "model"
        np.save(file, np.nan_to_num(scan.points, nan=0.0))
        given = Path(settings.model) if settings.model else MODEL
        if given.is_dir():
            model = given
        else:
            from benchmarks.shared import save_untrained

            save_untrained(model)
        helps, starts, whole, inside = [], [], [], []
        first = 0 if settings.quick else 1  # what comes before fills the cache of the disk
        for repeat in range(first + settings.repeats):
            seconds = _call(["--help"])
            output = work / f"scores{repeat}"
            scored = _call(["score", str(file), "--model", str(model), "--output", str(output)])
            steps = json.loads((output / "scan.json").read_text(encoding="utf-8"))["seconds"]["total"]
            if repeat >= first:
                helps.append(seconds)
                whole.append(scored)
                inside.append(steps)
                starts.append(scored - steps)
        imports = {"gsclip --help": _imports(["--help"])}
        if not settings.quick:
            again = ["score", str(file), "--model", str(model), "--output", str(work / "imports")]
            imports["gsclip score"] = _imports(again)
    rows = [
        Row(
            name="help",
            what="gsclip --help",
            how="a process each, files in the cache of the disk",
            ours=helps,
            checks=[Check("seconds", statistics.median(helps), "<=", HELP_SECONDS, "s")],
        ),
        Row(
            name="start",
            what="gsclip score of one scan, beyond the steps that it times",
            how=f"{description}; the whole command less reading, preparing, rendering, encoding and scoring",
            ours=starts,
            checks=[Check("seconds", statistics.median(starts), "<=", SCORE_SECONDS, "s")],
            figures={"whole_seconds": statistics.median(whole), "steps_seconds": statistics.median(inside)},
        ),
    ]
    return Found(rows, {f"{name}: imports": shares for name, shares in imports.items()})


def _call(arguments: Sequence[str]) -> float:
    start = time.perf_counter()
    _run([sys.executable, "-c", COMMAND, *arguments])
    return time.perf_counter() - start


def _run(command: Sequence[str]) -> str:
    """Standard error of a command.

    Raises:
        RuntimeError: when it fails, with what it wrote.
    """
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:])}: {done.stderr}")
    return done.stderr


def _imports(arguments: Sequence[str], most: int = 8) -> list[dict[str, Any]]:
    """Packages whose modules take longest to import, by themselves; as :func:`where_time_goes`."""
    seconds: dict[str, float] = defaultdict(float)
    modules: dict[str, int] = defaultdict(int)
    for line in _run([sys.executable, "-X", "importtime", "-c", COMMAND, *arguments]).splitlines():
        fields = line.removeprefix("import time:").split("|")
        if len(fields) == 3 and fields[0].strip().isdigit():
            package = fields[2].strip().split(".")[0]
            seconds[package] += int(fields[0]) / 1e6
            modules[package] += 1
    total = sum(seconds.values())
    return [
        {"where": package, "calls": modules[package], "seconds": value, "share": value / total}
        for package, value in sorted(seconds.items(), key=lambda item: -item[1])[:most]
    ]
