"""The data sets by name: how each is listed, and how one row of its index is read. Add a data set here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import pandas as pd

from gsclip.data import anomaly_shapenet, eyecandies, mvtec3d, own_parts, real3d_ad
from gsclip.data.index import validate_index
from gsclip.data.official import ABNORMAL, ALL, GOOD, OFFICIAL_COUNTS, OFFICIAL_PLACES
from gsclip.data.procedural import dataset as procedural
from gsclip.data.procedural.families import FAMILIES, categories
from gsclip.data.sample import Scan
from gsclip.errors import InputError
from gsclip.params import PrepareParams

AUXILIARY, TEST = "auxiliary", "test"
CALIBRATION_SPLIT = "validation"
ALL_AROUND = "full"  # the list of cameras in gsclip.views.cameras

_log = logging.getLogger(__name__)


class Listing(Protocol):
    """Lists the samples of a data set that lies in a folder."""

    def __call__(
        self, root: str | Path, categories: Sequence[str] | None = None, splits: Sequence[str] = ("test",)
    ) -> pd.DataFrame:
        """Give the index of the categories, all that are there when ``None``, and splits; see :mod:`gsclip.data.index`.

        Raises:
            InputError: when they are not there.
        """


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        index: from parameters to the index of auxiliary and test categories.
        read: from the data set's root, a row of the index and the seed to the scan.
        licence: one sentence on what may be done with the scans; it begins with ``check:`` where the use of a model
            trained on them is restricted or not known.
        listing: from root, categories and splits to the index; ``None`` where the samples do not lie in a folder.
        further: from root and row to what the scan depends on beside the row and the files that it names: files, by
            their content, and values.
        all_around: its clouds have points on all sides of the part, so that cameras belong all around it.
    """

    index: Callable[[PrepareParams], pd.DataFrame]
    read: Callable[[str, pd.Series, int], Scan]
    licence: str = "check: the licence of this data set is not known to gsclip."
    listing: Listing | None = None
    further: Callable[[str, pd.Series], Sequence[Path | bool]] = lambda _root, _row: ()
    all_around: bool = False


def listing(dataset: str) -> Listing:
    """How a data set is listed.

    Raises:
        InputError: when it is not known, or its samples do not lie in a folder.
    """
    found = DATASETS[dataset].listing if dataset in DATASETS else None
    if found is None:
        names = ", ".join(name for name, entry in DATASETS.items() if entry.listing is not None)
        problem = "is not known" if dataset not in DATASETS else "is generated and has no folder"
        raise InputError(f"data set {dataset}", problem, f"use {names}")
    return found


def completeness(dataset: str, index: pd.DataFrame, whole: Sequence[str] = ()) -> pd.DataFrame:
    """Compare what is there with the official data set.

    Args:
        dataset: its name.
        index: as listed.
        whole: splits that were asked for in all categories: those that ``index`` lacks altogether are in the table,
            with 0 found. Of other splits, what ``index`` lacks is taken not to be asked for.

    Returns:
        Columns ``category``, ``split``, ``defect``, ``found`` and ``official`` (Int64, missing where the number is not
        known for certain, as for each kind of defect). One row for each kind of defect that is there, and in each split
        the sums ``abnormal``, where it can hold any, and ``all``. An incomplete copy has ``found`` below ``official``.
    """
    official = OFFICIAL_COUNTS.get(dataset, {})
    categories, splits = OFFICIAL_PLACES.get(dataset, ((), ()))
    listed = list(index[["category", "split"]].drop_duplicates().itertuples(index=False, name=None))
    expected = [(category, split) for category in categories for split in splits if split in whole]
    rows = []
    for category, split in [*listed, *(place for place in expected if place not in listed)]:
        members = index[(index["category"] == category) & (index["split"] == split)]
        counts = members["defect"].value_counts().to_dict()
        known = {defect for name, part, defect in official if (name, part) == (category, split)}
        sums = {ALL: len(members)}
        abnormal = int((members["label"] == 1).sum())
        if abnormal or ABNORMAL in known:
            sums = {ABNORMAL: abnormal, **sums}
        kinds = sorted({*counts, *(known & {GOOD})}, key=lambda defect: (defect != GOOD, defect))
        rows += [
            (category, split, defect, found, official.get((category, split, defect)))
            for defect, found in [*((kind, counts.get(kind, 0)) for kind in kinds), *sums.items()]
        ]
    table = pd.DataFrame(rows, columns=["category", "split", "defect", "found", "official"])
    return table.astype({"found": "int64", "official": "Int64"})


def warn_of_gaps(dataset: str, index: pd.DataFrame, whole: Sequence[str] = ()) -> None:
    """Log one warning that names the categories and splits with fewer samples than the official data set.

    Args:
        dataset: its name.
        index: as listed.
        whole: splits that were asked for in all categories; see :func:`completeness`.
    """
    table = completeness(dataset, index, whole)
    sums = table[table["defect"] == ALL]
    short = sums[(sums["found"] < sums["official"].fillna(1))]
    if len(short):
        places = [
            f"{row.category}/{row.split} {'missing' if row.found == 0 else f'{row.found} of {row.official}'}"
            for row in short.itertuples()
        ]
        _log.warning("%s is not complete here: %s", dataset, ", ".join(places))


def warn_of_cameras(dataset: str, cameras: str) -> None:
    """Log a warning where cameras on one side look at clouds that have points on all sides."""
    if DATASETS[dataset].all_around and cameras != ALL_AROUND:
        _log.warning(
            "%s has points on all sides of its parts and render.cameras is %s: set it to %s, or one side stays unseen",
            dataset,
            cameras,
            ALL_AROUND,
        )


def role(category: str, auxiliary_categories: Sequence[str]) -> str:
    """``auxiliary`` for categories that are trained on, else ``test``."""
    return AUXILIARY if category in auxiliary_categories else TEST


def _procedural_index(params: PrepareParams) -> pd.DataFrame:
    for category in (*params.auxiliary_categories, *params.test_categories):
        if category in FAMILIES and FAMILIES[category].role == "backbone":
            raise InputError(
                f"prepare: {category}",
                "trained the embedded backbone, so that its scores would not be zero-shot",
                f"choose among {', '.join((*categories('auxiliary'), *categories('test')))}",
            )
    parts = [
        procedural.procedural_index(params.auxiliary_categories, params.auxiliary_samples, params.seed, "train"),
        procedural.procedural_index(
            params.auxiliary_categories, params.calibration_samples, params.seed, CALIBRATION_SPLIT
        ),
        procedural.procedural_index(params.test_categories, params.test_samples, params.seed, "test"),
    ]
    return validate_index(pd.concat(parts, ignore_index=True), "procedural")


def _own_parts_index(params: PrepareParams) -> pd.DataFrame:
    """Index of own parts: all splits of the auxiliary categories, with ground truth; of the others the tests."""
    index = own_parts.own_parts_index(
        params.root, [*params.auxiliary_categories, *params.test_categories], own_parts.SPLITS, params.mask_color
    )
    auxiliary = index["category"].isin(params.auxiliary_categories)
    unknown = pd.Series([own_parts.unlabelled(params.root, row) for _, row in index.iterrows()], dtype=bool)
    unknown |= (index["label"] == 1) & (index["mask_path"] == "")
    if (auxiliary & unknown).any():
        _log.warning("%d auxiliary scans have no ground truth and are left out", int((auxiliary & unknown).sum()))
    return index[(auxiliary & ~unknown) | (~auxiliary & (index["split"] == "test"))].reset_index(drop=True)


def _from_folder(
    listing: Listing,
    read: Callable[[str, pd.Series], Scan],
    licence: str,
    *,
    further: Callable[[str, pd.Series], Sequence[Path | bool]] = lambda _root, _row: (),
    all_around: bool = False,
) -> DataSet:
    """Describe a data set that lies in a folder.

    Where the split for training holds no defects, there is nothing to learn from in it: the auxiliary class is learned
    from its test split, as in the paper.
    """
    return DataSet(
        lambda params: listing(params.root, [*params.auxiliary_categories, *params.test_categories], ("test",)),
        lambda root, row, _seed: read(root, row),
        licence,
        listing,
        further,
        all_around,
    )


DATASETS: Mapping[str, DataSet] = MappingProxyType({
    "procedural": DataSet(
        _procedural_index,
        lambda _root, row, seed: procedural.generate_from_row(row, seed),
        "Apache-2.0: the scans are generated by this project.",
    ),
    mvtec3d.DATASET: _from_folder(
        mvtec3d.mvtec_3d_ad_index,
        mvtec3d.read_row,
        "check: MVTec 3D-AD is CC BY-NC-SA 4.0, so no commercial use of a model trained on it without MVTec's "
        "permission.",
    ),
    eyecandies.DATASET: _from_folder(
        eyecandies.eyecandies_index,
        eyecandies.read_row,
        "check: Eyecandies is CC BY-NC-SA 4.0 by its authors, for research: no commercial use of a model trained on it "
        "without their permission.",
        further=eyecandies.further_files,
    ),
    real3d_ad.DATASET: _from_folder(
        real3d_ad.real3d_ad_index,
        real3d_ad.read_row,
        "check: the repository of Real3D-AD names CC BY 4.0; the terms that came with your copy count.",
        all_around=True,
    ),
    anomaly_shapenet.DATASET: _from_folder(
        anomaly_shapenet.anomaly_shapenet_index,
        anomaly_shapenet.read_row,
        "check: the repository of Anomaly-ShapeNet names CC BY 4.0, but its shapes are from ShapeNet, whose terms "
        "allow research alone.",
        all_around=True,
    ),
    own_parts.DATASET: DataSet(
        _own_parts_index,
        lambda root, row, _seed: own_parts.read_row(root, row),
        "The scans are the user's own.",
        own_parts.own_parts_index,
        own_parts.further_inputs,
    ),
})
