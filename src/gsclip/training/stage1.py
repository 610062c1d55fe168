"""Stage 1: geometry-aware prompts are learned against the frozen tokens of the rendered views (method, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from gsclip.features.backbone import Backbone
from gsclip.params import Stage1Params
from gsclip.prompts.geometry_prompts import Prompts
from gsclip.training.batches import Batch, TrainingData
from gsclip.training.checkpoints import Checkpoint
from gsclip.training.loop import empty_curve, train
from gsclip.training.losses import detection_losses

BETAS = (0.5, 0.999)


def train_stage1(
    prompts: Prompts,
    backbone: Backbone,
    data: TrainingData,
    params: Stage1Params,
    checkpoint: Checkpoint,
    live: Path | None = None,
) -> pd.DataFrame:
    """Train all of stage 1, PointNet++ along with it; L = L_cla + L_seg.

    Returns:
        Learning curve, see :func:`~gsclip.training.loop.train`; empty for prompts that learn nothing.
    """
    if not list(prompts.parameters()):
        return empty_curve()

    def step(batch: Batch) -> Mapping[str, Tensor]:
        losses = detection_losses(batch.tokens, prompts(backbone.clip, batch.grouping), batch)
        return {
            "loss": losses.classification + losses.segmentation,
            "classification": losses.classification,
            "segmentation": losses.segmentation,
        }

    optimizer = torch.optim.Adam(prompts.parameters(), lr=params.learning_rate, betas=BETAS, fused=True)
    return train(
        {"prompts": prompts.train()},
        optimizer,
        data.names,
        step,
        read=data.batch,
        epochs=params.epochs,
        batch_size=params.batch_size,
        micro_batch_size=params.micro_batch_size,
        defective=data.defective,
        live=live,
        seed=params.seed,
        checkpoint=checkpoint,
    )
