"""Where the results of scans go: a file that no earlier call wrote there is never replaced."""

from __future__ import annotations

import csv
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from gsclip.data.checks import REJECTED_COLUMNS, REJECTED_FILE
from gsclip.data.companions import Companions, companions
from gsclip.data.depth_images import find_camera_file
from gsclip.data.scan_files import DEPTH_IMAGES
from gsclip.errors import InputError
from gsclip.monitoring.rows import SAMPLE_COLUMNS, SAMPLES_FILE

SCORE_EXTENSIONS = (".json", ".ply", ".npz")  # of the results of one scan
VIEWS_FILE = "views.npz"

_OF_VIEWS = re.compile(r"(rendered|depth)_\d+\.png|" + re.escape(VIEWS_FILE))
_OF_TABLE = 8  # columns of samples that tell the table
_MAX_HEAD = 4096  # bytes that tell a result
_PROPERTIES = b"".join(
    b"property %s\n" % name
    for name in (b"float x", b"float y", b"float z", b"uchar red", b"uchar green", b"uchar blue", b"float score")
)
_MAX_JSON = 1_000_000  # bytes; results have less than 10,000
_REMEDY = "choose another --output"
_REMEDY_FOREIGN = f"move it away, or {_REMEDY}"


def check_score_results(scans: Mapping[str, Path], output: Path) -> None:
    """Refuse to score where a result would take the place of something else.

    Args:
        scans: files by the names of their results.
        output: folder of the results.

    Raises:
        InputError: when a result has the path of a scan, of its mask, colours or camera, or of any other file that
            `gsclip score` has not written.
    """
    results = [output / (name + extension) for name in scans for extension in SCORE_EXTENSIONS]
    _check_files([*results, output / SAMPLES_FILE, output / REJECTED_FILE], scans.values())


def check_rendered_results(scans: Mapping[str, Path], output: Path) -> None:
    """Refuse to render where the folder of a scan's images would take the place of something else.

    Args:
        scans: files by the names of their folders.
        output: folder of these folders.

    Raises:
        InputError: when such a folder is there and holds a scan, or anything that `gsclip render` has not written.
    """
    _check_files([output / REJECTED_FILE], scans.values())
    folders = [output / name for name in scans if os.path.lexists(output / name)]
    held = _folders_above(scans.values()) if folders else {}
    for folder in folders:
        scan = held.get(Path(os.path.realpath(folder)))
        if scan is not None:
            raise InputError(scan, f"lies in {folder}, which results would replace", _REMEDY)
        _check_folder(folder)


def check_problems_file(path: Path) -> None:
    """Refuse to write the problems of a check where they would take the place of something else.

    Raises:
        InputError: when the path is taken by anything but such a table.
    """
    if os.path.lexists(path) and not (os.path.isfile(path) and _has_columns(path, REJECTED_COLUMNS)):
        raise InputError(path, "is no table of problems of an earlier call, which would be replaced", _REMEDY_FOREIGN)


def _folders_above(scans: Iterable[Path]) -> dict[Path, Path]:
    """One of the scans that each folder holds, by the folder's real path, at any depth."""
    return {folder: scan for scan in scans for folder in Path(os.path.realpath(scan)).parents}


def _check_files(results: Iterable[Path], scans: Iterable[Path]) -> None:
    taken = [path for path in results if os.path.lexists(path)]
    inputs = _inputs(scans) if taken else {}
    for path in taken:
        what = inputs.get(os.path.realpath(path))
        if what is not None:
            raise InputError(path, f"is {what}, and a result would replace it", _REMEDY)
        if not is_result(path):
            raise InputError(path, "is no result of an earlier call, and one would replace it", _REMEDY_FOREIGN)


def _inputs(scans: Iterable[Path]) -> dict[str, str]:
    """What the files of scans are, by their real paths: the scans, their masks, colours and cameras."""
    found: dict[str, str] = {}
    near: dict[Path, Companions] = {}
    for scan in scans:
        folder, camera = scan.absolute().parent, None
        if scan.suffix.lower() in DEPTH_IMAGES:
            camera = find_camera_file(scan)
        if folder not in near:
            near[folder] = companions(folder, folder.parent)
        for path, what in (
            (scan, "a scan of this call"),
            (near[folder].mask_of(scan), f"the mask of {scan.name}"),
            (near[folder].colors_of(scan), f"the colour image of {scan.name}"),
            (camera, f"the camera file of {scan.name}"),
        ):
            if path is not None:
                found.setdefault(os.path.realpath(path), what)
    return found


def _check_folder(folder: Path) -> None:
    """Raise InputError unless all that it holds was written by `gsclip render`."""
    if os.path.islink(folder) or not os.path.isdir(folder):
        raise InputError(folder, "is no folder, and one of results would replace it", _REMEDY_FOREIGN)
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(folder, f"cannot be looked into ({error.strerror})", _REMEDY_FOREIGN) from error
    foreign = [name for name in names if not _OF_VIEWS.fullmatch(name) or not os.path.isfile(folder / name)]
    if names and not foreign and not is_result(folder / VIEWS_FILE):  # then the images are someone else's
        foreign = names
    if foreign:
        problem = f"is no result of an earlier call, and those of this one would replace the folder {folder}"
        raise InputError(folder / foreign[0], problem, _REMEDY_FOREIGN)


def is_result(path: Path) -> bool:
    """Whether a file is one that `gsclip score` or `render` writes, by its name or what it holds; never an error."""
    if not os.path.isfile(path):
        return False
    if path.suffix == ".png":
        return _OF_VIEWS.fullmatch(path.name) is not None
    try:
        return _CONTENTS[path.suffix](path)
    except Exception:  # of decoders, archives and permissions: it cannot be told, so it is none
        return False


def _is_json(path: Path) -> bool:
    if path.stat().st_size > _MAX_JSON:
        return False
    content = json.loads(path.read_bytes())
    return isinstance(content, dict) and {"name", "scan", "object_score"} <= set(content)


def _is_cloud(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_MAX_HEAD).partition(b"end_header\n")[0]
    return head.startswith(b"ply\n") and head.endswith(_PROPERTIES)


def _is_archive(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
    return {"points", "point_scores"} <= names or {"points", "pixels", "visible"} <= names


def _is_table(path: Path) -> bool:
    return _has_columns(path, REJECTED_COLUMNS if path.name == REJECTED_FILE else SAMPLE_COLUMNS[:_OF_TABLE])


def _has_columns(path: Path, columns: Sequence[str]) -> bool:
    """Whether a file is a table whose first columns are these; never an error."""
    try:
        with path.open(encoding="utf-8") as file:
            return next(csv.reader([file.readline(_MAX_HEAD)]))[: len(columns)] == list(columns)
    except (OSError, ValueError, csv.Error, StopIteration):
        return False


_CONTENTS: Mapping[str, Callable[[Path], bool]] = MappingProxyType(
    {".json": _is_json, ".ply": _is_cloud, ".npz": _is_archive, ".csv": _is_table}
)
