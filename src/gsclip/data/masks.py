"""Ground truth of one scan in the forms in which people keep it.

=====================  ========================================================================================
extension              content
=====================  ========================================================================================
``.png``               organised scans: one pixel for each of the scan's; any value above 0 is a defect
``.npy`` ``.npz``      one value for each point, or (h, w); in ``.npz`` under the key ``mask``
``.txt`` ``.csv``      one row for each point; the column named ``label``, ``mask`` or ``defect``, else the last
``.ply``               coloured cloud, its points in the order of the scan's; points of one colour are the defect
=====================  ========================================================================================

The colour stands behind the file's name: ``part_mask.ply#ff0000``.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from gsclip.data.cloud_files import CommaError, parse_table
from gsclip.data.sample import Scan
from gsclip.data.scan_files import check_file, read_array, read_cloud_file, read_mask
from gsclip.errors import InputError

MASK_EXTENSIONS = (".png", ".npy", ".npz", ".txt", ".csv", ".ply")
LABEL_COLUMNS = ("label", "mask", "defect")
COLOR_PATTERN = r"[0-9a-fA-F]{6}"
DEFAULT_COLOR = "ff0000"


def read_scan_mask(path: str | Path, scan: Scan) -> np.ndarray:
    """Read the ground truth of a scan.

    Args:
        path: file with one of :data:`MASK_EXTENSIONS`; ``.ply`` may have ``#rrggbb`` behind it.
        scan: the scan that it belongs to.

    Returns:
        Bool, (h, w) of an organised scan and (n,) of a cloud, true on defects.

    Raises:
        InputError: when the file is missing, broken, of an unknown kind, or has another size than the scan, or when the
            points of the scan were sampled on a mesh.
    """
    name, color = _split_color(str(path))
    path = Path(name)
    extension = path.suffix.lower()
    if extension not in MASK_EXTENSIONS:
        raise InputError(path, "unknown kind of mask file", f"use one of {', '.join(MASK_EXTENSIONS)}", "readable")
    if scan.sampled:
        problem = "is a mask of single points, and those of the scan, a mesh, are sampled: they are not its vertices"
        raise InputError(path, problem, "export the mesh as a cloud, and give the mask for its points", "mask size")
    shape = scan.points.shape[:-1]
    if extension == ".png":
        if len(shape) != 2:
            remedy = "give one value for each point, as .npy, .txt or .csv"
            raise InputError(path, "is an image, and the scan has no pixels", remedy, "mask size")
        return read_mask(path, (shape[0], shape[1]))
    check_file(path, "mask")
    if extension in (".npy", ".npz"):
        values = read_array(path, "mask")
    elif extension == ".ply":
        values = _marked(path, color)
    else:
        values = _labels(path)
    if values.dtype.kind not in "buif":
        problem = f"holds {values.dtype} instead of numbers"
        raise InputError(path, problem, "save 0 and 1, or false and true", "readable")
    if values.shape not in (shape, (np.prod(shape),)):
        size, expected = (" x ".join(map(str, sides)) for sides in (values.shape, shape))
        remedy = "give the one that belongs to the scan, one value for each of its points"
        raise InputError(path, f"the mask has {size} values and the scan {expected} points", remedy, "mask size")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(path, "the mask holds values that are not finite", "save 0 and 1", "readable")
    return np.asarray(values.reshape(shape) > 0)


def mask_file(path: str) -> str:
    """Path of a mask's file, without the colour that may stand behind it."""
    return _split_color(path)[0]


def _split_color(path: str) -> tuple[str, np.ndarray]:
    """Path without the colour behind it; (3,) the colour, 0 to 255."""
    found = re.fullmatch(rf"(.*\.ply)#({COLOR_PATTERN})", path, flags=re.IGNORECASE | re.DOTALL)
    name, color = (found[1], found[2]) if found else (path, DEFAULT_COLOR)
    return name, np.array(list(bytes.fromhex(color)))


def _marked(path: Path, color: np.ndarray) -> np.ndarray:
    cloud = read_cloud_file(path)
    if cloud.colors is None:
        remedy = "mark the defect by a colour, and keep all points"
        raise InputError(path, "the mask has no colours", remedy, "readable")
    return np.asarray((np.rint(cloud.colors * 255) == color).all(axis=1))


def _labels(path: Path) -> np.ndarray:
    try:
        names, table = parse_table(path.read_bytes())
    except CommaError as error:
        raise InputError(path, *error.args, "readable") from error
    except (OSError, ValueError) as error:
        remedy = "give one row for each point, its label in the last column"
        raise InputError(path, "cannot be read as a table of labels", remedy, "readable") from error
    column = next((names.index(name) for name in LABEL_COLUMNS if name in names), -1)
    return np.asarray(table[:, column]) if table.size else np.empty(0)
