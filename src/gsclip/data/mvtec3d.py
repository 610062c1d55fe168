"""MVTec 3D-AD (Bergmann et al., VISAPP 2022) in its official layout, and data sets converted to it.

``<root>/<category>/<split>/<defect>/{xyz/NNN.tiff, rgb/NNN.png, gt/NNN.png}`` with the splits ``train``,
``validation`` and ``test``. Scans, images and masks share one pixel grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gsclip.data.index import INDEX_COLUMNS, validate_index
from gsclip.data.sample import Scan
from gsclip.data.scan_files import read_color, read_mask, read_scan
from gsclip.errors import InputError

DATASET = "mvtec_3d_ad"
SPLITS = ("train", "validation", "test")
OFFICIAL_CATEGORIES = (
    "bagel",
    "cable_gland",
    "carrot",
    "cookie",
    "dowel",
    "foam",
    "peach",
    "potato",
    "rope",
    "tire",
)
_LAYOUT = "expected <root>/<category>/<split>/<defect>/xyz/NNN.tiff"


def mvtec_3d_ad_index(
    root: str | Path, categories: Sequence[str] | None = None, splits: Sequence[str] = ("test",)
) -> pd.DataFrame:
    """List the samples of a data set.

    Args:
        root: folder that holds the categories.
        categories: which to list; all that are there when ``None``. Names beside
            :data:`OFFICIAL_CATEGORIES` are allowed.
        splits: of :data:`SPLITS`; every category listed must have each of them.

    Returns:
        Rows as in :mod:`gsclip.data.index`, sorted by category, split (in the order of :data:`SPLITS`), defect and
        number; paths relative to ``root``. The mask's path is empty where a good sample has none.

    Raises:
        InputError: when the folder, a category or a split is missing, when a defective sample has no mask, when an
            image or mask has no scan, or when there are no samples.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(root, "data set folder not found", f"check the path; {_LAYOUT}")
    unknown = [split for split in splits if split not in SPLITS]
    if unknown or not splits:
        raise InputError(root, f"no such split: {', '.join(unknown) or 'none named'}", f"use {', '.join(SPLITS)}")
    found = sorted(
        folder.name for folder in root.iterdir() if any(any(folder.glob(f"{split}/*/xyz")) for split in splits)
    )
    if not found:
        raise InputError(
            root,
            f"holds no category with the split {' or '.join(splits)}",
            f"name the data set's top folder; {_LAYOUT}",
        )
    chosen = found if categories is None else sorted(set(categories))
    missing = [category for category in chosen if category not in found]
    if missing or not chosen:
        raise InputError(root, f"no such category: {', '.join(missing) or 'none named'}", f"found {', '.join(found)}")
    ordered = [split for split in SPLITS if split in splits]
    rows = [row for category in chosen for split in ordered for row in _split_rows(root, category, split)]
    if not rows:
        raise InputError(root, "the folders xyz hold no .tiff files", _LAYOUT)
    return validate_index(pd.DataFrame(rows, columns=list(INDEX_COLUMNS)), str(root))


def read_row(root: str | Path, row: pd.Series) -> Scan:
    """Read the scan, the mask and the colours of one row of the index.

    Args:
        root: the data set's folder.
        row: one row of :func:`mvtec_3d_ad_index`.

    Returns:
        Organised scan; the mask is all false for a good sample without a mask file, and the colours are ``None``
        where the row names no image.

    Raises:
        InputError: when a file is missing, broken, or does not fit the scan.
    """
    root = Path(root)
    points = read_scan(root / row["scan_path"]).points
    shape = (points.shape[0], points.shape[1])
    mask: np.ndarray | None = None
    if row["mask_path"]:
        mask = read_mask(root / row["mask_path"], shape)
    elif row["label"] == 0:
        mask = np.zeros(shape, dtype=bool)
    colors = read_color(root / row["color_path"], shape) if row["color_path"] else None
    return Scan(points=points, mask=mask, colors=colors)


def _split_rows(root: Path, category: str, split: str) -> Iterator[dict[str, str | int]]:
    folder = root / category / split
    if not folder.is_dir():
        raise InputError(folder, f"the category has no split {split}", "leave out the split or the category")
    for defect in sorted(path for path in folder.iterdir() if path.is_dir()):
        scans = _files(defect / "xyz", (".tiff", ".tif"))
        colors = _files(defect / "rgb", (".png",))
        masks = _files(defect / "gt", (".png",))
        orphans = sorted((set(colors) | set(masks)) - set(scans))
        if orphans:
            raise InputError(
                defect / "xyz" / f"{orphans[0]}.tiff",
                "scan file not found, though there is an image or mask of that number",
                "copy the data set again",
            )
        label = 0 if defect.name == "good" else 1
        for number, scan in scans.items():
            if label == 1 and number not in masks:
                raise InputError(
                    defect / "gt" / f"{number}.png", "mask of a defective sample not found", "copy it again"
                )
            paths = {"scan_path": scan, "mask_path": masks.get(number), "color_path": colors.get(number)}
            yield {
                "name": f"{category}/{split}/{defect.name}/{number}",
                "dataset": DATASET,
                "category": category,
                "split": split,
                "defect": defect.name,
                "label": label,
                **{column: path.relative_to(root).as_posix() if path else "" for column, path in paths.items()},
            }


def _files(folder: Path, extensions: tuple[str, ...]) -> dict[str, Path]:
    """Files of a folder by their name without extension, sorted; none when there is no folder."""
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in extensions}
