"""MVTec 3D-AD (Bergmann et al., VISAPP 2022) in its official layout, and data sets converted to it.

``<root>/<category>/<split>/<defect>/{xyz/NNN.tiff, rgb/NNN.png, gt/NNN.png}`` with the splits ``train``,
``validation`` and ``test``. Scans, images and masks share one pixel grid.

Names may be in any letter case, the categories may lie some folders below the root, ``validation`` may be called
``val``, and ``good`` samples may lack their masks; see :mod:`gsclip.data.layout`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from gsclip.data import layout
from gsclip.data.sample import Scan
from gsclip.data.scan_files import read_color, read_mask, read_scan

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
SPLIT_FOLDERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
)
SCANS = (".tiff", ".tif")
LAYOUT = "expected <root>/<category>/<split>/<defect>/xyz/NNN.tiff"


def mvtec_3d_ad_index(
    root: str | Path, categories: Sequence[str] | None = None, splits: Sequence[str] = ("test",)
) -> pd.DataFrame:
    """List the samples of MVTec 3D-AD; see :func:`converted_index`."""
    return converted_index(root, categories, splits, dataset=DATASET, official=OFFICIAL_CATEGORIES)


def converted_index(
    root: str | Path,
    categories: Sequence[str] | None = None,
    splits: Sequence[str] = ("test",),
    *,
    dataset: str,
    official: Sequence[str],
    split_folders: Mapping[str, tuple[str, ...]] = SPLIT_FOLDERS,
) -> pd.DataFrame:
    """List the samples of a data set in the layout of MVTec 3D-AD.

    Args:
        root: folder that holds the categories.
        categories: which to list; all that are there when ``None``. Names beside ``official`` are allowed.
        splits: of :data:`SPLITS`; every category listed must have each of them.
        dataset: name of the data set in the index.
        official: its categories, as they are written.
        split_folders: names that the folder of each split may have.

    Returns:
        Rows as in :mod:`gsclip.data.index`, sorted by category, split (in the order of :data:`SPLITS`), defect and
        number; paths relative to ``root``. The mask's path is empty where a good sample has none; that of a
        defective sample is always there, and reading fails where the file is not. Images and masks without a scan
        are left out with a warning. Scans of one number have a row each, and reading them fails.

    Raises:
        InputError: when the folder, a category or a split is missing, when it is not clear which of two folders or
            files counts, or when there are no samples.
    """
    root = Path(root)

    def is_category(folder: Path) -> bool:
        return has_scans(folder, [name for split in splits for name in split_folders[split]])

    return layout.list_samples(
        root,
        categories,
        splits,
        known_splits=SPLITS,
        find_categories=lambda: layout.category_folders(root, is_category, official, splits, LAYOUT),
        rows=lambda category, folder, split: _split_rows(root, dataset, category, folder, split, split_folders[split]),
        nothing=("the folders xyz hold no .tiff files", LAYOUT),
    )


def has_scans(category: Path, splits: Sequence[str]) -> bool:
    """Whether one of the splits' folders has the form of MVTec 3D-AD: a folder with a folder ``xyz``."""
    return any(
        "xyz" in layout.folders(defect)
        for name, split in layout.folders(category).items()
        if name in splits
        for defect in layout.folders(split).values()
    )


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
    path = Path(root) / row["scan_path"]
    layout.refuse_twin(path, row["name"], SCANS)
    return with_images(read_scan(path).points, Path(root), row)


def with_images(points: np.ndarray, root: Path, row: pd.Series) -> Scan:
    """Join the (h, w, 3) points of an organised scan with the mask and the colours that its row names."""
    shape = (points.shape[0], points.shape[1])
    mask: np.ndarray | None = None
    if row["mask_path"]:
        mask = read_mask(root / row["mask_path"], shape)
    elif row["label"] == 0:
        mask = np.zeros(shape, dtype=bool)
    colors = read_color(root / row["color_path"], shape) if row["color_path"] else None
    return Scan(points=points, mask=mask, colors=colors)


def _split_rows(
    root: Path, dataset: str, category: str, folder: Path, split: str, names: tuple[str, ...]
) -> Iterator[dict[str, str | int]]:
    top = layout.folder(folder, *names)
    if top is None:
        raise layout.MissingSplitError(
            folder / names[0], f"the category has no split {split}", "leave out the split or the category"
        )
    for defect, place in layout.folders(top).items():
        scans = layout.scan_files(layout.folder(place, "xyz"), SCANS)
        colors = layout.files(layout.folder(place, "rgb"), (".png",))
        masks = layout.files(layout.folder(place, "gt"), (".png",))
        orphans = [path for found in (colors, masks) for number, path in found.items() if number not in scans]
        layout.warn_of_orphans(orphans, "images or masks")
        label = 0 if defect == "good" else 1
        for number, scan in ((number, scan) for number, found in scans.items() for scan in found):
            mask = masks.get(number)
            if label == 1 and mask is None:
                mask = (layout.folder(place, "gt") or place / "gt") / f"{scan.stem}.png"
            yield {
                "name": f"{category}/{split}/{defect}/{layout.sample_name(number, scan, scans[number])}",
                "dataset": dataset,
                "category": category,
                "split": split,
                "defect": defect,
                "label": label,
                "scan_path": layout.relative(scan, root),
                "mask_path": layout.relative(mask, root),
                "color_path": layout.relative(colors.get(number), root),
            }
