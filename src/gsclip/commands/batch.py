"""Scans one after the other: a broken one is rejected, the others go on."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from gsclip.data import checks
from gsclip.data.checks import REJECTED_COLUMNS, REJECTED_FILE
from gsclip.errors import GsclipError, InputError, unexpected
from gsclip.storage import write_rows

MAX_NAME = 200  # bytes of a scan's name: file systems take 255, of which results need some


def for_each(
    scans: Mapping[str, Path],
    output: Path,
    work: Callable[[str, Path], None],
    refuse: Callable[[Path, str], None] | None = None,
) -> list[GsclipError]:
    """Do the work for each scan; collect and list what is rejected, and tell ``refuse`` at once."""
    output.mkdir(parents=True, exist_ok=True)
    rejected: list[GsclipError] = []
    for name, path in tqdm(scans.items(), unit="scan", disable=len(scans) < 2, mininterval=2):
        try:
            if len(os.fsencode(name)) > MAX_NAME:
                raise InputError(path, "has too long a name for files of results", "rename it", checks.READABLE)
            work(name, path)
        except OSError:  # of the output: the next scan would fail, too
            raise
        except Exception as error:  # one broken scan never stops a batch
            rejected.append(checks.named(unexpected(path, error), checks.PREPARATION))
            if refuse is not None:
                refuse(path, str(rejected[-1]))
    write_rows(output / REJECTED_FILE, REJECTED_COLUMNS, _rejected_rows(rejected))
    return rejected


def _rejected_rows(rejected: Sequence[GsclipError]) -> list[dict[str, str]]:
    """Rows of ``rejected.csv``; what stands for the name is the file, or the sample of a data set."""
    places = [error.where if isinstance(error, InputError) else "" for error in rejected]
    return checks.rejected_rows(
        [checks.rejected_row(place, place, error) for place, error in zip(places, rejected, strict=True)]
    )
