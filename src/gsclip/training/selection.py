"""Which samples are trained on, which calibrate the thresholds, and what the model and every report say about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gsclip.data.datasets import CALIBRATION_SPLIT, DATASETS
from gsclip.errors import InputError
from gsclip.params import Params
from gsclip.storage import sha256

# Columns of the index that say what a sample is; the others say where its files lie.
IDENTITY = ("name", "dataset", "category", "split", "defect", "label")
# Parameters of the model. Of the group prepare, ``root`` is a place, and the others do not reach the training.
SHAPING_GROUPS = ("render", "features", "stage1", "stage2", "predict")
SHAPING_DATA = (
    "dataset", "auxiliary_categories", "auxiliary_samples", "calibration_samples", "background", "max_points",
    "mask_color", "seed",
)  # fmt: skip


def training_names(index: pd.DataFrame, auxiliary_categories: Sequence[str]) -> list[str]:
    """Names of the auxiliary samples that are trained on, in the order of the index."""
    auxiliary = index["category"].isin(auxiliary_categories) & (index["split"] != CALIBRATION_SPLIT)
    return index.loc[auxiliary, "name"].tolist()


def calibration_names(index: pd.DataFrame, auxiliary_categories: Sequence[str]) -> list[str]:
    """Names of the auxiliary samples for the threshold: held-out ones where they hold both labels, else all."""
    auxiliary = index[index["category"].isin(auxiliary_categories)]
    held_out = auxiliary[auxiliary["split"] == CALIBRATION_SPLIT]
    return (held_out if held_out["label"].nunique() == 2 else auxiliary)["name"].tolist()


def provenance(index: pd.DataFrame, params: Params, backbone_note: str) -> dict[str, Any]:
    """Facts about the training, as they stand in the model's configuration and in every report."""
    auxiliary = params.prepare.auxiliary_categories
    training, calibration = training_names(index, auxiliary), calibration_names(index, auxiliary)
    labels = index.set_index("name")["label"]
    return {
        "dataset": params.prepare.dataset,
        "auxiliary_categories": list(auxiliary),
        "training_splits": sorted(set(index.set_index("name").loc[training, "split"])),
        "training_samples": len(training),
        "training_defective": int(labels[training].sum()),
        "calibration_samples": len(calibration),
        "calibration_held_out": not set(calibration) & set(training),
        "seeds": {"data": params.prepare.seed, "stage1": params.stage1.seed, "stage2": params.stage2.seed},
        "epochs": {
            "stage1": params.stage1.epochs if params.stage1.prompts == "learned" else 0,
            "stage2": params.stage2.epochs if params.stage2.depth_stream else 0,
        },
        "backbone": params.features.backbone,
        "backbone_note": backbone_note,
    }


def data_sha256(prepared: Path, index: pd.DataFrame, auxiliary_categories: Sequence[str]) -> str:
    """Hexadecimal SHA-256 of the data behind a model: what was trained on, and what the thresholds come from.

    It covers the packs of the auxiliary categories and, in the order of the index, the rows of the samples used. It
    does not depend on where files lie, on their times, or on other categories.

    Args:
        prepared: folder of ``<category>.h5``, packs of samples.
        index: of the prepared samples.
        auxiliary_categories: those trained on.

    Raises:
        InputError: when a pack is missing.
    """
    rows = index.set_index("name", drop=False).loc[:, list(IDENTITY)]
    used: dict[str, Any] = {"packs": {}}
    for category in sorted(auxiliary_categories):
        path = prepared / f"{category}.h5"
        if not path.is_file():
            raise InputError(path, "pack of samples not found", "run `dvc repro prepare`")
        used["packs"][category] = sha256(path)
    for use, names in (
        ("training", training_names(index, auxiliary_categories)),
        ("calibration", calibration_names(index, auxiliary_categories)),
    ):
        used[use] = rows.loc[names].astype(str).to_numpy().tolist()
    return _digest(used)


def parameters_sha256(params: Params) -> str:
    """Hexadecimal SHA-256 of all parameters that shape a model, as canonical JSON.

    Left out are ``prepare.root``, the test samples and what happens after the model is made (evaluation, report): two
    runs that differ in these alone give the same model. Weights count by the name that the parameters give them.
    """
    values: dict[str, Any] = params.model_dump(mode="json")
    groups = {group: values[group] for group in SHAPING_GROUPS}
    return _digest({**groups, "prepare": {name: values["prepare"][name] for name in SHAPING_DATA}})


def licences(params: Params) -> dict[str, str | None]:
    """One plain sentence for each part of a model; those that begin with ``check:`` need a look before it is used.

    Returns:
        Sentences for ``code``, ``backbone``, ``data`` and ``pointnet``; the last is ``None`` where PointNet++ does not
        start from a checkpoint.
    """
    features = params.features
    if features.backbone == "embedded":
        backbone = "Apache-2.0: the weights ship with gsclip and were trained on generated shapes alone."
    elif features.weights == "openai":
        backbone = "check: MIT, as published by OpenAI; the model card of CLIP puts deployed use out of scope."
    elif features.weights == "random":
        backbone = f"none: {features.backbone} has random weights."
    else:
        backbone = f"check: the model card of the weights {features.weights!r} of {features.backbone}."
    pointnet = f"check: the licence of the checkpoint {params.stage1.pointnet_weights!r} that PointNet++ starts from."
    return {
        "code": "Apache-2.0: gsclip.",
        "backbone": backbone,
        "data": DATASETS[params.prepare.dataset].licence,
        "pointnet": pointnet if params.stage1.pointnet_weights else None,
    }


def _digest(value: Mapping[str, Any]) -> str:
    """SHA-256 of canonical JSON: sorted keys, no spaces, ASCII."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()
