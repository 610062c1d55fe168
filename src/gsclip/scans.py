"""Which scans a call means: the files that are named, and what lies in the folders; each with a name of its own."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gsclip.data import layout
from gsclip.data.checks import REJECTED_FILE
from gsclip.data.companions import is_companion, pictures
from gsclip.data.scan_files import SCAN_EXTENSIONS, is_named_as_scan, looks_like_scan
from gsclip.errors import InputError
from gsclip.results import is_result

_KNOWN = f"known are {', '.join(SCAN_EXTENSIONS)}, and .png with a camera file"


@dataclass
class _Found:
    """What lies below a folder: scans, pictures of scans, links to folders, scans in the folder of the results."""

    scans: list[Path] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    among_results: list[Path] = field(default_factory=list)


def find_scans(paths: Sequence[Path], output: Path | None = None) -> dict[str, Path]:
    """Name every scan: by its file name without extension, with as many folders before it as make names unique.

    Where folders do not, names have the extension, too, or else a number.

    Args:
        paths: files, or folders that are searched for files named as scans, whether or not they can be read.
        output: folder of the results; what lies in it is no scan, nor are hidden files, masks and colour images of
            scans (:mod:`gsclip.data.companions`), and pictures called as a scan beside them. Pictures, links to
            folders, folders that cannot be looked into, and what seems a scan among the results are warned of.

    Raises:
        InputError: when a folder cannot be read, holds no scan, or lies in that of the results.
    """
    layout.start_listing()
    files: list[Path] = []
    for path in paths:
        files += _in_folder(path, output) if os.path.isdir(path) else [path]  # Path.is_dir raises on too long a name
    return _names(list(dict.fromkeys(files)))


def _in_folder(folder: Path, output: Path | None) -> list[Path]:
    """Scans below a folder, sorted; what is left out is warned of."""
    results = None if output is None else Path(os.path.realpath(output))
    if _lies_in(folder, results):
        problem = f"is searched for scans, and the results would go to {output}, which holds it or is the same"
        raise InputError(folder, problem, "choose another --output")
    layout.check_open(folder)
    found = _search(folder, results)
    for paths, problem in (
        (sorted(found.pictures), "pictures have the name of a scan beside them and no camera file"),
        (sorted(found.links), "links to folders are not followed"),
        (sorted(found.among_results), "scans lie in the folder of the results"),
    ):
        layout.warn_of_left_out(paths, problem, folder)
    if not found.scans:
        raise InputError(folder, "the folder holds no scans", _KNOWN)
    return sorted(found.scans)


def _search(root: Path, results: Path | None) -> _Found:
    """Everything below a folder but for what lies in the folder of the results; links to folders are not followed."""
    found, pending = _Found(), [root]
    while pending:
        entries = layout.entries(pending.pop())
        found.among_results += [scan for path in entries if _lies_in(path, results) for scan in _no_results(path)]
        entries = [path for path in entries if not _lies_in(path, results)]
        folders = {path for path in entries if layout.is_folder(path)}
        named = (path for path in entries if is_named_as_scan(path, folder=path in folders))
        scans = [path for path in named if not is_companion(path)]
        shown = pictures(scans)
        found.pictures += shown
        found.scans += [path for path in scans if path not in shown]
        for path in folders:
            if not path.is_symlink():
                pending.append(path)
            elif path not in scans:
                found.links.append(path)
    return found


def _no_results(path: Path) -> list[Path]:
    """Files at or below a path that are named as scans and that no earlier call wrote; links are not followed."""
    folder = layout.is_folder(path)
    if folder and path.is_symlink():
        return []
    files = layout.files_below(path) if folder else [path]
    return [file for file in files if looks_like_scan(file) and not is_companion(file) and not is_result(file)]


def _lies_in(path: Path, results: Path | None) -> bool:
    # Path.resolve raises where links lead in a circle.
    return results is not None and Path(os.path.realpath(path)).is_relative_to(results)


def _names(files: Sequence[Path]) -> dict[str, Path]:
    """Different paths by a unique name each, in their order.

    Where names are alike, those that are shortest so far grow, until all differ or all are as long as can be.
    """
    deepest = max((len(file.parts) for file in files), default=0)
    last = 2 * deepest + 1
    levels = dict.fromkeys(files, 0)
    names = {file: _name(file, 0, deepest) for file in files}
    growing = True
    while growing:
        groups: dict[str, list[Path]] = defaultdict(list)
        for file, name in names.items():
            groups[name].append(file)
        growing = False
        for members in groups.values():
            short = [file for file in members if levels[file] < last] if len(members) > 1 else []
            lowest = min((levels[file] for file in short), default=last)
            for file in short:
                if levels[file] == lowest:
                    growing = True
                    levels[file] += 1
                    names[file] = _name(file, levels[file], deepest)
    return _numbered(names)


def _name(file: Path, level: int, deepest: int) -> str:
    """Name with as many folders as the level says; beyond the deepest one, with the extension as well."""
    depth = level if level <= deepest else level - deepest - 1
    folders = [part for part in file.parts[:-1] if part != file.anchor]
    stem = file.stem if level <= deepest and file.stem.strip(".") else file.name  # "." and ".." are other folders
    return "-".join([*folders[max(0, len(folders) - depth) :], stem])


def _numbered(names: Mapping[Path, str]) -> dict[str, Path]:
    """Add a number to all but the first of what is alike, and to names of the tables of results."""
    taken = {*names.values(), REJECTED_FILE}
    unique: dict[str, Path] = {}
    for file, name in names.items():
        numbered, number = name, 2
        if name in unique or name == REJECTED_FILE:
            while (numbered := f"{name}-{number}") in taken:
                number += 1
            taken.add(numbered)
        unique[numbered] = file
    return unique
