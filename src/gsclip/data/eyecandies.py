"""Eyecandies (Bonfiglioli et al., ACCV 2022) as downloaded, and converted to the layout of MVTec 3D-AD.

As downloaded: ``<root>/<Category>/{train,val,test_public,test_private}/data/NN_<item>`` with the items

====================  ==============================================================================================
``depth.png``         16 bit; ``info_depth.yaml`` holds the depths in metres of 0 and of 65535
``image_0..5.png``    RGB under six lights; 5 is the even one
``mask.png``          every defect; ``{bumps,dents,colors,normals}_mask.png`` one kind each
``metadata.yaml``     which kinds of defect there are
====================  ==============================================================================================

The split ``val`` is called validation here, and ``test_public`` test. ``test_private`` has no ground truth: it is left
out. The table and what lies behind it are in the scan, and every pixel has a depth.

Which of the two layouts a folder has is seen from its files. A converted copy may be in another frame of coordinates
and in another unit, whatever its converter chose.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import yaml

from gsclip.data import layout, mvtec3d
from gsclip.data.sample import Scan
from gsclip.data.scan_files import check_file, open_image, read_mask
from gsclip.errors import InputError, one_line

DATASET = "eyecandies"
SPLITS = ("train", "validation", "test")
OFFICIAL_CATEGORIES = (
    "CandyCane",
    "ChocolateCookie",
    "ChocolatePraline",
    "Confetto",
    "GummyBear",
    "HazelnutTruffle",
    "LicoriceSandwich",
    "Lollipop",
    "Marshmallow",
    "PeppermintCandy",
)
KINDS = ("bumps", "dents", "colors", "normals")
SEVERAL_KINDS = "combined"
UNKNOWN = "unknown"  # kind of a sample whose metadata or masks cannot be read; reading the sample tells why
# The camera of all scans: the authors' download page, section "Depth Map To Pointcloud Conversion".
FOCAL_LENGTH = 711.11  # pixels, of an image SIDE pixels wide
SIDE = 512  # pixels; the principal point is the middle of the image
MAX_YAML = 64 * 1024  # bytes; the official files have fewer than 500

_SPLIT_FOLDERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"train": ("train",), "validation": ("val", "validation"), "test": ("test_public", "test")}
)
_DEPTH = "_depth"
_OF_SCENE = re.compile(r"([0-9]+)_(?:image_5|mask)")
_LAYOUT = "expected <root>/<Category>/{train,val,test_public}/data/NN_depth.png, or the layout of MVTec 3D-AD"


def eyecandies_index(
    root: str | Path, categories: Sequence[str] | None = None, splits: Sequence[str] = ("test",)
) -> pd.DataFrame:
    """List the samples of Eyecandies in either layout.

    The kind of defect is taken from the metadata, and where they are missing from the masks of the kinds; with several
    kinds it is :data:`SEVERAL_KINDS`. Where neither can be read it is :data:`UNKNOWN`, and reading the sample fails.

    Args:
        root: folder that holds the categories.
        categories: which to list; all that are there when ``None``.
        splits: of :data:`SPLITS`; every category listed must have each of them.

    Returns:
        Rows as in :mod:`gsclip.data.index`, sorted by category, split and number (as downloaded) or defect and number
        (converted); paths relative to ``root``. ``scan_path`` names the depth image of a scan as downloaded. The
        mask's path of a defective sample is always there, and reading fails where the file is not. Images without a
        depth image are left out with a warning.

    Raises:
        InputError: when the folder, a category or a split is missing, when both layouts are there, or when there are no
            samples.
    """
    root = Path(root)
    names = [name for split in splits for name in _SPLIT_FOLDERS.get(split, ())]

    def is_category(folder: Path) -> bool:
        return _is_downloaded(folder, names) or mvtec3d.has_scans(folder, names)

    def rows(category: str, folder: Path, split: str) -> Iterator[dict[str, str | int]]:
        return _split_rows(root, category, folder, split)

    found: Mapping[str, Path] = {}
    if names:
        found = layout.category_folders(root, is_category, OFFICIAL_CATEGORIES, splits, _LAYOUT)
    downloaded = [name for name, folder in found.items() if _is_downloaded(folder, names)]
    converted = [name for name, folder in found.items() if mvtec3d.has_scans(folder, names)]
    if downloaded and converted:
        problem = f"{downloaded[0]} is laid out as downloaded, and {converted[0]} as MVTec 3D-AD"
        raise InputError(root, problem, "keep the two in folders of their own, and name one of them")
    if converted:
        return mvtec3d.converted_index(
            root, categories, splits, dataset=DATASET, official=OFFICIAL_CATEGORIES, split_folders=_SPLIT_FOLDERS
        )
    return layout.list_samples(
        root,
        categories,
        splits,
        known_splits=SPLITS,
        find_categories=lambda: found,
        rows=rows,
        nothing=("the folders data hold no depth images", _LAYOUT),
    )


def read_row(root: str | Path, row: pd.Series) -> Scan:
    """Read the scan, the mask and the colours of one row of the index.

    Args:
        root: the data set's folder.
        row: one row of :func:`eyecandies_index`.

    Returns:
        Organised scan; of a depth image in the camera's frame, in metres. The mask is all false for a good sample
        without a mask file.

    Raises:
        InputError: when a file is missing, broken, or does not fit the scan, or does not say whether it is normal.
    """
    path = Path(root) / row["scan_path"]
    if not path.stem.lower().endswith(_DEPTH):
        return mvtec3d.read_row(root, row)
    if row["defect"] == UNKNOWN:
        number = path.stem.lower()[: -len(_DEPTH)]
        _defect(path.parent, number, *_data_files(path.parent))
        raise InputError(path, "its kind of defect could not be read when it was listed", "list it again", "readable")
    return mvtec3d.with_images(back_project(read_depth(path)), Path(root), row)


def further_files(root: str | Path, row: pd.Series) -> tuple[Path, ...]:
    """Files that :func:`read_row` reads and the row does not name: the depths of a depth image."""
    path = Path(root) / row["scan_path"]
    return (_depths_file(path),) if path.stem.lower().endswith(_DEPTH) else ()


def read_depth(path: Path) -> np.ndarray:
    """Read a depth image with the depths that its ``NN_info_depth.yaml`` says.

    Returns:
        (h, w) float64, metres along the camera's axis.

    Raises:
        InputError: when a file is missing or broken, the image has not 16 bit, or the depths are none.
    """
    values = np.array(open_image(path, "depth image"))
    if values.ndim != 2 or values.dtype not in (np.uint16, np.int32):
        problem = f"holds {values.dtype} in {values.ndim} dimensions instead of one 16 bit depth a pixel"
        raise InputError(path, problem, "copy it again, without conversion", "readable")
    info = _depths_file(path)
    limits = _read_yaml(info).get("normalization")
    try:
        nearest, farthest = (float(dict(limits or {})[key]) for key in ("min", "max"))
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(info, "lacks the numbers normalization.min and .max", "copy it again", "readable") from error
    if not (math.isfinite(farthest) and 0 < nearest < farthest):
        raise InputError(info, f"the depths {nearest:g} to {farthest:g} m are no range", "copy it again", "readable")
    return values / 65535 * (farthest - nearest) + nearest


def back_project(depth: np.ndarray) -> np.ndarray:
    """Points of a depth image of Eyecandies' camera.

    Args:
        depth: (h, w) in metres; of another size than the official one, the whole image is taken to be resized.

    Returns:
        (h, w, 3) float32 in metres, x to the right, y down, z away from the camera.
    """
    height, width = depth.shape
    focal_length = FOCAL_LENGTH * width / SIDE
    v, u = np.mgrid[:height, :width]
    points = np.stack([(u - width / 2) * depth / focal_length, (v - height / 2) * depth / focal_length, depth], axis=-1)
    return points.astype(np.float32)


def _is_downloaded(category: Path, splits: Sequence[str]) -> bool:
    return any(
        "data" in layout.folders(split) for name, split in layout.folders(category).items() if name in splits
    )


def _split_rows(root: Path, category: str, folder: Path, split: str) -> Iterator[dict[str, str | int]]:
    names = _SPLIT_FOLDERS[split]
    top = layout.folder(folder, *names)
    data = None if top is None else layout.folder(top, "data")
    if data is None:
        raise layout.MissingSplitError(
            folder / names[0] / "data", f"the category has no split {split}", "leave out the split or the category"
        )
    images, texts = _data_files(data)
    orphans = {
        key: path
        for key, path in images.items()
        if (found := _OF_SCENE.match(key)) is not None and f"{found[1]}{_DEPTH}" not in images
    }
    layout.warn_of_orphans(orphans.values(), "images or masks")
    for key, depth in images.items():
        if not key.endswith(_DEPTH):
            continue
        number = key[: -len(_DEPTH)]
        # The authors' table: the splits for training and validation hold good samples alone.
        defect = "good"
        if split == "test":
            try:
                defect = _defect(data, number, images, texts)
            except InputError:
                defect = UNKNOWN
        mask = images.get(f"{number}_mask")
        if defect != "good" and mask is None:
            mask = data / f"{number}_mask.png"
        yield {
            "name": f"{category}/{split}/{defect}/{number}",
            "dataset": DATASET,
            "category": category,
            "split": split,
            "defect": defect,
            "label": int(defect != "good"),
            "scan_path": layout.relative(depth, root),
            "mask_path": layout.relative(mask, root),
            "color_path": layout.relative(images.get(f"{number}_image_5"), root),
        }


def _data_files(data: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Images and texts of a folder ``data``."""
    return layout.files(data, (".png",)), layout.files(data, (".yaml", ".yml"))


def _defect(data: Path, number: str, images: Mapping[str, Path], texts: Mapping[str, Path]) -> str:
    """``good``, the kind of defect, or :data:`SEVERAL_KINDS`.

    Raises:
        InputError: when the files that say so are missing or broken.
    """
    metadata = texts.get(f"{number}_metadata")
    if metadata is not None:
        flags = _read_yaml(metadata)
        abnormal = bool(flags.get("anomalous"))
        kinds = [kind for kind in KINDS if flags.get(f"anomalous_{kind}")]
    else:
        masks = {kind: images[key] for kind in KINDS if (key := f"{number}_{kind}_mask") in images}
        if not masks:
            problem = "neither metadata nor masks say whether the sample is normal"
            raise InputError(data / f"{number}_metadata.yaml", problem, "copy it again")
        kinds = [kind for kind, path in masks.items() if _any_defect(path)]
        abnormal = bool(kinds)
    if not (abnormal or kinds):
        return "good"
    return kinds[0] if len(kinds) == 1 else SEVERAL_KINDS


def _any_defect(path: Path) -> bool:
    width, height = open_image(path, "mask").size
    return bool(read_mask(path, (height, width)).any())


def _depths_file(path: Path) -> Path:
    """The file that says which depths the levels of a depth image stand for."""
    return _beside(path, f"{path.stem[: -len(_DEPTH)]}_info_depth.yaml")


def _beside(path: Path, name: str) -> Path:
    """The file ``name`` in the folder of ``path``, in whatever letter case it is there."""
    exact = path.with_name(name)
    if exact.is_file():
        return exact
    return layout.files(path.parent, (".yaml", ".yml")).get(exact.stem.lower(), exact)


def _read_yaml(path: Path) -> dict[str, Any]:
    check_file(path, "YAML")
    remedy = "copy it again"
    try:
        with path.open("rb") as file:
            content = file.read(MAX_YAML + 1)
        if len(content) > MAX_YAML:
            raise InputError(path, f"has more than {MAX_YAML} bytes", remedy, "readable")
        parsed = yaml.safe_load(content)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(path, f"cannot be read as YAML ({one_line(error, 100)})", remedy, "readable") from error
    if not isinstance(parsed, dict):
        raise InputError(path, "holds no keys and values", remedy, "readable")
    return parsed
