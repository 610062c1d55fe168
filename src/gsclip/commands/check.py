"""`gsclip check`."""

from __future__ import annotations

from pathlib import Path

from gsclip.data.checking import Checked
from gsclip.data.checking import check_dataset as check_all
from gsclip.data.preparation import DEFAULT_SCAN_PARAMS
from gsclip.params import ScanParams
from gsclip.results import check_problems_file
from gsclip.storage import write_csv


def check_dataset(
    root: Path, dataset: str, output: Path | None = None, params: ScanParams = DEFAULT_SCAN_PARAMS
) -> Checked:
    """Check all scans of a data set; write its problems as CSV where ``output`` names a file.

    Args:
        root: folder of the data set.
        dataset: name of one that lies in a folder, ``own_parts`` for scans of your own.
        output: file for the problems, columns of :data:`gsclip.data.checks.REJECTED_COLUMNS`.
        params: how a scan becomes a sample.

    Raises:
        InputError: when the data set cannot be listed, or ``output`` would replace anything but an earlier table.
    """
    if output is not None:
        check_problems_file(output)
    checked = check_all(root, dataset, params=params)
    if output is not None:
        write_csv(output, checked.problems)
    return checked
