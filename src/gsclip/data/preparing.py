"""Prepares a whole data set: every sample of the index into the pack of its category; broken ones are listed."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from gsclip.data import checks, own_parts
from gsclip.data.datasets import DATASETS, warn_of_gaps
from gsclip.data.masks import mask_file
from gsclip.data.preparation import assumptions, prepare_sample
from gsclip.data.sample import Sample, Scan
from gsclip.errors import GsclipError, unexpected
from gsclip.parallel import ordered_map
from gsclip.params import PrepareParams, ScanParams
from gsclip.reuse import ReusingWriter, Store, code_digest, digest, log_reuse, reusing_pack
from gsclip.storage import sha256, write_csv

INDEX_FILE = "index.csv"
# What samples depend on, beside the index, files, parameters and seeds.
CODE = ("data/*.py", "data/procedural/*.py", "storage.py")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Prepared:
    """Sample of one row; ``fingerprint`` of its scan is empty where duplicates do not matter."""

    sample: Sample
    fingerprint: str
    key: str


class _Unchanged(NamedTuple):
    """In the place of a sample that can be taken over."""


class _Task(NamedTuple):
    """Row of the index, and the key of its stored sample; empty where there is none."""

    row: pd.Series
    stored_key: str

    def __str__(self) -> str:
        """Name of the sample, for messages."""
        return str(self.row["name"])


def prepare_dataset(params: PrepareParams, folder: Path, store: Store | None = None) -> pd.DataFrame:
    """Prepare the auxiliary and test categories that the parameters name; see :func:`prepare_index`."""
    read = functools.partial(read_row, params.dataset, params.root, params.seed)
    key = functools.partial(row_key, params.dataset, params.root, params.seed) if store is not None else None
    index = DATASETS[params.dataset].index(params)
    warn_of_gaps(params.dataset, index)
    return prepare_index(index, read, folder, params.scan, params.rejected_share_limit, store, key)


def read_row(dataset: str, root: str, seed: int, row: pd.Series) -> Scan:
    """Read the scan of one row of an index; see :class:`~gsclip.data.datasets.DataSet`."""
    return DATASETS[dataset].read(root, row, seed)


def row_key(dataset: str, root: str, seed: int, row: pd.Series) -> str:
    """Digest of all that the scan of one row is made from: the row, the seed where there is no file, and the files.

    Empty where a file cannot be read.
    """
    named = [Path(root, mask_file(row[column])) for column in ("scan_path", "mask_path", "color_path") if row[column]]
    try:
        further = [
            _content(value) if isinstance(value, Path) else value for value in DATASETS[dataset].further(root, row)
        ]
        contents = [_content(path) for path in named]
    except OSError:
        return ""
    values = {column: str(value) for column, value in row.items()}
    return digest(values, contents, further, None if row["scan_path"] else seed)


def _content(path: Path) -> str | None:
    """SHA-256 of a file; ``None`` where there is no regular file."""
    return sha256(path) if path.is_file() else None


def prepare_index(
    index: pd.DataFrame,
    read: Callable[[pd.Series], Scan],
    folder: Path,
    params: ScanParams,
    rejected_share_limit: float,
    store: Store | None = None,
    row_key: Callable[[pd.Series], str] | None = None,
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
        store: samples of the last run, to be taken over where ``row_key``, ``params`` and code are the same. Rejected
            scans are tried again.
        row_key: from a row to the digest of all that its scan is made from, empty where it is not known; picklable.
            ``None``: nothing is taken over.

    Returns:
        The index of the accepted samples.

    Raises:
        GsclipError: when too many samples are rejected, or all of a category are.
        InputError: when the data set itself cannot be read.
    """
    problems: dict[str, GsclipError] = {}
    duplicates = checks.Duplicates()
    extents: dict[str, np.ndarray] = {}
    writers: dict[str, ReusingWriter[Sample]] = {}
    progress = tqdm(total=len(index), desc="prepare", unit="scan", mininterval=5)
    rows = [row for _, row in index.iterrows()]
    rows.sort(key=lambda row: row["category"])  # stable: the order within a category stays
    step = digest(code_digest(CODE), params.model_dump())
    tasks = (_Task(row, store.key(f"{row['category']}.h5", row["name"]) if store else "") for row in rows)
    samples = ordered_map(functools.partial(_prepare_row, read, params, step, row_key), tasks)
    for category, members in itertools.groupby(rows, key=lambda row: row["category"]):
        with reusing_pack(folder / f"{category}.h5", Sample, store) as pack:
            for row in members:
                name, result = row["name"], next(samples)
                progress.update()
                if isinstance(result, GsclipError):
                    problems[name] = result
                    continue
                if row["dataset"] == own_parts.DATASET:
                    fingerprint = pack.note(name) if isinstance(result, _Unchanged) else result.fingerprint
                    if not duplicates.add(fingerprint, name, row["scan_path"], row["label"]):
                        continue
                    sample = pack.stored(name) if isinstance(result, _Unchanged) else result.sample
                    extents[name] = np.ptp(sample.points, axis=0)
                if isinstance(result, _Unchanged):
                    pack.take(name)
                else:
                    pack.add(name, result.sample, result.key, result.fingerprint)
        writers[category] = pack
    progress.close()
    log_reuse("prepare", writers, "prepared")
    problems |= duplicates.errors()
    for pack in writers.values():  # scans whose label another one contradicts: that came to light behind them
        pack.remove(problems)
    kept = [extent for name, extent in extents.items() if name not in problems]
    if kept:
        _log.info("%s: %s", own_parts.DATASET, assumptions(np.array(kept)))
    rejected = [
        checks.rejected_row(row["name"], row["scan_path"], problems[row["name"]])
        for row in rows
        if row["name"] in problems
    ]
    accepted = index[~index["name"].isin(problems)].reset_index(drop=True)
    write_csv(folder / checks.REJECTED_FILE, checks.rejected_table(rejected))
    write_csv(folder / INDEX_FILE, accepted)
    _check(index, accepted, rejected, rejected_share_limit)
    return accepted


def _prepare_row(
    read: Callable[[pd.Series], Scan],
    params: ScanParams,
    step: str,
    row_key: Callable[[pd.Series], str] | None,
    task: _Task,
) -> _Prepared | _Unchanged | GsclipError:
    row = task.row
    own = row["dataset"] == own_parts.DATASET
    check = checks.READABLE
    try:
        of_scan = row_key(row) if row_key is not None else ""
        key = digest(step, of_scan) if of_scan else ""
        if key and key == task.stored_key:
            return _Unchanged()
        scan = checks.usable(read(row), row["name"], row["label"] if own else None)
        check = checks.PREPARATION
        sample = prepare_sample(scan, row["name"], params=params)
        return _Prepared(sample, checks.fingerprint(scan) if own else "", key)
    except Exception as error:  # one broken scan never stops a batch
        return checks.named(unexpected(row["name"], error), check)


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
