"""Peak memory of scoring and evaluating many objects against few: it is not to grow with their number.

A few generated parts under many names, read, scored and evaluated one by one as the stages predict and evaluate do, in
a process for each step and size; its memory is that of all processes that it starts.

    python -m benchmarks.memory --output benchmarks/results/memory
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.full_size import machine
from benchmarks.measured import INDEX, replicate
from benchmarks.scaling import measure_step
from benchmarks.shared import save_untrained, write_results

STEPS = ("predict", "evaluate")
TARGET = 1.1


def page(results: dict[str, Any]) -> str:
    """Markdown of what :func:`main` writes as JSON."""
    lines = [
        "# Memory of evaluating",
        "",
        f"{results['different']} generated parts under many names, {results['views']} views, embedded backbone, on "
        f"{results['machine']}. `python -m benchmarks.memory --views {results['views']}`.",
        "",
        "| objects | predict, peak MiB | evaluate, peak MiB | both, peak MiB |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for run in results["runs"]:
        peaks = " | ".join(f"{run[step]['peak_mib']:,.0f}" for step in STEPS)
        lines.append(f"| {run['objects']:,} | {peaks} | {run['peak_mib']:,.0f} |")
    lines += [
        "",
        f"Most against fewest objects: **{results['ratio']:.3f}** (target: at most {TARGET}); predict "
        f"{results['ratios']['predict']:.3f}, evaluate {results['ratios']['evaluate']:.3f}.",
        "",
        "Peak: the highest sum of the resident memory of all processes at one time, looked at 5 times a second; pages "
        "that they share, such as libraries, count once for each.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write; exit code 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--different", type=int, default=10, help="generated parts")
    parser.add_argument("--views", type=int, default=9, help="fewer are faster")
    parser.add_argument("--output", type=Path, help="without suffix: .json and .md are written")
    arguments = parser.parse_args()
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        save_untrained(folder / "model")
        made = folder / "made"
        for step in ("prepare", "render", "features"):
            measure_step(step, made, arguments.different, arguments.views)
        index = pd.read_csv(made / INDEX, keep_default_na=False)
        for count in sorted(arguments.sizes):
            many = folder / f"replicated-{count}"
            replicate(made, many, index, count, ("prepared", "views", "features"))
            found = {step: measure_step(step, many, count, arguments.views) for step in STEPS}
            runs.append({"objects": count, **found, "peak_mib": max(run["peak_mib"] for run in found.values())})
            print(runs[-1], file=sys.stderr)
    results: dict[str, Any] = {
        "machine": machine(),
        "views": arguments.views,
        "different": len(index),
        "runs": runs,
        "ratio": runs[-1]["peak_mib"] / runs[0]["peak_mib"],
        "ratios": {step: runs[-1][step]["peak_mib"] / runs[0][step]["peak_mib"] for step in STEPS},
    }
    results["met"] = results["ratio"] <= TARGET
    print(page(results))
    if arguments.output is not None:
        write_results(arguments.output, results, page(results))
    sys.exit(int(not results["met"]))


if __name__ == "__main__":
    main()
