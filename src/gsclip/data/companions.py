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
from collections.abc import Sequence
from pathlib import Path

from gsclip.data.masks import MASK_EXTENSIONS
from gsclip.data.scan_files import NAMED_AS_SCANS, looks_like_scan

MASK_FOLDERS = ("masks", "gt", "ground_truth")
COLOR_FOLDERS = ("rgb",)
SCAN_FOLDER = "xyz"
MASK_SUFFIX, COLOR_SUFFIX = "_mask", "_rgb"
COLOR_EXTENSION = ".png"


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
