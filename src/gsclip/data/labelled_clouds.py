"""Clouds whose ground truth is a text file with one label a point: what Real3D-AD and Anomaly-ShapeNet share.

``<root>/<category>/{train,test}/<name>.pcd``, and for each abnormal one ``<root>/<category>/gt/<name>.txt`` with the
columns x, y, z and label; any label above 0 is a defect. The kind of defect stands in the name.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from gsclip.data import layout
from gsclip.data.cloud_files import CommaError, parse_table
from gsclip.data.sample import Scan
from gsclip.data.scan_files import check_file, read_scan
from gsclip.errors import InputError, one_line

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "test")
SCANS = (".pcd",)
# Of the cloud's diagonal: how far apart a point of the scan and the same one of the text file may be. Six digits are
# ten times as exact; the densest official clouds, two million points, have spacings of seven times as much.
MATCH_TOLERANCE = 1e-4

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CloudLayout:
    """What is particular to one data set.

    Attributes:
        dataset: its name in the index.
        official: its categories, as they are written.
        normal: words that mark the names of normal scans.
        templates: words that mark the names of scans for training alone; such scans are none of the test split.
        manner: words in names that say how the scan was made, and nothing on its defect.
        expected: the layout in one line, for messages.
    """

    dataset: str
    official: tuple[str, ...]
    normal: tuple[str, ...]
    templates: tuple[str, ...]
    manner: tuple[str, ...]
    expected: str


def clouds_index(
    clouds: CloudLayout, root: str | Path, categories: Sequence[str] | None = None, splits: Sequence[str] = ("test",)
) -> pd.DataFrame:
    """List the samples of a data set.

    Args:
        clouds: which data set.
        root: folder that holds the categories.
        categories: which to list; all that are there when ``None``. Names beside the official ones are allowed.
        splits: of :data:`SPLITS`; every category listed must have each of them.

    Returns:
        Rows as in :mod:`gsclip.data.index`, sorted by category, split and name; paths relative to ``root``. Every
        sample of the split ``train`` is good. The mask's path of an abnormal sample is always there, and reading fails
        where the file is not. Ground truth without a scan is left out with a warning.

    Raises:
        InputError: when the folder, a category or a split is missing, when it is not clear which of two folders or
            files counts, or when there are no samples.
    """
    root = Path(root)

    def is_category(folder: Path) -> bool:
        return any(
            layout.scan_files(place, SCANS) for name, place in layout.folders(folder).items() if name in splits
        )

    return layout.list_samples(
        root,
        categories,
        splits,
        known_splits=SPLITS,
        find_categories=lambda: layout.category_folders(root, is_category, clouds.official, splits, clouds.expected),
        rows=lambda category, folder, split: _split_rows(clouds, root, category, folder, split),
        nothing=("the folders hold no samples", clouds.expected),
    )


def read_row(root: str | Path, row: pd.Series) -> Scan:
    """Read the cloud and the label of each of its points.

    Args:
        root: the data set's folder.
        row: one row of :func:`clouds_index`.

    Returns:
        Unorganised scan, points in the order of the cloud's file; the mask is all false for a good sample without
        ground truth.

    Raises:
        InputError: when a file is missing or broken, or the labels are not those of the cloud's points.
    """
    root = Path(root)
    layout.refuse_twin(root / row["scan_path"], row["name"], SCANS)
    scan = read_scan(root / row["scan_path"])
    points = scan.points.reshape(-1, 3)
    mask: np.ndarray | None = None
    if row["mask_path"]:
        path = root / row["mask_path"]
        mask = match_labels(points, read_labels(path), path)
    elif row["label"] == 0:
        mask = np.zeros(len(points), dtype=bool)
    return Scan(points=points, mask=mask, colors=None if scan.colors is None else scan.colors.reshape(-1, 3))


def read_labels(path: Path) -> np.ndarray:
    """Read a text file of labelled points.

    Columns may be separated by commas, semicolons, tabs or spaces, also mixed, and may have decimal commas where
    something else separates; one line of names before them and lines that begin with ``#`` or ``//`` are passed over.

    Returns:
        (n, 4) float64: x, y, z, label.

    Raises:
        InputError: when the file is missing or holds anything but four numbers a line.
    """
    check_file(path, "ground truth")
    remedy = "copy it again; expected x, y, z and label in each line"
    try:
        _, table = parse_table(path.read_bytes())
    except CommaError as error:
        problem, remedy = error.args
        raise InputError(path, problem, remedy, "readable") from error
    except (OSError, ValueError) as error:
        problem = f"cannot be read as a table of labelled points ({one_line(error, 100)})"
        raise InputError(path, problem, remedy, "readable") from error
    if table.ndim != 2 or table.shape[1] != 4:
        raise InputError(path, f"has {table.shape[-1]} columns", remedy, "readable")
    broken = np.flatnonzero(~np.isfinite(table[:, 3]))
    if broken.size:
        raise InputError(path, f"{broken[0] + 1}. row has no label", remedy, "readable")
    return table


def match_labels(points: np.ndarray, labelled: np.ndarray, path: Path) -> np.ndarray:
    """Give each point of a cloud its label.

    Labels are taken by row where the text file lists the same points in the same order. Where it lists them in another
    order, a point has the label of the nearest one; that is logged.

    Args:
        points: (n, 3) of the cloud; rows that are not finite are no points, and unlabelled.
        labelled: (m, 4) of :func:`read_labels`.
        path: of the labels, for messages.

    Returns:
        (n,) bool, true on defects.

    Raises:
        InputError: when the two do not hold the same points, to :data:`MATCH_TOLERANCE`.
    """
    places, defects = labelled[:, :3], labelled[:, 3] > 0
    finite, placed = np.isfinite(points).all(axis=1), np.isfinite(places).all(axis=1)
    remedy = "give the ground truth that belongs to the scan"
    if not finite.any() or not placed.any():
        raise InputError(path, "has no point in common with the scan", remedy, "mask size")
    tolerance = MATCH_TOLERANCE * float(np.linalg.norm(np.ptp(places[placed], axis=0)))
    same_rows = len(points) == len(places) and np.array_equal(finite, placed)
    if same_rows and np.abs(points[finite] - places[finite]).max() <= tolerance:
        return defects & finite
    distances, nearest = cKDTree(places[placed]).query(points[finite])
    back, _ = cKDTree(points[finite]).query(places[placed])
    lost, spare = int((distances > tolerance).sum()), int((back > tolerance).sum())
    if lost or spare:
        problem = (
            f"labels {len(places)} points and the scan has {len(points)}; {lost} points of the scan have no label, "
            f"{spare} labels have no point"
        )
        raise InputError(path, problem, remedy, "mask size")
    _log.info("%s: not in the order of the scan's points; matched by the nearest point", path)
    mask = np.zeros(len(points), dtype=bool)
    mask[finite] = defects[placed][nearest]
    return mask


def _split_rows(
    clouds: CloudLayout, root: Path, category: str, folder: Path, split: str
) -> Iterator[dict[str, str | int]]:
    place = layout.folder(folder, split)
    if place is None:
        problem = f"the category has no split {split}"
        raise layout.MissingSplitError(folder / split, problem, "leave out the split or the category")
    truth = layout.folder(folder, "gt")
    masks = {} if split == "train" else layout.files(truth, (".txt",))
    scans = layout.scan_files(place, SCANS)
    layout.warn_of_orphans([path for key, path in masks.items() if key not in scans], "ground truth")
    for key, scan in ((key, scan) for key, found in scans.items() for scan in found):
        defect = _defect(clouds, key, category)
        if split == "train":
            defect = "good"
        elif defect is None:
            continue
        mask = masks.get(key)
        if defect != "good" and mask is None:
            mask = (truth or folder / "gt") / f"{scan.stem}.txt"
        yield {
            "name": f"{category}/{split}/{defect}/{layout.sample_name(scan.stem, scan, scans[key])}",
            "dataset": clouds.dataset,
            "category": category,
            "split": split,
            "defect": defect,
            "label": int(defect != "good"),
            "scan_path": layout.relative(scan, root),
            "mask_path": layout.relative(mask, root),
            "color_path": "",
        }


def _defect(clouds: CloudLayout, key: str, category: str) -> str | None:
    """``good`` or the kind of defect that a file's name in lower case tells; ``None`` for templates."""
    rest = key.removeprefix(category.lower())
    if any(word in rest for word in clouds.templates):
        return None
    if any(word in rest for word in clouds.normal):
        return "good"
    words = [word for word in re.findall(r"[a-z]+", rest) if word not in clouds.manner]
    return "_".join(words) or "defect"
