"""Which samples are trained on, which calibrate the threshold, and what is said about it in every report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from gsclip.data.datasets import CALIBRATION_SPLIT
from gsclip.params import Params


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
