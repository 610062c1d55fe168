"""Stage stage1: learns the geometry-aware prompts on the auxiliary categories."""

from __future__ import annotations

from pathlib import Path

import torch

from gsclip.features.backbone import load_backbone
from gsclip.params import Params
from gsclip.prompts.geometry_prompts import PROMPTS_FILE, build_prompts, load_encoder
from gsclip.stages import common
from gsclip.storage import atomic_directory, save_module, write_csv
from gsclip.training.batches import TrainingData
from gsclip.training.checkpoints import Checkpoint, run_key
from gsclip.training.selection import training_names
from gsclip.training.stage1 import train_stage1


def stage1(params: Params) -> None:
    """Write ``models/stage1`` and its learning curve."""
    auxiliary = params.prepare.auxiliary_categories
    data = TrainingData(common.FOLDERS, training_names(common.index(), auxiliary))
    settings = {"features": params.features.model_dump(), "stage1": params.stage1.model_dump()}
    weights = [Path(params.stage1.pointnet_weights)] if params.stage1.pointnet_weights else []
    inputs = [*common.FOLDERS.files(auxiliary), *(path for path in weights if path.is_file())]
    checkpoint = Checkpoint(common.CHECKPOINTS, "stage1", run_key(settings, inputs))
    backbone = load_backbone(*params.features.backbone_arguments)
    torch.manual_seed(params.stage1.seed)
    prompts = build_prompts(backbone, params.stage1)
    load_encoder(prompts, params.stage1)
    curve = train_stage1(prompts, backbone, data, params.stage1, checkpoint)
    with atomic_directory(common.STAGE1) as folder:
        save_module(prompts, folder / PROMPTS_FILE)
    write_csv(common.CURVES / "stage1.csv", curve)
    checkpoint.remove()


if __name__ == "__main__":
    common.run(stage1)
