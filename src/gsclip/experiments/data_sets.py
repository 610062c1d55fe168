"""Data sets as experiments take them: prepared, rendered and encoded once, for all runs."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gsclip.data.datasets import CALIBRATION_SPLIT, listing, warn_of_cameras, warn_of_gaps
from gsclip.data.index import read_index
from gsclip.data.preparing import INDEX_FILE, prepare_index, read_row
from gsclip.features.backbone import Backbone, check_fit, embedded_folder
from gsclip.features.packing import write_features
from gsclip.packs import PackFolders
from gsclip.params import Params
from gsclip.storage import atomic_directory
from gsclip.training.checkpoints import run_key
from gsclip.views.packing import write_views


@dataclass(frozen=True)
class EncodedData:
    """A data set whose packs are there.

    Attributes:
        dataset: its name.
        folders: of the packs.
        index: accepted samples.
        cameras: list that its views were rendered with; ``None``: that of the parameters.
    """

    dataset: str
    folders: PackFolders
    index: pd.DataFrame
    cameras: str | None = None

    def tested(self, auxiliary_categories: tuple[str, ...]) -> pd.DataFrame:
        """Rows of every category that is not trained on; samples that only calibrate a threshold are left out."""
        return self.index[
            ~self.index["category"].isin(auxiliary_categories) & (self.index["split"] != CALIBRATION_SPLIT)
        ]


def other_data_set(params: Params, backbone: Backbone, work: Path) -> EncodedData | None:
    """Prepare, render and encode the data set of ``cross``; ``None`` where ``cross.root`` names none.

    What is in ``work`` from an earlier call with the same parameters and files is used again.

    Raises:
        GsclipError: when parameters do not fit the backbone, or too many scans are rejected.
    """
    config = params.cross
    if not config.root:
        return None
    index = listing(config.dataset)(config.root, config.categories or None)
    warn_of_gaps(config.dataset, index, () if config.categories else ("test",))
    warn_of_cameras(config.dataset, params.render.cameras)
    return encoded(config.dataset, config.root, index, params, backbone, work)


def encoded(
    dataset: str, root: str, index: pd.DataFrame, params: Params, backbone: Backbone, work: Path, title: str = ""
) -> EncodedData:
    """Prepare, render and encode the samples of a data set in a folder.

    Args:
        dataset: name in :mod:`gsclip.data.datasets`.
        root: its folder.
        index: its samples.
        params: how.
        backbone: the loaded backbone that the parameters name.
        work: folder where the packs stay; those of an earlier call with the same parameters and files are used again.
        title: what tables call the data set; its name by default.

    Raises:
        GsclipError: when parameters do not fit the backbone, or too many scans are rejected.
    """
    check_fit(backbone, params.render.image_size, params.features.local_layers)
    sizes = [_size(Path(root) / path) for path in index["scan_path"]]
    settings = {group: getattr(params, group).model_dump() for group in ("render", "features")}
    settings["scan"] = params.prepare.scan.model_dump()
    settings |= {"root": root, "index": index.to_csv(), "sizes": sizes}
    folder = work / "data" / run_key(settings, [embedded_folder() / "config.json"])  # which names the weights
    if not folder.is_dir():
        read = functools.partial(read_row, dataset, root, 0)
        with atomic_directory(folder) as temporary:
            prepare = params.prepare
            accepted = prepare_index(index, read, temporary / "prepared", prepare.scan, prepare.rejected_share_limit)
            (temporary / "views").mkdir()
            write_views(accepted, temporary / "prepared", temporary / "views", params.render)
            write_features(
                accepted,
                temporary / "prepared",
                temporary / "views",
                temporary / "features",
                backbone,
                params.features,
            )
    folders = PackFolders(folder / "prepared", folder / "views", folder / "features")
    return EncodedData(title or dataset, folders, read_index(folders.prepared / INDEX_FILE), params.render.cameras)


def _size(path: Path) -> int | None:
    """Bytes of a file; ``None`` where it cannot be looked at, and reading it fails."""
    try:
        return path.stat().st_size
    except OSError:
        return None
