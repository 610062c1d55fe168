"""The data sets by name: how each is listed, and how one row of its index is read. Add a data set here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import pandas as pd

from gsclip.data import mvtec3d
from gsclip.data.index import validate_index
from gsclip.data.procedural import dataset as procedural
from gsclip.data.procedural.families import FAMILIES, categories
from gsclip.data.sample import Scan
from gsclip.errors import InputError
from gsclip.params import PrepareParams

AUXILIARY, TEST = "auxiliary", "test"
CALIBRATION_SPLIT = "validation"


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        index: from parameters to the index of auxiliary and test categories.
        read: from the data set's root, a row of the index and the seed to the scan.
    """

    index: Callable[[PrepareParams], pd.DataFrame]
    read: Callable[[str, pd.Series, int], Scan]


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


def _mvtec_3d_ad_index(params: PrepareParams) -> pd.DataFrame:
    # The split train holds no defects: the auxiliary class is learned from its test split, as in the paper.
    return mvtec3d.mvtec_3d_ad_index(params.root, [*params.auxiliary_categories, *params.test_categories])


DATASETS: Mapping[str, DataSet] = MappingProxyType({
    "procedural": DataSet(_procedural_index, lambda _root, row, seed: procedural.generate_from_row(row, seed)),
    mvtec3d.DATASET: DataSet(_mvtec_3d_ad_index, lambda root, row, _seed: mvtec3d.read_row(root, row)),
})
