"""How often the monitoring alarms without drift, and how often it finds drift that was made.

Good procedural scans of the given families are scored by `gsclip score` and logged. The first ones give the reference;
further ones, of other parts, are the batches without drift. Every kind of drift has batches of its own, which
go the same way. No scan is in two batches.

    python -m benchmarks.drift --model models/gsclip --output benchmarks/results/drift

A few numbers make it short: ``--reference-scans 24 --window 10 --batches 2 --drift-batches 1 --grid 64``.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import numpy as np
import tifffile
import torch

from benchmarks.full_size import ROOT, machine
from gsclip.commands.reference import reference_files
from gsclip.commands.score import score_files
from gsclip.data.procedural import sensor
from gsclip.data.procedural.dataset import GRID, generate_scan, kinds
from gsclip.errors import GsclipError
from gsclip.monitoring.log import LOG_FOLDER, LogWindow, read_window
from gsclip.monitoring.reference import Reference, read_reference
from gsclip.monitoring.verdict import Outcome, judge
from gsclip.params import load_params
from gsclip.storage import write_json, write_text

SEED = 17  # of the parts; no other data set of the project has it
REDRAWN = 1000  # windows drawn from the scans of the batches without drift
ALL_SCANS = 10**6


@dataclass(frozen=True)
class Drift:
    """One kind of drift.

    Attributes:
        text: what changes.
        noise: factor of the sensor's noise on the part.
        change: what happens to the points (h, w, 3) of a scan.
        other: whether parts of another family are scanned.
        defective: share of the parts with a defect.
    """

    text: str
    noise: float = 1.0
    change: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None
    other: bool = False
    defective: float = 0.0


def lose_points(share: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Drop a share of all pixels at random."""

    def change(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.where(rng.random(points.shape[:2])[..., None] < share, np.float32(np.nan), points)

    return change


NO_DRIFT = Drift("none")
DRIFTS: Mapping[str, Drift] = MappingProxyType(
    {
        "noise_1.5": Drift("noise of the sensor × 1.5", noise=1.5),
        "noise_2": Drift("noise of the sensor × 2", noise=2.0),
        "other_part": Drift("all parts of a family that the reference lacks", other=True),
        "missing_20": Drift("20 % of the points missing, at random", change=lose_points(0.2)),
        "scale_1.1": Drift("lengths × 1.1", change=lambda points, rng: points * np.float32(1.1)),
        "scale_1.25": Drift("lengths × 1.25", change=lambda points, rng: points * np.float32(1.25)),
        "defects": Drift("every part has a defect", defective=1.0),
    }
)


def make_scan(
    families: Sequence[str],
    number: int,
    drift: Drift = NO_DRIFT,
    *,
    other: str = "spur_gear",
    grid: tuple[int, int] = GRID,
) -> np.ndarray:
    """Points of a part, good unless the drift says otherwise.

    Args:
        families: the part is of one of them, drawn by its number, unless the drift is one of parts.
        number: of the part: equal numbers are equal parts.
        drift: what is changed.
        other: family of other parts.
        grid: (h, w) in pixels.

    Returns:
        (h, w, 3) float32 in metres, NaN where nothing is measured.
    """
    rng = np.random.default_rng([SEED, number])
    drawn = families[int(rng.integers(len(families)))]
    family = other if drift.other else drawn
    wanted: list[str | None] = [None]
    if rng.random() < drift.defective:
        wanted = list(rng.permutation(kinds(family)))
    low, high = sensor.NOISE
    with patch.object(sensor, "NOISE", (drift.noise * low, drift.noise * high)):
        points = _generate(family, number, wanted, grid)
    return points if drift.change is None else drift.change(points, rng)


def _generate(family: str, number: int, defects: Sequence[str | None], grid: tuple[int, int]) -> np.ndarray:
    """A scan with the first of some defects that a view of the part shows."""
    for defect in defects[:-1]:
        with suppress(GsclipError):
            return generate_scan(family, number, defect, SEED, grid=grid).points
    return generate_scan(family, number, defects[-1], SEED, grid=grid).points


def score_scans(
    folder: Path, batches: Mapping[str, int], make: Callable[[int, Drift], np.ndarray], model: Path, size: int
) -> None:
    """Make, score and log scans, batch by batch; those that are logged already are left alone.

    Args:
        folder: gets a monitoring folder for each drift, and one for the ``reference``.
        batches: number of scans of each.
        make: makes a scan from its number; no two scans have the same one.
        model: folder of the detector.
        size: of a batch.
    """
    first = 0
    for name, count in batches.items():
        done = len(read_window(folder / name / LOG_FOLDER, ALL_SCANS).rows)
        print(f"{name}: {count} scans, {done} of them there", flush=True)
        for begin in range(done, count, size):
            numbers = range(first + begin, first + min(begin + size, count))
            scans = {f"{number:05d}": make(number, DRIFTS.get(name, NO_DRIFT)) for number in numbers}
            score_batch(scans, model, folder / name)
        first += count


def score_batch(scans: Mapping[str, np.ndarray], model: Path, monitoring: Path) -> None:
    """Write scans as TIFF, score and log them as `gsclip score` does; files of scans and results are removed."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = []
        for name, points in scans.items():
            paths.append(Path(scratch) / f"{name}.tiff")
            tifffile.imwrite(paths[-1], np.nan_to_num(points), photometric="rgb")
        score_files(paths, model, Path(scratch) / "results", monitoring=monitoring)


def windows(monitoring: Path, size: int) -> list[LogWindow]:
    """The scans of a log in windows that do not overlap."""
    found = read_window(monitoring / LOG_FOLDER, ALL_SCANS)
    rows = found.rows
    return [LogWindow(rows.iloc[first : first + size], 0, ()) for first in range(0, len(rows) - size + 1, size)]


def judge_all(found: list[LogWindow], reference: Reference) -> dict[str, Any]:
    """Alarms among windows.

    Returns:
        ``windows``, ``alarms``, ``rate``, its 95 % ``interval``, ``columns`` that raised them with their numbers, and
        ``excess``: of each window, the largest distance in thresholds.
    """
    verdicts = [judge(window, reference) for window in found]
    if any(verdict.result is None for verdict in verdicts):
        raise ValueError("windows are too small for this reference")
    alarms = sum(verdict.outcome is Outcome.DRIFT for verdict in verdicts)
    columns = Counter(column for verdict in verdicts for column in verdict.drifted_columns)
    return {
        "windows": len(found),
        "alarms": alarms,
        "rate": alarms / max(len(found), 1),
        "interval": wilson(alarms, len(found)),
        "columns": dict(columns.most_common()),
        "excess": [
            max(column.distance / column.threshold for column in verdict.result.columns)
            for verdict in verdicts
            if verdict.result is not None
        ],
    }


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share, 95 % by default."""
    if trials == 0:
        return 0.0, 1.0
    share, square = successes / trials, z * z
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    half = z * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2)) / (1 + square / trials)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def page(results: dict[str, Any]) -> str:
    """Markdown of what :func:`main` writes as JSON."""
    settings = results["settings"]
    lines = [
        "# Drift: false alarms and detection",
        "",
        f"Windows of {settings['window']} scans against a reference of {settings['reference_scans']}; false alarm rate "
        f"set to {100 * settings['false_alarm_rate']:g} % a window, over all columns. Procedural scans, "
        f"families {', '.join(settings['families'])}; other parts: {settings['other']}. `python -m benchmarks.drift`, "
        f"{results['machine']}, {results['seconds'] / 60:.0f} minutes.",
        "",
        "| drift | windows | alarms | % | 95 % interval | columns beyond their threshold, times |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, found in results["found"].items():
        text = NO_DRIFT.text if name == "none" else DRIFTS[name].text
        low, high = (100 * value for value in found["interval"])
        columns = ", ".join(f"{column} {count}" for column, count in list(found["columns"].items())[:6]) or "–"
        lines.append(
            f"| {text} | {found['windows']} | {found['alarms']} | {100 * found['rate']:.0f} | {low:.0f}–{high:.0f} | "
            f"{columns} |"
        )
    redrawn = results["redrawn"]
    lines += [
        "",
        f"Windows drawn {redrawn['windows']} times from the {redrawn['scans']} scans without drift: "
        f"{100 * redrawn['rate']:.1f} % raise an alarm. These overlap, so that the interval above holds.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Score, judge, write ``<output>.json`` and ``<output>.md``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift", description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "models/gsclip")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/drift", help="without extension")
    parser.add_argument("--work", type=Path, help="folder for the logs; goes on there where it was stopped")
    parser.add_argument("--families", nargs="*", help="by default the test categories of params.yaml")
    parser.add_argument("--other", default="spur_gear", help="family of other parts")
    parser.add_argument("--reference-scans", type=int, default=150)
    parser.add_argument("--window", type=int, default=20)
    parser.add_argument("--batches", type=int, default=20, help="without drift")
    parser.add_argument("--drift-batches", type=int, default=5, help="of every kind of drift")
    parser.add_argument("--grid", type=int, default=GRID[0], help="pixels along a side of the scans")
    arguments = parser.parse_args()
    logging.getLogger("gsclip").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    families = tuple(arguments.families or load_params(ROOT / "params.yaml").prepare.test_categories)
    start = time.perf_counter()
    batches = {"reference": arguments.reference_scans, "none": arguments.batches * arguments.window}
    batches |= dict.fromkeys(DRIFTS, arguments.drift_batches * arguments.window)

    def make(number: int, drift: Drift) -> np.ndarray:
        return make_scan(families, number, drift, other=arguments.other, grid=(arguments.grid, arguments.grid))

    with tempfile.TemporaryDirectory() if arguments.work is None else nullcontext(str(arguments.work)) as folder:
        work = Path(folder)
        score_scans(work, batches, make, arguments.model, arguments.window)
        reference_files(work / "reference" / "reference", monitoring=work / "reference")
        reference = read_reference(work / "reference" / "reference")
        drifts = [name for name in batches if name != "reference"]
        found = {name: judge_all(windows(work / name, arguments.window), reference) for name in drifts}
        pool = read_window(work / "none" / LOG_FOLDER, ALL_SCANS).rows
    rng = np.random.default_rng(0)
    drawn = [LogWindow(pool.iloc[rng.permutation(len(pool))[: arguments.window]], 0, ()) for _ in range(REDRAWN)]
    redrawn = judge_all(drawn, reference)
    results = {
        "settings": {
            "families": families,
            "other": arguments.other,
            "reference_scans": reference.settings.scans,
            "window": arguments.window,
            "grid": arguments.grid,
            "false_alarm_rate": reference.settings.false_alarm_rate,
            "model": reference.settings.model,
        },
        "machine": machine(),
        "seconds": time.perf_counter() - start,
        "found": found,
        "redrawn": {"scans": len(pool), "windows": REDRAWN, "rate": redrawn["rate"], "columns": redrawn["columns"]},
    }
    write_json(arguments.output.with_name(arguments.output.name + ".json"), results)
    text = page(json.loads(json.dumps(results)))
    write_text(arguments.output.with_name(arguments.output.name + ".md"), text)
    print(text)


if __name__ == "__main__":
    main()
