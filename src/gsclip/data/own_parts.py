"""Own parts: a folder of scans of any known kind, labelled by its sub-folders or by a table.

By sub-folders, the splits and labels as far as they are known::

    <root>/<category>/<split>/<good, or a kind of defect>/<scan>
    <root>/<category>/<good, or a kind of defect>/<scan>          the split is test
    <root>/<category>/<scan>                                      unlabelled: counted as good, no ground truth
    <root>/<split>/<good, or a kind of defect>/<scan>             the root is one category, with the folder's name:
    <root>/<good, or a kind of defect>/<scan>                     where splits, or ``good``, lie right below it,
    <root>/<scan>                                                 or no folders with scans

``good`` may be called ``ok`` or ``normal``, and ``validation`` ``val``; letter case does not matter. Scans may lie in
one more folder, ``xyz``. The rules are in :mod:`gsclip.data.part_folders`, the places of masks and colours in
:mod:`gsclip.data.companions`. Every file that is named as a scan is listed, readable or not; what is left out is warned
of.

By a table: ``<root>/labels.csv`` with the columns ``scan`` and ``mask`` (relative paths with /, below its folder),
``category``, ``split`` (``test`` where it is empty or missing), and ``label`` (0 or 1) or ``defect`` (``good``, or its
kind; 0 and 1 mean what they do as labels), or both. Letter case of the file's name does not matter. Commas, semicolons
or tabs separate, as the first line shows, or a line ``sep=;`` before it says; rows without values are passed over.
Scans that the table does not name are left out and warned of.
"""

from __future__ import annotations

import csv
import functools
import io
import logging
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import numpy as np
import pandas as pd

from gsclip.data import layout, mvtec3d
from gsclip.data.companions import SCAN_FOLDER
from gsclip.data.depth_images import find_camera_file
from gsclip.data.index import INDEX_COLUMNS, validate_index
from gsclip.data.masks import DEFAULT_COLOR, mask_file, read_scan_mask
from gsclip.data.part_folders import GOOD, GOOD_WORDS, SPLIT_WORDS, find_scans, folder_rows, place
from gsclip.data.sample import Scan
from gsclip.data.scan_files import read_color, read_scan
from gsclip.errors import InputError, one_line, printable

DATASET = "own_parts"
SPLITS = ("train", "validation", "test")
SOME_DEFECT = "defect"
UNLABELLED = "%s: %d scans have no label: they are counted as good, and have no ground truth"
LABELS_FILE = "labels.csv"
LAYOUT = f"expected <root>/<category>/<split>/<good or defect>/<scan>, or <root>/{LABELS_FILE}"
_LABELS = {
    **dict.fromkeys(("0", "0.0", "good", "normal", "ok", "false"), 0),
    **dict.fromkeys(("1", "1.0", "defect", "abnormal", "defective", "nok", "true"), 1),
}

_log = logging.getLogger(__name__)


def own_parts_index(
    root: str | Path,
    categories: Sequence[str] | None = None,
    splits: Sequence[str] = ("test",),
    mask_color: str = DEFAULT_COLOR,
) -> pd.DataFrame:
    """List the scans of a folder.

    Args:
        root: folder of the categories, or of ``labels.csv``.
        categories: which; all that are there when ``None``.
        splits: of :data:`SPLITS`.
        mask_color: ``rrggbb``, hexadecimal: what marks the defect in masks that are coloured clouds.

    Returns:
        Rows as in :mod:`gsclip.data.index`, sorted by category, split, defect and name; paths relative to ``root``.
        Every file with a scan's extension has its row, broken ones too; the mask's path is empty where there is none.

    Raises:
        InputError: when the folder or a category is missing, when ``labels.csv`` is broken (the message has the line),
            or there are two that differ by letter case, when it is not clear whether the folder holds categories or is
            one, or when there are no scans.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(root, "data set folder not found", f"check the path; {LAYOUT}")
    unknown = [split for split in splits if split not in SPLITS]
    if unknown or not splits:
        raise InputError(root, f"no such split: {', '.join(unknown) or 'none named'}", f"use {', '.join(SPLITS)}")
    _has_table.cache_clear()
    table_file = _labels_file(root)
    rows = list(_table_rows(table_file)) if table_file else folder_rows(root, DATASET)
    if table_file:
        _warn_of_unnamed(root, table_file, rows)
    found = sorted({row["category"] for row in rows})
    if not found:
        raise InputError(root, "holds no scans", LAYOUT)
    if table_file is None and _is_mvtec_3d_ad(rows, found):
        _log.warning("%s: looks like %s: use --dataset %s", root, mvtec3d.DATASET, mvtec3d.DATASET)
    missing = sorted(set(categories or ()) - set(found))
    if missing:
        raise InputError(root, f"no such category: {', '.join(missing)}", f"found {', '.join(found)}")
    chosen = [row for row in rows if row["split"] in splits and (categories is None or row["category"] in categories)]
    if not chosen:
        raise InputError(root, f"holds no scans of the split {' or '.join(splits)}", LAYOUT)
    chosen.sort(key=lambda row: (row["category"], SPLITS.index(row["split"]), row["defect"], row["scan_path"]))
    _name(chosen)
    for row in chosen:
        if row["mask_path"].lower().endswith(".ply"):
            row["mask_path"] += f"#{mask_color}"
    table = pd.DataFrame(chosen).assign(dataset=DATASET)
    table["label"] = (table["defect"] != GOOD).astype(int)
    index = validate_index(table[list(INDEX_COLUMNS)], str(root))
    count = int(sum(unlabelled(root, row) for _, row in index.iterrows()))
    if count:
        _log.warning(UNLABELLED, root, count)
    return index


def read_row(root: str | Path, row: pd.Series) -> Scan:
    """Read the scan, the mask and the colours of one row of the index.

    Args:
        root: the data set's folder.
        row: one row of :func:`own_parts_index`.

    Returns:
        The scan; its mask is all false for a scan labelled good without a mask file, and ``None`` where nothing is
        known.

    Raises:
        InputError: when a file is missing, broken, or does not fit the scan.
    """
    root = Path(root)
    scan = read_scan(root / row["scan_path"])
    shape = scan.points.shape[:-1]
    mask: np.ndarray | None = None
    if row["mask_path"]:
        mask = read_scan_mask(root / row["mask_path"], scan)
    elif row["label"] == 0 and not unlabelled(root, row):
        mask = np.zeros(shape, dtype=bool)
    colors = scan.colors
    if row["color_path"]:
        if len(shape) != 2:
            raise InputError(root / row["color_path"], "is an image, and the scan has no pixels", "take it away")
        colors = read_color(root / row["color_path"], (shape[0], shape[1]))
    return Scan(points=scan.points, mask=mask, colors=colors)


def further_inputs(root: str | Path, row: pd.Series) -> tuple[Path | bool, ...]:
    """What :func:`read_row` depends on beside the row and its files: is there a label, and the camera of an image."""
    path = Path(root) / row["scan_path"]
    camera = find_camera_file(path) if path.suffix.lower() == ".png" else None
    return (unlabelled(root, row), *(() if camera is None else (camera,)))


def unlabelled(root: str | Path, row: pd.Series) -> bool:
    """Whether a row of the index is called good only since nothing is known: its file lies in no folder of a label."""
    if row["label"] == 1 or any(name.lower() in GOOD_WORDS for name in PurePath(row["scan_path"]).parts[:-1]):
        return False
    try:
        changed = Path(root).stat().st_mtime_ns
    except OSError:
        changed = 0
    return not _has_table(Path(root), changed)


@functools.lru_cache
def _has_table(root: Path, _changed: int) -> bool:
    """Whether there is a table of labels; asked anew when the time of the folder's last change is another one."""
    return _labels_file(root) is not None


def _labels_file(root: Path) -> Path | None:
    """The table of labels, in any letter case; ``None`` where there is none.

    Raises:
        InputError: when there are two.
    """
    found = [path for path in layout.entries(root) if path.name.lower() == LABELS_FILE and path.is_file()]
    if len(found) > 1:
        problem = f"holds {' and '.join(path.name for path in found)}: it is not clear which one counts"
        raise InputError(root, problem, "keep one of them")
    return found[0] if found else None


def _warn_of_unnamed(root: Path, table_file: Path, rows: Sequence[dict[str, str]]) -> None:
    """Log one warning of the scans below the folder that the table names neither as scans nor as masks."""
    named = {posixpath.normpath(mask_file(row[key])) for row in rows for key in ("scan_path", "mask_path") if row[key]}
    unnamed = [path for path in find_scans(root) if layout.relative(path, root) not in named]
    layout.warn_of_left_out(unnamed, f"scans are not named in {table_file.name}", root)


def _is_mvtec_3d_ad(rows: Sequence[dict[str, str]], categories: Sequence[str]) -> bool:
    return {name.lower() for name in categories} <= set(mvtec3d.OFFICIAL_CATEGORIES) and all(
        PurePath(row["scan_path"]).parent.name.lower() == SCAN_FOLDER for row in rows
    )


def _table_rows(path: Path) -> Iterator[dict[str, str]]:
    remedy = "give the columns scan, category, and label or defect; split and mask if they are known"
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read ({one_line(error)})", "save it as UTF-8") from error
    first, separator = _separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for _ in range(first):
            next(reader)
        names = [name.strip().lower() for name in next(reader, [])]
        while names and not names[-1]:  # columns without a name at the end, as spreadsheets write them
            names.pop()
        head = f"line {first + 1}"
        lacking = sorted({"scan", "category"} - set(names)) or ([] if {"label", "defect"} & set(names) else ["label"])
        if lacking:
            raise InputError(path, f"{head}: lacks the column {', '.join(lacking)}", remedy)
        if len(set(names)) < len(names):
            raise InputError(path, f"{head}: names a column twice", remedy)
        seen: dict[str, int] = {}
        for cells in reader:
            line, values = reader.line_num, [cell.strip() for cell in cells]
            if not any(values):
                continue
            if len(values) < len(names) or any(values[len(names) :]):
                raise InputError(path, f"line {line}: has not as many values as the first line has names", remedy)
            checked = _checked(path, line, dict(zip(names, values, strict=False)))
            earlier = seen.setdefault(checked["scan_path"], line)
            if earlier != line:
                raise InputError(path, f"line {line}: names the scan of line {earlier} again", "leave one of them out")
            yield checked
    except csv.Error as error:
        raise InputError(path, f"line {reader.line_num}: is no CSV ({one_line(error)})", "save it as CSV") from error
    if not seen:
        raise InputError(path, "the table has no rows", "give one row for each scan")


def _separator(text: str) -> tuple[int, str]:
    """How many lines come before that of the names (0 or 1), and what separates values."""
    first, *rest = re.split(r"\r\n|[\r\n]", text, maxsplit=1)
    said = re.fullmatch(r'"?sep=([;,\t])"?[;,\t]*', first.strip(" "), flags=re.IGNORECASE)
    if said and rest:
        return 1, said[1]
    return 0, max(",;\t", key=first.count)


def _checked(path: Path, line: int, values: dict[str, str]) -> dict[str, str]:
    """Row of the index from one of the table; raises InputError with the line."""

    def refuse(problem: str, remedy: str) -> InputError:
        return InputError(path, f"line {line}: {problem}", remedy)

    for name in ("scan", "category"):
        if not values[name]:
            raise refuse(f"{name} is empty", "fill it in")
    split = SPLIT_WORDS.get((values.get("split") or "test").lower())
    if split is None:
        raise refuse(f"no such split: {values['split'].lower()}", f"use {', '.join(SPLITS)}")
    given, defect = values.get("label", "").lower(), values.get("defect", "")
    if defect.lower() in _LABELS:
        defect = SOME_DEFECT if _LABELS[defect.lower()] else GOOD
    if given and given not in _LABELS:
        raise refuse(f"no such label: {given}", "use 0 for good and 1 for defect")
    if not given and not defect:
        raise refuse("neither label nor defect is given", "use 0 for good and 1 for defect")
    if given and defect and _LABELS[given] != (defect != GOOD):
        raise refuse(f"the label {given} contradicts the defect {defect}", "correct one of them")
    defect = defect or (SOME_DEFECT if _LABELS[given] else GOOD)
    for name, value in (("category", values["category"]), ("defect", defect)):
        if "/" in value or value != printable(value) or value in (".", ".."):
            raise refuse(f"{name} {value} is no name", "use letters, digits, - and _")
    scan, mask = (_inside(values.get(name, ""), name, refuse) for name in ("scan", "mask"))
    parts = PurePath(scan).parts
    return {
        "category": values["category"],
        "split": split,
        "defect": defect,
        "scan_path": scan,
        "mask_path": mask,
        "color_path": "",
        "file": place(parts[1:] or parts)[2],
    }


def _inside(path: str, column: str, refuse: Callable[[str, str], InputError]) -> str:
    """Path of the table without ``.`` and ``..``, so that no link changes what they mean; empty where it is.

    Args:
        path: as it is written.
        column: where it stands, for messages.
        refuse: makes the error from problem and remedy.
    """
    remedy = "give the path of a file below the folder of the table, relative to it"
    if "\0" in path:
        raise refuse(f"the path of the {column} holds a zero byte", "correct it")
    if "\\" in path:
        raise refuse(f"the path of the {column} holds a backslash: {path}", "write it with /")
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).drive:
        raise refuse(f"the path of the {column} is absolute: {path}", remedy)
    normal = posixpath.normpath(path) if path else ""
    if normal in (".", "..") or normal.startswith("../"):
        raise refuse(f"the path of the {column} leads out of the folder: {path}", remedy)
    return normal


def _name(rows: Sequence[dict[str, str]]) -> None:
    """Give each row a unique name: from the file's, and from as much of its path as that needs."""

    def full(row: dict[str, str], stem: bool) -> str:
        file = PurePath(row["file"]).stem if stem else row["file"]
        return "/".join([row["category"], row["split"], row["defect"], file])

    for row in rows:
        row["name"] = full(row, stem=True)
    for finer in (
        lambda row: full(row, stem=False),
        lambda row: "/".join([row["category"], row["split"], row["defect"], row["scan_path"].replace("/", "-")]),
    ):
        counts = Counter(row["name"] for row in rows)
        for row in rows:
            if counts[row["name"]] > 1:
                row["name"] = finer(row)
