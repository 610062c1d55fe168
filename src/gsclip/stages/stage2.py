"""Stage stage2: learns depth stream and SRM on the auxiliary categories, under the prompts of stage 1."""

from __future__ import annotations

import torch

from gsclip.features.backbone import load_backbone
from gsclip.params import Params
from gsclip.prompts.geometry_prompts import PROMPTS_FILE, load_prompts
from gsclip.stages import common
from gsclip.storage import atomic_directory, write_csv
from gsclip.streams.streams import build_streams, save_streams
from gsclip.training.batches import TrainingData
from gsclip.training.checkpoints import Checkpoint, run_key
from gsclip.training.loop import empty_curve
from gsclip.training.selection import training_names
from gsclip.training.stage2 import train_stage2


def stage2(params: Params) -> None:
    """Write ``models/stage2`` (empty when the depth stream is switched off) and its learning curve."""
    if not params.stage2.depth_stream:
        with atomic_directory(common.STAGE2):
            write_csv(common.CURVES / "stage2.csv", empty_curve())
        return
    auxiliary = params.prepare.auxiliary_categories
    names = training_names(common.index(), auxiliary)
    data = TrainingData(common.FOLDERS, names, params.features.depth_encoding)
    settings = {group: getattr(params, group).model_dump() for group in ("features", "stage1", "stage2")}
    inputs = [*common.FOLDERS.files(auxiliary), common.STAGE1 / PROMPTS_FILE]
    checkpoint = Checkpoint(common.CHECKPOINTS, "stage2", run_key(settings, inputs))
    backbone = load_backbone(*params.features.backbone_arguments)
    prompts = load_prompts(common.STAGE1, backbone, params.stage1)
    torch.manual_seed(params.stage2.seed)
    depth_stream, refinement = build_streams(backbone, params.stage2)
    curve = train_stage2(depth_stream, refinement, prompts, backbone, data, params.features, params.stage2, checkpoint)
    with atomic_directory(common.STAGE2) as folder:
        save_streams(folder, depth_stream, refinement)
    write_csv(common.CURVES / "stage2.csv", curve)
    checkpoint.remove()


if __name__ == "__main__":
    common.run(stage2)
