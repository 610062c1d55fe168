"""What all measurements share: settings, interleaved repeats, rows with targets, where time goes, scans, models."""

from __future__ import annotations

import cProfile
import pstats
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.background import list_scans
from gsclip.data.datasets import DATASETS
from gsclip.data.procedural.casting import single_thread
from gsclip.data.procedural.dataset import generate_scan
from gsclip.data.sample import Scan

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "gsclip"
GRID = (400, 400)  # of MVTec 3D-AD's scans
FAMILY, DEFECT = "castle_nut", "bulge"


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        quick: tiny sizes, to see that everything runs; the figures mean nothing.
        repeats: runs of each variant, of which medians are taken.
        threads: of torch, where a row does not say one thread.
        scans: folder of a data set with ground truth (see :mod:`benchmarks.background`); ``None``: a generated scan.
        model: folder of a detector; ``None``: ``models/gsclip`` where it is, else an untrained one.
        large: the largest sizes too: 3 million points.
        clock: ``wall``, or ``cpu``: seconds of all threads of the process, where other programs disturb.
    """

    quick: bool = False
    repeats: int = 5
    threads: int = 1
    scans: str | None = None
    model: str | None = None
    large: bool = False
    clock: Literal["wall", "cpu"] = "wall"

    @property
    def now(self) -> Callable[[], float]:
        """The clock, in seconds."""
        return time.process_time if self.clock == "cpu" else time.perf_counter


@dataclass(frozen=True)
class Check:
    """A figure and its target."""

    what: str
    value: float
    relation: Literal[">=", "<="]
    target: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.value >= self.target if self.relation == ">=" else self.value <= self.target


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: key of the row in result files.
        what: is measured.
        how: sentence on sizes and on what the naive variant is; what was multiplied.
        ours: seconds of each run.
        naive: seconds of each run, after ``how``'s multiplication; empty where there is none.
        checks: figures with their targets.
        figures: further figures, by name.
    """

    name: str
    what: str
    how: str
    ours: list[float]
    naive: list[float] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Naive over ours, of the medians."""
        return speed_up(self.naive, self.ours) if self.naive else None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "what": self.what,
            "how": self.how,
            "ours_seconds": statistics.median(self.ours),
            "naive_seconds": statistics.median(self.naive) if self.naive else None,
            "ratio": self.ratio,
            "runs": {"ours": self.ours, "naive": self.naive},
            "checks": [{**vars(check), "met": check.met} for check in self.checks],
            "figures": self.figures,
        }


@dataclass(frozen=True)
class Found:
    """What a measurement gives: rows, and for each of its steps where time goes."""

    rows: list[Row]
    profiles: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def speed_up(naive: list[float], ours: list[float]) -> float:
    """Ratio of the medians."""
    return statistics.median(naive) / statistics.median(ours)


def interleaved(
    variants: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    warm_up: bool = True,
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each variant, run in turn ``repeats`` times, forwards and backwards: both meet the same disturbance.

    Args:
        variants: by name.
        repeats: runs of each.
        warm_up: run each once before.
        now: clock.
    """
    if warm_up:
        for variant in variants.values():
            variant()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(repeats):
        for name in list(variants) if repeat % 2 == 0 else reversed(list(variants)):
            start = now()
            variants[name]()
            seconds[name].append(now() - start)
    return seconds


def where_time_goes(function: Callable[[], object], most: int = 8) -> list[dict[str, Any]]:
    """Shares of the functions that take longest by themselves, without what they call, under cProfile.

    Torch has one thread meanwhile: what runs in others, cProfile does not see.
    """
    profiler = cProfile.Profile()
    with single_thread():
        profiler.enable()
        function()
        profiler.disable()
    # (file, line, function) -> (primitive calls, calls, own time, cumulative time, callers)
    stats: Mapping[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    total = sum(entry[2] for entry in stats.values())
    longest = sorted(stats.items(), key=lambda item: -item[1][2])[:most]
    return [
        {"where": _function_name(*place), "calls": entry[1], "seconds": entry[2], "share": entry[2] / total}
        for place, entry in longest
    ]


def _function_name(file: str, line: int, name: str) -> str:
    if file == "~":  # built in: <built-in method torch.einsum>, <method 'sort' of 'numpy.ndarray' objects>
        words = name.strip("<>").replace("'", "").removeprefix("built-in method ").removeprefix("method ")
        return words.split(" of ")[0]
    parts = Path(file).parts
    return f"{'/'.join(parts[-2:])}:{name}"


def read_one_scan(settings: Settings) -> tuple[Scan, str]:
    """An organised scan with ground truth, and what it is: of the folder the middle one of those with a defect.

    Raises:
        InputError: when the folder is no data set with a defective scan.
    """
    if settings.scans is None:
        grid = (160, 160) if settings.quick else GRID
        return generate_scan(FAMILY, 0, DEFECT, 0, grid=grid), f"a generated scan of {grid[0]} x {grid[1]} pixels"
    index = list_scans(Path(settings.scans))
    defective = index[index["label"] == 1]
    identity = defective.iloc[len(defective) // 2]
    scan = DATASETS[identity["dataset"]].read(settings.scans, identity, 0)
    height, width = scan.points.shape[:2]
    return scan, f"a real scan of {height} x {width} pixels ({identity['name']})"


def smooth_maps(count: int, side: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Anomaly maps (side, side) float32 with masks (side, side) bool; two in three have one to three defects."""
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    samples = []
    for number in range(count):
        mask = np.zeros((side, side), bool)
        for _ in range(random.integers(1, 4) if number % 3 else 0):
            row, column = random.integers(side // 8, side - side // 8, 2)
            height, width = random.uniform(side / 50, side / 14, 2)
            mask |= ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 < 1
        noise = gaussian_filter(random.standard_normal((side, side)).astype(np.float32), side / 60)
        near = gaussian_filter(mask.astype(np.float32), side / 40)
        samples.append(((noise / noise.std() + 2 * near).astype(np.float32), mask))
    return samples
