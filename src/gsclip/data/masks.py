"""Ground truth of one scan in the forms in which people keep it.

=====================  ========================================================================================
extension              content
=====================  ========================================================================================
``.png``               organised scans: one pixel for each of the scan's; any value above 0 is a defect
``.npy`` ``.npz``      one value for each point, or (h, w); in ``.npz`` under the key ``mask``
``.txt`` ``.csv``      one row for each point; the column named ``label``, ``mask`` or ``defect``, else the last
``.ply``               coloured cloud; points of one colour are the defect
=====================  ========================================================================================

``.png``, ``.npy`` and ``.npz`` are in the scan's order. Coloured clouds and tables with the columns x, y and z (named,
or the first three of four and more without names) may be in another one: their coordinates are compared with the
scan's, see :func:`match_values`.

The colour stands behind the file's name: ``part_mask.ply#ff0000``.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from gsclip.data.cloud_files import CommaError, parse_table
from gsclip.data.labelled_clouds import MATCH_TOLERANCE
from gsclip.data.sample import Scan
from gsclip.data.scan_files import check_file, read_array, read_cloud_file, read_mask
from gsclip.errors import InputError

MASK_EXTENSIONS = (".png", ".npy", ".npz", ".txt", ".csv", ".ply")
LABEL_COLUMNS = ("label", "mask", "defect")
AXES = ("x", "y", "z")
ROUNDED = 1e-2  # of the scan's diagonal: other points, or another order, are off by tens of per cent
MIN_COMMON = 0.5  # share of a scan's points that have coordinates in the mask's same row, at least
COLOR_PATTERN = r"[0-9a-fA-F]{6}"
DEFAULT_COLOR = "ff0000"

_log = logging.getLogger(__name__)


def read_scan_mask(path: str | Path, scan: Scan) -> np.ndarray:
    """Read the ground truth of a scan.

    Args:
        path: file with one of :data:`MASK_EXTENSIONS`; ``.ply`` may have ``#rrggbb`` behind it.
        scan: the scan that it belongs to.

    Returns:
        Bool, (h, w) of an organised scan and (n,) of a cloud, true on defects.

    Raises:
        InputError: when the file is missing, broken, of an unknown kind, has another size than the scan or coordinates
            of other points, or when the points of the scan were sampled on a mesh.
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
    places: np.ndarray | None = None
    if extension == ".png":
        if len(shape) != 2:
            remedy = "give one value for each point, as .npy, .txt or .csv"
            raise InputError(path, "is an image, and the scan has no pixels", remedy, "mask size")
        return read_mask(path, (shape[0], shape[1]))
    check_file(path, "mask")
    if extension in (".npy", ".npz"):
        values = read_array(path, "mask")
    elif extension == ".ply":
        values, places = _marked(path, color)
    else:
        values, places = _labels(path)
    if values.dtype.kind not in "buif":
        problem = f"holds {values.dtype} instead of numbers"
        raise InputError(path, problem, "save 0 and 1, or false and true", "readable")
    if places is not None:
        values = match_values(scan.points.reshape(-1, 3), places, values, path)
    if values.shape not in (shape, (np.prod(shape),)):
        size, expected = (" x ".join(map(str, sides)) for sides in (values.shape, shape))
        remedy = "give the one that belongs to the scan, one value for each of its points"
        raise InputError(path, f"the mask has {size} values and the scan {expected} points", remedy, "mask size")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(path, "the mask holds values that are not finite", "save 0 and 1", "readable")
    return np.asarray(values.reshape(shape) > 0)


def match_values(points: np.ndarray, places: np.ndarray, values: np.ndarray, path: Path) -> np.ndarray:
    """Order the values of a mask as the points of its scan.

    They stay as they are where the rows hold the same points, to :data:`~gsclip.data.labelled_clouds.MATCH_TOLERANCE`
    of the scan's diagonal. Else each point gets the value of the nearest place, where that is as near and each place
    has a point. Else they stay where the rows are the same points after the scan has been moved, turned or scaled, to
    :data:`ROUNDED` of the diagonal: so are scans whose mask has fewer digits.

    Args:
        points: (n, 3) of the scan; NaN without a measurement.
        places: (m, 3) of the mask.
        values: (m,) of the mask.
        path: of the mask, for messages.

    Returns:
        (n,) values; 0 at points without a measurement where the order was another one. As given where n and m differ
        and the places are not those of the points.

    Raises:
        InputError: when n and m are the same and the places are those of other points.
    """
    finite, placed = np.isfinite(points).all(axis=1), np.isfinite(places).all(axis=1)
    if not finite.any() or not placed.any():
        return values
    tolerance = MATCH_TOLERANCE * float(np.linalg.norm(np.ptp(points[finite].astype(np.float64), axis=0)))
    both = finite & placed if len(points) == len(places) else None
    rows_fit = both is not None and both.sum() > MIN_COMMON * finite.sum()
    if rows_fit and np.abs(points[both] - places[both]).max() <= tolerance:
        return values
    nearest = _nearest(points[finite], places[placed], tolerance)
    if nearest is not None:
        _log.info("%s: not in the order of the scan's points; matched by the nearest point", path)
        ordered = np.zeros(len(points), dtype=values.dtype)
        ordered[finite] = values[placed][nearest]
        return ordered
    if both is None or (rows_fit and _moved(places[both], points[both])):
        return values
    problem = "the mask holds coordinates of other points than the scan"
    raise InputError(path, problem, "give the one that belongs to the scan, or labels without coordinates", "mask size")


def _nearest(points: np.ndarray, places: np.ndarray, tolerance: float) -> np.ndarray | None:
    """(n,) row of the nearest place of each point; ``None`` where a point or a place has none within the tolerance."""
    distances, nearest = cKDTree(places).query(points, distance_upper_bound=2 * tolerance)
    if (distances > tolerance).any():
        return None
    back, _ = cKDTree(points).query(places, distance_upper_bound=2 * tolerance)
    return None if (back > tolerance).any() else np.asarray(nearest)


def _moved(places: np.ndarray, points: np.ndarray) -> bool:
    """Whether an affine map takes places (n, 3) to points (n, 3), row by row, to :data:`ROUNDED` of their diagonal."""
    size = float(np.linalg.norm(np.ptp(points.astype(np.float64), axis=0)))
    centred, target = places - places.mean(axis=0), points - points.mean(axis=0, dtype=np.float64)
    scale = float(np.abs(centred).max())
    if not scale > 0:
        return False
    solution = np.linalg.lstsq(centred / scale, target, rcond=None)[0]
    return bool(np.abs(centred / scale @ solution - target).max() <= ROUNDED * size)


def mask_file(path: str) -> str:
    """Path of a mask's file, without the colour that may stand behind it."""
    return _split_color(path)[0]


def _split_color(path: str) -> tuple[str, np.ndarray]:
    """Path without the colour behind it; (3,) the colour, 0 to 255."""
    found = re.fullmatch(rf"(.*\.ply)#({COLOR_PATTERN})", path, flags=re.IGNORECASE | re.DOTALL)
    name, color = (found[1], found[2]) if found else (path, DEFAULT_COLOR)
    return name, np.array(list(bytes.fromhex(color)))


def _marked(path: Path, color: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(m,) bool, true at points of the colour, and (m, 3) the points."""
    cloud = read_cloud_file(path)
    if cloud.colors is None:
        remedy = "mark the defect by a colour, and keep all points"
        raise InputError(path, "the mask has no colours", remedy, "readable")
    return np.asarray((np.rint(cloud.colors * 255) == color).all(axis=1)), cloud.points


def _labels(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """(m,) labels, and (m, 3) the coordinates of their points where the table has them."""
    try:
        names, table = parse_table(path.read_bytes())
    except CommaError as error:
        problem, remedy = error.args
        raise InputError(path, problem, remedy, "readable") from error
    except (OSError, ValueError) as error:
        remedy = "give one row for each point, its label in the last column"
        raise InputError(path, "cannot be read as a table of labels", remedy, "readable") from error
    column = next((names.index(name) for name in LABEL_COLUMNS if name in names), -1)
    if not table.size:
        return np.empty(0), None
    labels = np.asarray(table[:, column])
    if set(AXES) <= set(names):
        return labels, table[:, [names.index(axis) for axis in AXES]]
    return labels, table[:, :3] if not names and table.shape[1] > 3 else None
