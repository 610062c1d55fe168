"""Both stages on three small samples, for one process and for torchrun: ``python -m tests.training.two_processes``."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch

from gsclip.determinism import make_deterministic
from gsclip.features.backbone import load_backbone
from gsclip.packs import PackFolders
from gsclip.params import load_params
from gsclip.prompts.geometry_prompts import build_prompts
from gsclip.storage import write_csv
from gsclip.streams.streams import build_streams
from gsclip.training.batches import TrainingData
from gsclip.training.checkpoints import Checkpoint
from gsclip.training.distributed import is_first, joined
from gsclip.training.stage1 import train_stage1
from gsclip.training.stage2 import train_stage2

# In batches of two: the second process has no share of the second batch.
NAMES = ("castle_nut/train/good/000", "vase/train/bulge/000", "elbow/train/good/000")
SHORT = {"epochs": 2, "batch_size": 2, "micro_batch_size": 2}


def parameters():
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    assert params.stage2.lora_dropout > 0
    return params.model_copy(
        update={
            "features": params.features.model_copy(update={"cloud_points": 512}),
            "stage1": params.stage1.model_copy(update=SHORT),
            "stage2": params.stage2.model_copy(update=SHORT | {"precision": "float32"}),
        }
    )


class DoubleData(TrainingData):
    """Batches of stage 1 in double precision."""

    def batch(self, names):
        batch = super().batch(names)
        arrays = {field.name: getattr(batch.grouping, field.name) for field in dataclasses.fields(batch.grouping)}
        double = {name: array.astype(np.float64) for name, array in arrays.items() if array.dtype == np.float32}
        grouping = dataclasses.replace(batch.grouping, **double)
        return dataclasses.replace(batch, tokens=batch.tokens.double(), grouping=grouping)


def stage1(folders, work):
    """Learning curve in double precision: in single, rounding decides which points are the outliers of an object."""
    params = parameters()
    torch.set_default_dtype(torch.float64)
    try:
        backbone = load_backbone()
        backbone.clip.double()
        torch.manual_seed(0)
        prompts = build_prompts(backbone, params.stage1)
        data = DoubleData(folders, NAMES)
        curve = train_stage1(prompts, backbone, data, params.stage1, Checkpoint(work, "stage1", "key"))
        data.close()
        return curve
    finally:
        torch.set_default_dtype(torch.float32)


def stage2(folders, work, epochs=2):
    """Learning curve, dropout included."""
    params = parameters()
    backbone = load_backbone()
    torch.manual_seed(0)
    prompts = build_prompts(backbone, params.stage1)
    torch.manual_seed(0)
    streams = build_streams(backbone, params.stage2)
    data = TrainingData(folders, NAMES, params.features.depth_encoding)
    settings = params.stage2.model_copy(update={"epochs": epochs})
    curve = train_stage2(
        *streams, prompts, backbone, data, params.features, settings, Checkpoint(work, "stage2", "key")
    )
    data.close()
    return curve


if __name__ == "__main__":
    packs, half_way, output = (Path(argument) for argument in sys.argv[1:])
    make_deterministic()
    torch.set_num_threads(1)
    found = PackFolders(packs / "prepared", packs / "views", packs / "features")
    with joined():
        curves = {
            "stage1": stage1(found, output), "stage2": stage2(found, output), "resumed": stage2(found, half_way)
        }  # fmt: skip
        for name, curve in curves.items():
            if is_first():
                write_csv(output / f"{name}.csv", curve)
