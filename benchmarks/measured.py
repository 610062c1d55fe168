"""Time and memory of a command with all processes that it starts, and packs with as many objects as are wanted."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import pandas as pd
import psutil

from benchmarks.full_size import ROOT
from gsclip.packs import PackFolders
from gsclip.storage import write_csv

INTERVAL = 0.2  # seconds between two looks at the memory
INDEX = "index.csv"


@dataclass(frozen=True)
class Measured:
    """What a command took.

    Attributes:
        seconds: from start to end.
        cpu_seconds: of all its processes.
        peak_mib: highest sum of the resident memory of all its processes at one time; what they share counts once for
            each of them.
        process_mib: highest resident memory of one of them.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float
    process_mib: float


def measure(command: Sequence[str]) -> Measured:
    """Run a command in the repository's root, and look at the memory of its processes all the time.

    Raises:
        RuntimeError: when it fails.
    """
    before = os.times()
    start, peak, largest = time.perf_counter(), 0, 0
    process = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        sizes = []
        try:
            for member in (process, *process.children(recursive=True)):
                sizes.append(member.memory_info().rss)
        except psutil.Error:  # one has ended meanwhile
            pass
        peak, largest = max(peak, sum(sizes)), max([largest, *sizes])
        time.sleep(INTERVAL)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Measured(time.perf_counter() - start, cpu, peak / 2**20, largest / 2**20)


def bytes_in(*folders: Path) -> int:
    """Bytes of all files in some folders."""
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def replicate(source: Path, target: Path, index: pd.DataFrame, count: int, kinds: Sequence[str]) -> pd.DataFrame:
    """Give the objects of one category further names, until there are ``count``; the packs grow by links alone.

    Args:
        source: folder with the folders ``kinds`` of packs, such as ``prepared``.
        target: the same, new; ``index.csv`` is written there.
        index: of the objects of ``source``, of one category.
        count: of objects.
        kinds: names of the folders.

    Returns:
        The index of the target.
    """
    rows = index.to_dict("records")
    numbered = [(rows[number % len(rows)], f"{number:06d}") for number in range(count)]
    named = [{**row, "name": row["name"].rpartition("/")[0] + "/r" + number} for row, number in numbered]
    for kind in kinds:
        for path in sorted((source / kind).glob(f"{rows[0]['category']}.*h5")):
            (target / kind).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / kind / path.name)
            with h5py.File(target / kind / path.name, "r+", track_order=True) as pack:
                for (row, _), new in zip(numbered, named, strict=True):
                    pack[new["name"]] = pack[row["name"]]
    result = pd.DataFrame(named)
    write_csv(target / INDEX, result)
    return result


def folders_in(work: Path) -> PackFolders:
    """Where a benchmark keeps its packs."""
    return PackFolders(work / "prepared", work / "views", work / "features")
