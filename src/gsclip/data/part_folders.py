"""Own parts that are labelled by their sub-folders; see :mod:`gsclip.data.own_parts` for the layout.

Whether the root holds categories or is one itself is told by the folders right below it that hold scans:

==========================================================  ========================================================
one of them                                                 the root
==========================================================  ========================================================
is called good (:data:`GOOD_WORDS`)                         is one category; the others are splits or kinds of defect
is called as a split, or ``xyz``, and so are all others     is one category
is called as a split, or ``xyz``, and others are not        is refused: they may be categories or kinds of defect
none                                                        holds a category in each; without any, is one category
==========================================================  ========================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from gsclip.data import layout
from gsclip.data.companions import COLOR_FOLDERS, MASK_FOLDERS, SCAN_FOLDER, companions, pictures, scan_stem
from gsclip.data.masks import MASK_EXTENSIONS
from gsclip.data.scan_files import is_named_as_scan, looks_like_scan
from gsclip.errors import InputError

GOOD = "good"
GOOD_WORDS = (GOOD, "ok", "normal")
SPLIT_WORDS: Mapping[str, str] = MappingProxyType(
    {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
)


@dataclass
class _Found:
    """What lies below a folder: scans with their mask and colours, files of masks and colours, pictures, links."""

    scans: list[tuple[Path, Path | None, Path | None]] = field(default_factory=list)
    companions: set[Path] = field(default_factory=set)
    pictures: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)


def folder_rows(root: Path, unnamed: str) -> list[dict[str, str]]:
    """Find the scans below a folder, whatever their files are; what is left out is warned of.

    Args:
        root: the data set's folder.
        unnamed: what to call its category where it is one, and has no name.

    Returns:
        Columns of :mod:`gsclip.data.index` but name, dataset and label; ``file`` is what the name is made from.

    Raises:
        InputError: when ``root`` cannot be looked into, it is not clear what its folders are, or a folder called good
            lies where kinds of defect are divided further.
    """
    layout.start_listing()
    layout.check_open(root)
    found = _search(root)
    one_category = _is_category(root, [scan.relative_to(root).parts for scan, _, _ in found.scans])
    rows, loose = [], []
    for scan, mask, color in found.scans:
        parts = scan.relative_to(root).parts
        if len(parts) == 1 and not one_category:
            loose.append(scan)
            continue
        below = parts if one_category else parts[1:]
        _refuse_deep_good(root, parts, below)
        split, defect, file = place(below)
        rows.append({
            "category": (root.resolve().name or unnamed) if one_category else parts[0],
            "split": split,
            "defect": defect or GOOD,
            "scan_path": layout.relative(scan, root),
            "mask_path": layout.relative(mask, root),
            "color_path": layout.relative(color, root),
            "file": file,
        })
    _warn(root, found, loose)
    return rows


def find_scans(root: Path) -> list[Path]:
    """Files below a folder that :func:`folder_rows` would take for scans, sorted; nothing is warned of."""
    layout.start_listing()
    return sorted(scan for scan, _, _ in _search(root).scans)


def place(parts: Sequence[str]) -> tuple[str, str | None, str]:
    """Split, defect (``None``: unlabelled) and name of a file from its path below its category."""
    middle = list(parts[:-1])
    if middle and middle[-1].lower() == SCAN_FOLDER:
        middle.pop()
    split = SPLIT_WORDS[middle.pop(0).lower()] if middle and middle[0].lower() in SPLIT_WORDS else "test"
    if not middle:
        return split, None, parts[-1]
    return split, GOOD if middle[0].lower() in GOOD_WORDS else middle[0], "-".join([*middle[1:], parts[-1]])


def _refuse_deep_good(root: Path, parts: Sequence[str], below: Sequence[str]) -> None:
    """Raise InputError where a folder called good lies below one that would count as a kind of defect.

    Args:
        root: the data set's folder.
        parts: path of a scan below it.
        below: its path below its category.
    """
    _, defect, _ = place(below)
    folders = [name.lower() for name in parts[:-1]]
    deep = next((at for at in range(len(parts) - len(below), len(folders)) if folders[at] in GOOD_WORDS), None)
    if deep is not None and defect != GOOD:
        problem = f"lies below {'/'.join(parts[:deep])}, so that its scans would count as defective ({defect})"
        remedy = f"put it below its category, or a split ({', '.join(SPLIT_WORDS)}) in it; or give labels.csv"
        raise InputError(root.joinpath(*parts[: deep + 1]), problem, remedy)


def _is_category(root: Path, paths: Sequence[tuple[str, ...]]) -> bool:
    """Whether the root itself is the one category, from the paths of scans below it."""
    above = {parts[0] for parts in paths if len(parts) > 1}
    good = sorted(name for name in above if name.lower() in GOOD_WORDS)
    words = good + sorted(name for name in above if name.lower() in (*SPLIT_WORDS, SCAN_FOLDER))
    others = sorted(above - set(words))
    remedy = "put categories at the top, then splits, then good and kinds of defect; or give labels.csv"
    if words and others and not good:
        problem = f"holds {words[0]} beside {others[0]}, which may be a category or a kind of defect"
        raise InputError(root, problem, remedy)
    for parts in paths if words else ():
        folders = list(parts[:-1])
        top = 2 if folders and folders[0].lower() in SPLIT_WORDS else 1
        if len(folders) > top and folders[top].lower() in (*GOOD_WORDS, *SPLIT_WORDS):
            category, label = "/".join(folders[:top]), folders[top]
            first = next((f"{name} at the top, and " for name in words if name != category), "")
            problem = f"holds {first}{category}, which holds {label} as a category does"
            raise InputError(root, problem, remedy)
    return bool(words) or not above


def _search(root: Path) -> _Found:
    """Everything below a folder; links to folders are followed right below the root alone."""
    found, pending = _Found(), [root]
    while pending:
        folder = pending.pop()
        entries = layout.entries(folder)
        folders = {path for path in entries if layout.is_folder(path)}
        scans = [path for path in entries if _is_scan(path, path in folders)]
        shown = pictures(scans)
        found.pictures += shown
        scans = [path for path in scans if path not in shown]
        _add_scans(found, folder, scans, root)
        found.companions |= {path for path in set(entries) - folders if scan_stem(path) is not None}
        beside = bool(scans) or any(path.name.lower() == SCAN_FOLDER for path in folders)
        for path in sorted(folders.difference(scans)):
            name = path.name.lower()
            if (name in MASK_FOLDERS and (beside or folder != root)) or (name in COLOR_FOLDERS and beside):
                found.companions |= {file for file in layout.files_below(path) if _may_be_companion(file)}
            elif path.is_symlink() and folder != root:
                found.links.append(path)
            else:
                pending.append(path)
    return found


def _is_scan(path: Path, folder: bool) -> bool:
    return is_named_as_scan(path, folder=folder) and scan_stem(path) is None


def _add_scans(found: _Found, folder: Path, scans: Sequence[Path], root: Path) -> None:
    if scans:
        near = companions(folder, root)
        found.scans += [(scan, near.mask_of(scan), near.colors_of(scan)) for scan in scans]


def _may_be_companion(path: Path) -> bool:
    return looks_like_scan(path) or path.suffix.lower() in MASK_EXTENSIONS


def _warn(root: Path, found: _Found, loose: Sequence[Path]) -> None:
    used = {path for _, *others in found.scans for path in others}
    layout.warn_of_orphans(found.companions - used, "masks or images", root)
    for paths, problem in (
        (loose, "scans lie in no folder of a category"),
        (sorted(found.pictures), "pictures have the name of a scan beside them and no camera file"),
        (sorted(found.links), "links to folders are not followed"),
    ):
        layout.warn_of_left_out(paths, problem, root)
