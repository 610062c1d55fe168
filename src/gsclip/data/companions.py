"""Files that belong to a scan: its mask and its colours. Letter case does not matter.

==========  ============================================================================================================
file        of the scan ``<name>.<extension>``
==========  ============================================================================================================
mask        ``<name>_mask.*`` beside it, or ``<name>.*`` in a folder ``masks``, ``gt`` or ``ground_truth`` beside it
colours     ``<name>_rgb.png`` beside it, or ``<name>.png`` in a folder ``rgb`` beside it
==========  ============================================================================================================

A scan in a folder ``xyz`` may have these folders beside that one, as in MVTec 3D-AD.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gsclip.data import layout
from gsclip.data.masks import MASK_EXTENSIONS
from gsclip.data.scan_files import DEPTH_IMAGES, NAMED_AS_SCANS, is_scan_file, looks_like_scan

MASK_FOLDERS = ("masks", "gt", "ground_truth")
COLOR_FOLDERS = ("rgb",)
SCAN_FOLDER = "xyz"
MASK_SUFFIX, COLOR_SUFFIX = "_mask", "_rgb"
COLOR_EXTENSION = ".png"

_Candidates = Mapping[str, Sequence[tuple[str, Path]]]


@dataclass(frozen=True)
class Companions:
    """Masks and colour images of the scans of one folder; see :func:`companions`.

    Attributes:
        masks: names of their scans, as the masks write them, and paths; by that name in lower case, the best one first.
        colors: likewise.
        stems: names of the folder's scans.
    """

    masks: _Candidates
    colors: _Candidates
    stems: frozenset[str]

    def mask_of(self, scan: Path) -> Path | None:
        """Mask of one of the folder's scans; ``None`` where it has none."""
        return self._best(self.masks, scan)

    def colors_of(self, scan: Path) -> Path | None:
        """Colour image of one of the folder's scans; ``None`` where it has none."""
        return self._best(self.colors, scan)

    def _best(self, candidates: _Candidates, scan: Path) -> Path | None:
        """Same name first; one in another letter case counts where that is no other scan's."""
        named = candidates.get(scan.stem.lower(), ())
        same = [path for stem, path in named if stem == scan.stem]
        return next(iter([*same, *(path for stem, path in named if stem not in self.stems)]), None)


def companions(folder: Path, root: Path) -> Companions:
    """Find the masks and colour images of the scans in a folder; what is above ``root`` is not looked at."""
    masks: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    colors: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    files = [path for path in layout.entries(folder) if not layout.is_folder(path)]
    for path in sorted(files, key=_preference):
        stem = scan_stem(path)
        if stem is not None:
            (masks if path.stem.lower().endswith(MASK_SUFFIX) else colors)[stem.lower()].append((stem, path))
    places = [folder, folder.parent] if folder.name.lower() == SCAN_FOLDER and folder != root else [folder]
    for names, extensions, found in (
        (MASK_FOLDERS, MASK_EXTENSIONS, masks), (COLOR_FOLDERS, (COLOR_EXTENSION,), colors)
    ):  # fmt: skip
        for path in _in_folders(places, names):
            if path.suffix.lower() in extensions:
                found[path.stem.lower()].append((path.stem, path))
    stems = frozenset(path.stem for path in files if looks_like_scan(path) and scan_stem(path) is None)
    return Companions(masks, colors, stems)


def _in_folders(places: Sequence[Path], names: Sequence[str]) -> Iterator[Path]:
    """Files in the folders of these names, in the order of places and names."""
    for place in places:
        inside = [path for path in layout.entries(place) if path.name.lower() in names and layout.is_folder(path)]
        for folder in sorted(inside, key=lambda path: (names.index(path.name.lower()), path.name)):
            yield from sorted((path for path in layout.entries(folder) if not layout.is_folder(path)), key=_preference)


def _preference(path: Path) -> tuple[int, str]:
    extension = path.suffix.lower()
    return MASK_EXTENSIONS.index(extension) if extension in MASK_EXTENSIONS else len(MASK_EXTENSIONS), path.name


def is_companion(path: Path) -> bool:
    """Whether a file is the mask or the colour image of a scan that lies beside it; never an error.

    Args:
        path: of a file. In a folder of masks or colours it counts where that one lies beside scans, whether or not its
            own scan is there; elsewhere where its scan is there.
    """
    folder = path.absolute().parent
    if folder.name.lower() in MASK_FOLDERS + COLOR_FOLDERS and _beside_scans(folder):
        return True
    stem = scan_stem(path)
    return stem is not None and _has_scan(folder, stem)


def scan_stem(path: Path) -> str | None:
    """Name, without extension, of the scan whose mask or colours a file beside it is; ``None``: it is neither.

    By the name alone: whether the scan is there is not looked at.
    """
    stem, extension = path.stem, path.suffix.lower()
    for suffix, extensions in ((MASK_SUFFIX, MASK_EXTENSIONS), (COLOR_SUFFIX, (COLOR_EXTENSION,))):
        if stem.lower().endswith(suffix) and len(stem) > len(suffix) and extension in extensions:
            return stem[: -len(suffix)]
    return None


def pictures(scans: Sequence[Path]) -> list[Path]:
    """Photographs and previews: images without a camera file that are called as a scan beside them.

    Args:
        scans: all files of one folder that are named as scans.
    """
    stems = {path.stem.lower() for path in scans if path.suffix.lower() not in DEPTH_IMAGES}
    return [
        path
        for path in scans
        if path.suffix.lower() in DEPTH_IMAGES and path.stem.lower() in stems and not is_scan_file(path)
    ]


def _beside_scans(folder: Path) -> bool:
    names = _names(folder.parent)
    return any(map(_is_scan, names)) or any(
        any(map(_is_scan, _names(folder.parent / name))) for name in names if name.lower() == SCAN_FOLDER
    )


def _is_scan(name: str) -> bool:
    path = Path(name)
    return not name.startswith(".") and looks_like_scan(path) and scan_stem(path) is None


def _has_scan(folder: Path, stem: str) -> bool:
    endings = [*NAMED_AS_SCANS, *(extension.upper() for extension in NAMED_AS_SCANS)]
    if any(os.path.isfile(folder / (stem + ending)) for ending in endings):
        return True
    found = (Path(name) for name in _names(folder))
    return any(path.stem.lower() == stem.lower() and looks_like_scan(path) for path in found)


def _names(folder: Path) -> Sequence[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return ()
