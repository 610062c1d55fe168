"""Own parts: a folder of scans of any known kind, labelled by its sub-folders or by a table.

By sub-folders, the splits and labels as far as they are known::

    <root>/<category>/<split>/<good, or a kind of defect>/<scan>
    <root>/<category>/<good, or a kind of defect>/<scan>          the split is test
    <root>/<category>/<scan>                                      unlabelled: counted as good, no ground truth
    <root>/<scan>                                                 likewise, of one category with the folder's name,
                                                                  where there are no folders of scans

The mask of ``<name>.<extension>`` is ``<name>_mask.*`` beside it, or ``<name>.*`` in a folder ``masks`` (``gt``,
``ground_truth``) beside it; the colours of an organised scan are ``<name>_rgb.png``. See :mod:`gsclip.data.masks`.

By a table: ``<root>/labels.csv`` with the columns ``scan`` and ``mask`` (paths relative to it), ``category``, ``split``
(``test`` where it is empty or missing), and ``label`` (0 or 1) or ``defect`` (``good``, or its kind), or both.
"""

from __future__ import annotations

import csv
import io
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from gsclip.data.depth_images import find_camera_file
from gsclip.data.index import INDEX_COLUMNS, validate_index
from gsclip.data.masks import DEFAULT_COLOR, MASK_EXTENSIONS, read_scan_mask
from gsclip.data.sample import Scan
from gsclip.data.scan_files import SCAN_EXTENSIONS, is_scan_file, read_color, read_scan
from gsclip.errors import InputError, one_line, printable

DATASET = "own_parts"
SPLITS = ("train", "validation", "test")
GOOD, SOME_DEFECT = "good", "defect"
LABELS_FILE = "labels.csv"
MASK_FOLDERS = ("masks", "gt", "ground_truth")
MASK_SUFFIX, COLOR_SUFFIX = "_mask", "_rgb"
LAYOUT = f"expected <root>/<category>/<split>/<good or defect>/<scan>, or <root>/{LABELS_FILE}"
_LABELS = {
    **dict.fromkeys(("0", "good", "normal", "ok", "false"), 0),
    **dict.fromkeys(("1", "defect", "abnormal", "defective", "nok", "true"), 1),
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
            or when there are no scans.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(root, "data set folder not found", f"check the path; {LAYOUT}")
    unknown = [split for split in splits if split not in SPLITS]
    if unknown or not splits:
        raise InputError(root, f"no such split: {', '.join(unknown) or 'none named'}", f"use {', '.join(SPLITS)}")
    rows = list(_table_rows(root / LABELS_FILE) if (root / LABELS_FILE).is_file() else _folder_rows(root))
    found = sorted({row["category"] for row in rows})
    if not found:
        raise InputError(root, "holds no scans", LAYOUT)
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
        _log.warning("%s: %d scans have no label: they are counted as good, and have no ground truth", root, count)
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
    if (Path(root) / LABELS_FILE).is_file():
        return False
    return _place(PurePath(row["scan_path"]).parts)[1] is None


def assumptions(extents: np.ndarray) -> str:
    """What is assumed of scans whose unit and pose are not known, in one line.

    Args:
        extents: (s, 3) extent of each part along x, y and z, in the unit of its scan.
    """
    sides = " x ".join(f"{side:.3g}" for side in np.median(extents, axis=0))
    many = "extent" if len(extents) == 1 else f"median extent of {len(extents)} scans"
    return f"{many} {sides}: taken as it is; scores do not depend on the unit; the cameras look along +z"


def _place(parts: Sequence[str]) -> tuple[str, str | None, str]:
    """Split, defect (``None``: unlabelled) and name of a file from its path below the root."""
    middle = list(parts[1:-1])
    split = middle.pop(0).lower() if middle and middle[0].lower() in SPLITS else "test"
    if not middle:
        return split, None, parts[-1]
    defect = GOOD if middle[0].lower() == GOOD else middle[0]
    return split, defect, "-".join([*middle[1:], parts[-1]])


def _row(root: Path, path: Path, category: str) -> dict[str, str]:
    split, defect, _ = _place(path.relative_to(root).parts)
    mask = _mask_of(path)
    color = path.with_name(f"{path.stem}{COLOR_SUFFIX}.png")
    return {
        "category": category,
        "split": split,
        "defect": defect or GOOD,
        "scan_path": path.relative_to(root).as_posix(),
        "mask_path": mask.relative_to(root).as_posix() if mask else "",
        "color_path": color.relative_to(root).as_posix() if os.path.isfile(color) else "",
    }


def _folder_rows(root: Path) -> Iterator[dict[str, str]]:
    loose, folders = [], False
    for entry in _entries(root):
        if not entry.is_dir():
            companion = entry.stem.endswith((MASK_SUFFIX, COLOR_SUFFIX))
            loose += [entry] if is_scan_file(entry) and not companion else []
            continue
        for path in _scan_files(entry):
            folders = True
            yield _row(root, path, entry.name)
    if not folders:
        category = root.resolve().name or DATASET
        yield from (_row(root, path, category) for path in loose)
    elif loose:
        _log.warning("%s: %d scans lie in no folder of a category and are left out", root, len(loose))


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted; hidden files left out."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(folder, f"the folder cannot be read ({error.strerror})", "check its permissions") from error


def _scan_files(folder: Path) -> Iterator[Path]:
    """Everything below a folder that is named as a scan, whatever it is; links to folders are not followed."""
    for path in _entries(folder):
        companion = path.stem.endswith((MASK_SUFFIX, COLOR_SUFFIX))
        if path.suffix.lower() in SCAN_EXTENSIONS or (not path.is_dir() and is_scan_file(path)):
            if not companion:
                yield path
        elif path.is_dir() and not path.is_symlink() and path.name.lower() not in MASK_FOLDERS:
            yield from _scan_files(path)


def _mask_of(scan: Path) -> Path | None:
    stems = [scan.with_name(scan.stem + MASK_SUFFIX), *(scan.parent / name / scan.stem for name in MASK_FOLDERS)]
    candidates = (stem.with_name(stem.name + extension) for stem in stems for extension in MASK_EXTENSIONS)
    return next((path for path in candidates if os.path.isfile(path)), None)


def _table_rows(path: Path) -> Iterator[dict[str, str]]:
    remedy = "give the columns scan, category, and label or defect; split and mask if they are known"
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read ({one_line(error)})", "save it as UTF-8") from error
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if head.count(";") > head.count(",") else ",")
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        lacking = sorted({"scan", "category"} - set(names)) or ([] if {"label", "defect"} & set(names) else ["label"])
        if lacking:
            raise InputError(path, f"line 1: lacks the column {', '.join(lacking)}", remedy)
        if len(set(names)) < len(names):
            raise InputError(path, "line 1: names a column twice", remedy)
        seen: dict[str, int] = {}
        for row in reader:
            line = reader.line_num
            if None in row or None in row.values():
                raise InputError(path, f"line {line}: has not as many values as the first line has names", remedy)
            values = {name: value.strip() for name, value in row.items()}
            checked = _checked(path, line, values)
            first = seen.setdefault(checked["scan_path"], line)
            if first != line:
                raise InputError(path, f"line {line}: names the scan of line {first} again", "leave one of them out")
            yield checked
    except csv.Error as error:
        raise InputError(path, f"line {reader.line_num}: is no CSV ({one_line(error)})", "save it as CSV") from error


def _checked(path: Path, line: int, values: dict[str, str]) -> dict[str, str]:
    """Row of the index from one of the table; raises InputError with the line."""

    def refuse(problem: str, remedy: str) -> InputError:
        return InputError(path, f"line {line}: {problem}", remedy)

    for name in ("scan", "category"):
        if not values[name]:
            raise refuse(f"{name} is empty", "fill it in")
    split = (values.get("split") or "test").lower()
    if split not in SPLITS:
        raise refuse(f"no such split: {split}", f"use {', '.join(SPLITS)}")
    given, defect = values.get("label", "").lower(), values.get("defect", "")
    defect = GOOD if defect.lower() == GOOD else defect
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
    if "\0" in values["scan"] + values.get("mask", ""):
        raise refuse("a path holds a zero byte", "correct it")
    return {
        "category": values["category"],
        "split": split,
        "defect": defect,
        "scan_path": values["scan"],
        "mask_path": values.get("mask", ""),
        "color_path": "",
    }


def _name(rows: Sequence[dict[str, str]]) -> None:
    """Give each row a unique name: from the file's, and from as much of its path as that needs."""

    def full(row: dict[str, str], stem: bool) -> str:
        file = _place(PurePath(row["scan_path"]).parts)[2]
        return "/".join([row["category"], row["split"], row["defect"], PurePath(file).stem if stem else file])

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
