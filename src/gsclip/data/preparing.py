"""Prepares a whole data set: every sample of the index into the pack of its category; broken ones are listed."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from gsclip.data.datasets import DATASETS
from gsclip.data.preparation import prepare_sample
from gsclip.data.sample import Sample, Scan
from gsclip.errors import GsclipError, unexpected
from gsclip.parallel import ordered_map
from gsclip.params import PrepareParams
from gsclip.storage import write_csv, write_pack

INDEX_FILE = "index.csv"
REJECTED_FILE = "rejected.csv"


def prepare_dataset(params: PrepareParams, folder: Path) -> pd.DataFrame:
    """Prepare the auxiliary and test categories that the parameters name; see :func:`prepare_index`."""
    read = functools.partial(read_row, params.dataset, params.root, params.seed)
    return prepare_index(DATASETS[params.dataset].index(params), read, folder, params.rejected_share_limit)


def read_row(dataset: str, root: str, seed: int, row: pd.Series) -> Scan:
    """Read the scan of one row of an index; see :class:`~gsclip.data.datasets.DataSet`."""
    return DATASETS[dataset].read(root, row, seed)


def prepare_index(
    index: pd.DataFrame, read: Callable[[pd.Series], Scan], folder: Path, rejected_share_limit: float
) -> pd.DataFrame:
    """Write ``<category>.h5``, ``index.csv`` (accepted samples) and ``rejected.csv`` (name, problem) to a folder.

    Args:
        index: rows as in :mod:`gsclip.data.index`.
        read: from a row to its scan; it travels to other processes, so it must be picklable.
        folder: where the packs go.
        rejected_share_limit: share of the samples from which on it fails.

    Returns:
        The index of the accepted samples.

    Raises:
        GsclipError: when too many samples are rejected, or all of a category are.
        InputError: when the data set itself cannot be read.
    """
    rejected: list[dict[str, str]] = []
    progress = tqdm(total=len(index), desc="prepare", unit="scan", mininterval=5)
    rows = [row for _, row in index.iterrows()]
    rows.sort(key=lambda row: row["category"])  # stable: the order within a category stays
    samples = ordered_map(functools.partial(_prepare_row, read), rows)
    for category, members in itertools.groupby(rows, key=lambda row: row["category"]):
        with write_pack(folder / f"{category}.h5") as pack:
            for row in members:
                sample = next(samples)
                if isinstance(sample, Sample):
                    pack.add(row["name"], sample)
                else:
                    rejected.append({"name": row["name"], "problem": str(sample)})
                progress.update()
    progress.close()
    accepted = index[~index["name"].isin([entry["name"] for entry in rejected])].reset_index(drop=True)
    write_csv(folder / REJECTED_FILE, pd.DataFrame(rejected, columns=["name", "problem"]))
    write_csv(folder / INDEX_FILE, accepted)
    _check(index, accepted, rejected, rejected_share_limit)
    return accepted


def _prepare_row(read: Callable[[pd.Series], Scan], row: pd.Series) -> Sample | GsclipError:
    try:
        return prepare_sample(read(row), row["name"])
    except Exception as error:  # one broken scan never stops a batch
        return unexpected(row["name"], error)


def _check(
    index: pd.DataFrame, accepted: pd.DataFrame, rejected: list[dict[str, str]], limit: float
) -> None:
    first = "; ".join(entry["problem"] for entry in rejected[:3])
    remedy = f"the first: {first}"
    if len(rejected) > limit * len(index):
        raise GsclipError(
            f"{len(rejected)} of {len(index)} samples are rejected, more than prepare.rejected_share_limit; {remedy}"
        )
    empty = sorted(set(index["category"]) - set(accepted["category"]))
    if empty:
        raise GsclipError(f"all samples of {', '.join(empty)} are rejected; {remedy}")
