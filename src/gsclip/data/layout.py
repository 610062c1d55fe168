"""Folders as they are found on disks: letter case, clutter of file managers and a folder more on top do not matter.

Names are compared in lower case; where two would then be the same, the choice is left to the user by an error. A folder
that cannot be looked into is passed over, with one warning a listing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gsclip.data.index import INDEX_COLUMNS, validate_index
from gsclip.errors import InputError, printable

if TYPE_CHECKING:
    import pandas as pd

CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
MAX_NESTING = 3  # folders between the one that is named and the one that holds the categories
MAX_NAMES = 10  # that one warning gives

_log = logging.getLogger(__name__)


class MissingSplitError(InputError):
    """A split is not there: not known, or in no category, or not in one of them."""


class MissingCategoryError(InputError):
    """A category that was asked for is not there."""


_passed_over: set[Path] = set()  # folders that the listing under way has warned of


def folders(parent: Path) -> dict[str, Path]:
    """Folders in ``parent`` by their name in lower case, sorted by it; hidden ones and clutter left out.

    Raises:
        InputError: when two names differ in letter case alone.
    """
    return _by_key(parent, ((path.name.lower(), path) for path in entries(parent) if is_folder(path)))


def folder(parent: Path, *names: str) -> Path | None:
    """The folder in ``parent`` with one of these names, in any letter case; ``None`` where there is none.

    Raises:
        InputError: when more than one is there.
    """
    found = [path for name, path in folders(parent).items() if name in names]
    if len(found) > 1:
        problem = f"holds {' and '.join(path.name for path in found)}, which mean the same"
        raise InputError(parent, problem, "keep one of them")
    return found[0] if found else None


def files(parent: Path | None, extensions: Sequence[str]) -> dict[str, Path]:
    """Files in ``parent`` by their name in lower case without extension, sorted by it; none without a ``parent``.

    Args:
        parent: folder; hidden files and clutter in it are left out.
        extensions: in lower case, such as ``.png``; files may write them in any case.

    Raises:
        InputError: when two of them have the same name but for letter case or extension.
    """
    return _by_key(parent, _named_files(parent, extensions)) if parent is not None else {}


def scan_files(parent: Path | None, extensions: Sequence[str]) -> dict[str, list[Path]]:
    """Like :func:`files`; all files that have a name, sorted: one, or more where it is not clear which one counts."""
    found: dict[str, list[Path]] = {}
    for key, path in sorted(_named_files(parent, extensions)) if parent is not None else ():
        found.setdefault(key, []).append(path)
    return found


def sample_name(stem: str, scan: Path, scans: Sequence[Path]) -> str:
    """Last part of a sample's name: ``stem``, or where several files are the sample, the whole name of its file.

    :func:`refuse_twin` then refuses to read it.
    """
    return stem if len(scans) == 1 else scan.name


def refuse_twin(path: Path, name: str, extensions: Sequence[str]) -> None:
    """Raise InputError where a sample's name, of :func:`sample_name`, says that several files are the sample.

    Args:
        path: of the scan.
        name: of the sample in the index.
        extensions: of scans, in lower case.
    """
    if name.endswith(f"/{path.name}"):
        twins = [found.name for found in scan_files(path.parent, extensions).get(path.stem.lower(), [path])]
        problem = f"{' and '.join(twins)} are the same sample: it is not clear which one counts"
        raise InputError(path, problem, "keep one of them", "readable")


def _named_files(parent: Path, extensions: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Files of a folder with one of the extensions: name in lower case without extension, and path."""
    for path in entries(parent) if is_folder(parent) else ():
        if path.suffix.lower() in extensions and _is_file(path):
            yield path.stem.lower(), path


def warn_of_orphans(orphans: Iterable[Path], kind: str, top: Path | None = None) -> None:
    """Log one warning that names files whose scan is not there.

    Args:
        orphans: all in one folder, or few folders beside each other, or anywhere below ``top``.
        kind: what the files are.
        top: folder that the message names.
    """
    paths = sorted(orphans)
    if paths:
        top = top or paths[0].parent.parent
        _log.warning("%s: %s without a scan, left out: %s", printable(top), kind, listed(paths, top))


def warn_of_left_out(paths: Sequence[Path], problem: str, top: Path) -> None:
    """Log one warning that names paths below ``top`` that are left out, and why; none where there are none."""
    if paths:
        names = listed(paths, top)
        _log.warning("%s: %d %s, left out: %s", printable(top), len(paths), problem, names)


def listed(paths: Sequence[Path], top: Path) -> str:
    """Up to :data:`MAX_NAMES` paths relative to ``top``, which they lie below, and how many more there are."""
    names = ", ".join(printable(path.relative_to(top).as_posix()) for path in paths[:MAX_NAMES])
    return f"{names} and {len(paths) - MAX_NAMES} more" if len(paths) > MAX_NAMES else names


def relative(path: Path | None, root: Path) -> str:
    """Path for a column of the index: relative to ``root``, with slashes; empty for ``None``."""
    return path.relative_to(root).as_posix() if path else ""


def category_folders(
    root: Path, is_category: Callable[[Path], bool], official: Sequence[str], splits: Sequence[str], expected: str
) -> dict[str, Path]:
    """Find the categories of a data set, up to :data:`MAX_NESTING` folders below ``root``.

    Args:
        root: folder that the user names.
        is_category: whether a folder is one of a category.
        official: names as the data set writes them; other categories keep the name of their folder.
        splits: that are looked for; for the message.
        expected: the layout in one line; for the message.

    Returns:
        Folder of each category, by name, sorted.

    Raises:
        InputError: when ``root`` is no folder or holds no category, or categories lie in more than one folder.
    """
    if not is_folder(root):
        raise InputError(root, "data set folder not found", f"check the path; {expected}")
    level = [root]
    for _ in range(MAX_NESTING + 1):
        found = {top: members for top in level if (members := [f for f in folders(top).values() if is_category(f)])}
        if len(found) > 1:
            places = ", ".join(top.relative_to(root).as_posix() for top in found)
            raise InputError(root, f"holds categories in several folders: {places}", "name one of these folders")
        if found:
            spelled = {name.lower(): name for name in official}
            members = next(iter(found.values()))
            return {spelled.get(path.name.lower(), path.name): path for path in members}
        level = [below for above in level for below in folders(above).values()]
    problem = f"holds no category with the split {' or '.join(splits)}"
    raise MissingSplitError(root, problem, f"name the data set's top folder; {expected}")


def list_samples(
    root: Path,
    categories: Sequence[str] | None,
    splits: Sequence[str],
    *,
    known_splits: Sequence[str],
    find_categories: Callable[[], Mapping[str, Path]],
    rows: Callable[[str, Path, str], Iterator[dict[str, str | int]]],
    nothing: tuple[str, str],
) -> pd.DataFrame:
    """List a data set that keeps one folder for each category: checks what is asked for, and orders the rows.

    Args:
        root: the data set's folder.
        categories: which to list; all that are there when ``None``.
        splits: of ``known_splits``.
        known_splits: in the order in which the rows come.
        find_categories: gives the folder of each category by name.
        rows: from name and folder of a category and a split to its rows.
        nothing: problem and remedy of the error when there are no samples.

    Returns:
        Rows as in :mod:`gsclip.data.index`.

    Raises:
        InputError: when a category or a split is not known, or there are no samples.
    """
    unknown = [split for split in splits if split not in known_splits]
    if unknown or not splits:
        problem = f"no such split: {', '.join(unknown) or 'none named'}"
        raise MissingSplitError(root, problem, f"use {', '.join(known_splits)}")
    found = find_categories()
    chosen = sorted(found) if categories is None else sorted(set(categories))
    missing = [category for category in chosen if category not in found]
    if missing or not chosen:
        problem = f"no such category: {', '.join(missing) or 'none named'}"
        raise MissingCategoryError(root, problem, f"found {', '.join(sorted(found))}")
    ordered = [split for split in known_splits if split in splits]
    table = [row for category in chosen for split in ordered for row in rows(category, found[category], split)]
    _passed_over.clear()
    if not table:
        raise InputError(root, *nothing)
    import pandas as pd

    return validate_index(pd.DataFrame(table, columns=list(INDEX_COLUMNS)), str(root))


def start_listing() -> None:
    """Forget which folders the last listing has warned of; :func:`list_samples` needs no call."""
    _passed_over.clear()


def entries(parent: Path) -> list[Path]:
    """What lies in ``parent``, sorted; hidden files and clutter left out; nothing where it cannot be looked into."""
    try:
        return sorted(
            path for path in parent.iterdir() if not path.name.startswith(".") and path.name.lower() not in CLUTTER
        )
    except OSError as error:
        _pass_over(parent, error)
        return []


def check_open(folder: Path) -> None:
    """Raise InputError where a folder cannot be looked into."""
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise InputError(folder, f"the folder cannot be read ({error.strerror})", "check its permissions") from error


def files_below(folder: Path) -> Iterator[Path]:
    """Files in a folder and in those below it, as :func:`entries` gives them; links to folders are not followed."""
    pending = [folder]
    while pending:
        for path in entries(pending.pop()):
            if not is_folder(path):
                yield path
            elif not path.is_symlink():
                pending.append(path)


def is_folder(path: Path) -> bool:
    """Whether it is a folder, or leads to one; one that cannot be looked at is none."""
    try:
        return path.is_dir()
    except OSError as error:
        _pass_over(path, error)
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return True  # whoever reads it is told why that fails


def _pass_over(path: Path, error: OSError) -> None:
    if path not in _passed_over:
        _passed_over.add(path)
        reason = error.strerror or type(error).__name__
        _log.warning("%s: cannot be looked into (%s) and is left out; check its permissions", printable(path), reason)


def _by_key(parent: Path, entries: Iterator[tuple[str, Path]]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for key, path in sorted(entries):
        if key in found:
            problem = f"holds {found[key].name} and {path.name}: it is not clear which one counts"
            raise InputError(parent, problem, "keep one of them")
        found[key] = path
    return found
