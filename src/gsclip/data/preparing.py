"""Prepares a whole data set: every sample of the index into the pack of its category; broken ones are listed."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from gsclip.data import checks, own_parts
from gsclip.data.datasets import DATASETS
from gsclip.data.preparation import prepare_sample
from gsclip.data.sample import Sample, Scan
from gsclip.errors import GsclipError, unexpected
from gsclip.parallel import ordered_map
from gsclip.params import PrepareParams, ScanParams
from gsclip.storage import write_csv, write_pack

INDEX_FILE = "index.csv"
REJECTED_FILE = "rejected.csv"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Prepared:
    """Sample of one row; ``fingerprint`` of its scan is empty where duplicates do not matter."""

    sample: Sample
    fingerprint: str = ""


def prepare_dataset(params: PrepareParams, folder: Path) -> pd.DataFrame:
    """Prepare the auxiliary and test categories that the parameters name; see :func:`prepare_index`."""
    read = functools.partial(read_row, params.dataset, params.root, params.seed)
    index = DATASETS[params.dataset].index(params)
    return prepare_index(index, read, folder, params.scan, params.rejected_share_limit)


def read_row(dataset: str, root: str, seed: int, row: pd.Series) -> Scan:
    """Read the scan of one row of an index; see :class:`~gsclip.data.datasets.DataSet`."""
    return DATASETS[dataset].read(root, row, seed)


def prepare_index(
    index: pd.DataFrame,
    read: Callable[[pd.Series], Scan],
    folder: Path,
    params: ScanParams,
    rejected_share_limit: float,
) -> pd.DataFrame:
    """Write ``<category>.h5``, ``index.csv`` (accepted samples) and ``rejected.csv`` to a folder.

    A scan is set aside when it cannot be read, fails one of :mod:`gsclip.data.checks`, or gives no sample; the others
    go on. Own parts are also held against their labels and against each other: published data sets are taken with what
    they repeat and mislabel, since their official figures are, too.

    Args:
        index: rows as in :mod:`gsclip.data.index`.
        read: from a row to its scan; it travels to other processes, so it must be picklable.
        folder: where the packs go.
        params: how a scan becomes a sample.
        rejected_share_limit: share of the samples from which on it fails.

    Returns:
        The index of the accepted samples.

    Raises:
        GsclipError: when too many samples are rejected, or all of a category are.
        InputError: when the data set itself cannot be read.
    """
    rejected: list[dict[str, str]] = []
    seen: dict[str, str] = {}
    extents: list[np.ndarray] = []
    progress = tqdm(total=len(index), desc="prepare", unit="scan", mininterval=5)
    rows = [row for _, row in index.iterrows()]
    rows.sort(key=lambda row: row["category"])  # stable: the order within a category stays
    samples = ordered_map(functools.partial(_prepare_row, read, params), rows)
    for category, members in itertools.groupby(rows, key=lambda row: row["category"]):
        with write_pack(folder / f"{category}.h5") as pack:
            for row in members:
                result = next(samples)
                if isinstance(result, _Prepared):
                    first = seen.setdefault(result.fingerprint, row["scan_path"]) if result.fingerprint else ""
                    if first != row["scan_path"] and result.fingerprint:
                        result = checks.duplicate_of(first, row["name"])
                if isinstance(result, _Prepared):
                    pack.add(row["name"], result.sample)
                    if row["dataset"] == own_parts.DATASET:
                        extents.append(np.ptp(result.sample.points, axis=0))
                else:
                    rejected.append(checks.rejected_row(row["name"], row["scan_path"], result))
                progress.update()
    progress.close()
    if extents:
        _log.info("%s: %s", own_parts.DATASET, own_parts.assumptions(np.array(extents)))
    accepted = index[~index["name"].isin([entry["name"] for entry in rejected])].reset_index(drop=True)
    write_csv(folder / REJECTED_FILE, checks.rejected_table(rejected))
    write_csv(folder / INDEX_FILE, accepted)
    _check(index, accepted, rejected, rejected_share_limit)
    return accepted


def _prepare_row(
    read: Callable[[pd.Series], Scan], params: ScanParams, row: pd.Series
) -> _Prepared | GsclipError:
    own = row["dataset"] == own_parts.DATASET
    step = checks.READABLE
    try:
        scan = checks.usable(read(row), row["name"], row["label"] if own else None)
        step = checks.PREPARATION
        sample = prepare_sample(scan, row["name"], params=params)
        return _Prepared(sample, checks.fingerprint(scan) if own else "")
    except Exception as error:  # one broken scan never stops a batch
        return checks.named(unexpected(row["name"], error), step)


def _check(
    index: pd.DataFrame, accepted: pd.DataFrame, rejected: Sequence[dict[str, str]], limit: float
) -> None:
    first = "; ".join(f"{entry['name']}: {entry['problem']}" for entry in rejected[:3])
    remedy = f"the first: {first}"
    if len(rejected) > limit * len(index):
        raise GsclipError(
            f"{len(rejected)} of {len(index)} samples are rejected, more than prepare.rejected_share_limit; {remedy}"
        )
    empty = sorted(set(index["category"]) - set(accepted["category"]))
    if empty:
        raise GsclipError(f"all samples of {', '.join(empty)} are rejected; {remedy}")
