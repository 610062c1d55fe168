"""Checks a whole data set, and says what is assumed of it; nothing is written or changed."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
import pandas as pd
from tqdm import tqdm

from gsclip.data import checks, layout, own_parts
from gsclip.data.datasets import DATASETS, Listing, completeness, listing
from gsclip.data.preparation import DEFAULT_SCAN_PARAMS, prepare_sample
from gsclip.data.preparation import assumptions as assumptions_of
from gsclip.data.sample import Scan
from gsclip.errors import GsclipError, InputError, printable, unexpected
from gsclip.parallel import ordered_map
from gsclip.params import ScanParams

_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Checked:
    """What :func:`check_dataset` found.

    Attributes:
        problems: columns of :data:`gsclip.data.checks.REJECTED_COLUMNS`, a row each; several of one scan are possible.
            Paths are relative to the data set's folder where they lie in it. A split that cannot be listed is one, too.
        counts: columns ``category``, ``split``, ``defect``, ``found``, ``usable`` and ``official`` (missing where not
            known).
        assumptions: one line each; likewise what was warned of while the folder was listed.
    """

    problems: pd.DataFrame
    counts: pd.DataFrame
    assumptions: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every scan can be used, and none of a published data set is missing."""
        short = self.counts.dropna()
        return self.problems.empty and not (short["found"] < short["official"]).any()


@dataclass(frozen=True)
class _Row:
    """What is known of one scan after its checks; ``extent`` (3,) of the part, ``None`` where it gives no sample."""

    problems: list[GsclipError]
    fingerprint: str = ""
    extent: np.ndarray | None = None
    organised: bool = False
    without_mask: bool = False


def check_dataset(
    root: Path, dataset: str, workers: int | None = None, params: ScanParams = DEFAULT_SCAN_PARAMS
) -> Checked:
    """Run all checks on all scans of a folder: every split, good and defective ones.

    Args:
        root: folder of the data set.
        dataset: name in :mod:`gsclip.data.datasets`; one that lies in a folder.
        workers: processes; as many as cores by default.
        params: how a scan becomes a sample.

    Raises:
        InputError: when the data set cannot be listed.
    """
    listed = _list_all(root, dataset)
    index = pd.concat(listed.parts, ignore_index=True)
    rows = [row for _, row in index.iterrows()]
    check = functools.partial(_check_row, functools.partial(_read, str(root)), params)
    results = ordered_map(check, rows, workers) if workers != 1 else map(check, rows)
    problems: dict[str, list[GsclipError]] = {}
    duplicates = checks.Duplicates()
    extents: dict[str, np.ndarray] = {}
    organised = without_mask = 0
    for row, result in zip(tqdm(rows, desc="check", unit="scan", mininterval=5), results, strict=True):
        problems[row["name"]] = result.problems
        if result.extent is not None:
            duplicates.add(result.fingerprint, row["name"], row["scan_path"], row["label"])
            extents[row["name"]] = result.extent
        organised += result.organised
        without_mask += result.without_mask
    for name, error in duplicates.errors().items():
        problems[name] = [error]
        del extents[name]
    told = [
        checks.rejected_row(row["name"], row["scan_path"], problem) for row in rows for problem in problems[row["name"]]
    ]
    told += [checks.rejected_row(place, str(root), error) for place, error in listed.errors.items()]
    for entry in told:
        entry["path"] = _relative(entry["path"], root)
    assumptions = [assumptions_of(np.array([*extents.values()]))] if extents else []
    if organised:
        kept = "every measured point is kept" if params.background == "none" else "a table, if any, is removed"
        assumptions.append(f"{organised} scans are organised: {kept}")
    if without_mask:
        assumptions.append(f"{without_mask} defective scans have no mask: the place of their defect is not known")
    loose = sum(own_parts.unlabelled(root, row) for row in rows) if dataset == own_parts.DATASET else 0
    if loose:
        assumptions.append(f"{loose} scans have no label: counted as good, without ground truth")
    counts = completeness(dataset, index, _SPLITS)
    good = index[[not problems[name] for name in index["name"]]]
    counts.insert(4, "usable", [_count(good, str(row.defect), row.category, row.split) for row in counts.itertuples()])
    return Checked(checks.rejected_table(told), counts, assumptions + listed.notes)


def _relative(path: str, root: Path) -> str:
    """Path of an error relative to a folder, with slashes; as it is where it does not lie in it."""
    inside = PurePath(path).is_relative_to(printable(root))
    return PurePath(path).relative_to(printable(root)).as_posix() if inside else path


@dataclass
class _Listed:
    """What the listing of a folder gave: parts of the index, notes, and errors of splits of a category, by name."""

    parts: list[pd.DataFrame] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: dict[str, InputError] = field(default_factory=dict)


def _list_all(root: Path, dataset: str) -> _Listed:
    """List all splits that can be listed; what is warned of while that is done becomes notes."""
    listed = _Listed()
    with _warnings(root) as warned:
        if dataset == own_parts.DATASET:
            listed.parts.append(own_parts.own_parts_index(root, None, _SPLITS))
        else:
            _list_splits(root, listing(dataset), listed)
    listed.notes += dict.fromkeys(warned)
    return listed


def _list_splits(root: Path, find: Listing, listed: _Listed) -> None:
    """List each split; where one category makes it fail, the others alone. Raises InputError when all fail."""
    failed: dict[str, InputError] = {}
    for split in _SPLITS:
        try:
            listed.parts.append(find(root, None, (split,)))
        except InputError as error:
            failed[split] = error
    known = {category for part in listed.parts for category in part["category"]}
    known |= {path.name for path in layout.entries(root) if layout.is_folder(path)}
    for split, whole in failed.items():
        nowhere = isinstance(whole, layout.MissingSplitError) and whole.where == printable(root)
        found, errors = _by_category(root, find, split, [] if nowhere else sorted(known))
        listed.parts += found
        if found:
            places = {f"{category}/{split}": reason for category, reason in errors.items()}
        else:
            places = {f"split {split}": whole}
        for place, reason in places.items():
            if isinstance(reason, layout.MissingSplitError):
                listed.notes.append(f"{place} is left out: {reason}")
            else:
                listed.errors[place] = reason
    if not listed.parts:
        raise failed["test"]


def _by_category(
    root: Path, find: Listing, split: str, categories: Sequence[str]
) -> tuple[list[pd.DataFrame], dict[str, InputError]]:
    """Index of each category that can be listed, and why others that are there cannot."""
    found: list[pd.DataFrame] = []
    errors: dict[str, InputError] = {}
    for category in categories:
        try:
            found.append(find(root, [category], (split,)))
        except layout.MissingCategoryError:
            continue
        except InputError as error:
            errors[category] = error
    return found, errors


class _Collector(logging.Handler):
    """Keeps the messages of warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg != own_parts.UNLABELLED:  # told with the assumptions
            self.messages.append(record.getMessage())


@contextlib.contextmanager
def _warnings(root: Path) -> Iterator[list[str]]:
    """Collect what the package's data sets warn of; the folder's own path is left out of the messages."""
    log, collector, found = logging.getLogger("gsclip.data"), _Collector(), list[str]()
    log.addHandler(collector)
    try:
        yield found
    finally:
        log.removeHandler(collector)
        found += [message.removeprefix(f"{printable(root)}: ") for message in collector.messages]


def _count(index: pd.DataFrame, defect: str, category: object, split: object) -> int:
    """Rows of one line of :func:`~gsclip.data.datasets.completeness`."""
    members = index[(index["category"] == category) & (index["split"] == split)]
    if defect == "all":
        return len(members)
    return int((members["label"] == 1).sum() if defect == "abnormal" else (members["defect"] == defect).sum())


def _read(root: str, row: pd.Series) -> Scan:
    return DATASETS[row["dataset"]].read(root, row, 0)


def _check_row(read: Callable[[pd.Series], Scan], params: ScanParams, row: pd.Series) -> _Row:
    try:
        scan = read(row)
    except Exception as error:  # one broken scan never stops a batch
        return _Row([checks.named(unexpected(row["name"], error), checks.READABLE)])
    found: list[GsclipError] = [*checks.find_problems(scan, row["name"], row["label"])]
    extent = None
    if not found:
        try:
            sample = prepare_sample(scan, row["name"], params=params)
            extent = np.ptp(sample.points.astype(np.float64), axis=0)
        except Exception as error:  # as above
            found.append(checks.named(unexpected(row["name"], error), checks.PREPARATION))
    without_mask = row["label"] == 1 and scan.mask is None
    return _Row(found, checks.fingerprint(scan), extent, scan.organised, without_mask)
