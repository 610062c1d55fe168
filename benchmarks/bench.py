"""Our speed beside that of naive re-implementations of the references, in one run; the table of targets.

Every group of rows runs in a process of its own, its variants in turn. Without ``--scans`` scans are generated, of the
size of real ones; without ``--model`` it is ``models/gsclip``, or an untrained detector. ``make bench`` calls it.

    python -m benchmarks.bench --scans data/mvtec_3d_ad --full-size --output benchmarks/results/speed
    python -m benchmarks.bench --only views overlap --against benchmarks/results/speed.json
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.shared import write_results
from benchmarks.speed import machine
from benchmarks.speed.common import ROOT, Settings
from benchmarks.speed.page import compare, page
from gsclip.storage import write_json

# Module and function of each group of rows; the last one takes minutes, and is measured when it is asked for.
FULL_SIZE = "full-size"
GROUPS = {
    "views": ("views", "measure"),
    "overlap": ("overlap", "measure"),
    "training": ("training", "measure"),
    "scoring": ("scoring", "measure"),
    "startup": ("startup", "measure"),
    FULL_SIZE: ("scoring", "measure_full_size"),
}


def run_group(name: str, settings: Settings) -> dict[str, Any]:
    """Measure one group in this process."""
    module, function = GROUPS[name]
    found = getattr(importlib.import_module(f"benchmarks.speed.{module}"), function)(settings)
    return {
        "rows": [row.as_json() for row in found.rows],
        "profiles": found.profiles,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    }


def run_groups(names: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Measure groups, each in a process of its own; one that fails is listed, the others go on.

    Returns:
        ``machine``, ``quick``, ``clock``, ``rows``, ``profiles``, ``peak_mib`` of each process, and ``failed`` groups
        with their exit codes.
    """
    results: dict[str, Any] = {"machine": machine.describe(settings.threads), "quick": settings.quick}
    results["clock"] = settings.clock
    results |= {"rows": [], "profiles": {}, "peak_mib": {}, "failed": {}}
    # Threads that sleep between their pieces of work make short pieces a third slower.
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {f"{library}_NUM_THREADS": str(settings.threads) for library in ("OMP", "MKL", "OPENBLAS")}
    with tempfile.TemporaryDirectory() as folder:
        environment["XDG_RUNTIME_DIR"] = os.environ.get("XDG_RUNTIME_DIR", folder)  # windows complain without
        for number, name in enumerate(names, start=1):
            print(f"[{number}/{len(names)}] {name}", file=sys.stderr, flush=True)
            start = time.perf_counter()
            file = Path(folder) / f"{name}.json"
            command = [sys.executable, "-m", "benchmarks.bench", "--group", name, "--result", str(file)]
            command += ["--settings", json.dumps(dataclasses.asdict(settings))]
            done = subprocess.run(command, env=environment, cwd=ROOT, check=False)
            if done.returncode:
                results["failed"][name] = f"exit code {done.returncode}"
                continue
            found = json.loads(file.read_text(encoding="utf-8"))
            results["rows"] += found["rows"]
            results["profiles"] |= found["profiles"]
            results["peak_mib"][name] = found["peak_mib"]
            print(f"    {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write; exit code 1 when a group could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(GROUPS), metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--full-size", action="store_true", help="the paper's size and 3 million points, too")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each variant; fewer of those that take minutes")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of torch; all cores")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: where other programs disturb")
    parser.add_argument("--scans", type=Path, help="folder of a data set, in the layout of MVTec 3D-AD or Eyecandies")
    parser.add_argument("--model", type=Path, help="folder of a detector")
    parser.add_argument("--against", type=Path, help="an earlier result, .json")
    parser.add_argument("--output", type=Path, default=Path("outputs/bench/speed"), help="without suffix")
    parser.add_argument("--group", choices=list(GROUPS), help=argparse.SUPPRESS)
    parser.add_argument("--settings", help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.group is not None:
        write_json(given.result, run_group(given.group, Settings(**json.loads(given.settings))))
        return
    settings = Settings(
        quick=given.quick,
        repeats=min(given.repeats, 2) if given.quick else given.repeats,
        threads=given.threads,
        scans=None if given.scans is None else str(given.scans.resolve()),
        model=None if given.model is None else str(given.model.resolve()),
        large=given.full_size,
        clock=given.clock,
    )
    names = given.only or [name for name in GROUPS if name != FULL_SIZE or given.full_size]
    # Read first: it may be the file that is written over.
    earlier = None if given.against is None else json.loads(given.against.read_text(encoding="utf-8"))
    results = run_groups(names, settings)
    if earlier is not None:
        results["against"] = compare(results, earlier)
    text = page(results)
    print(text)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    write_results(given.output, results, text)
    sys.exit(int(bool(results["failed"])))


if __name__ == "__main__":
    main()
