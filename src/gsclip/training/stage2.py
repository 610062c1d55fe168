"""Stage 2: depth stream and SRM are learned under fixed prompts (method, section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from gsclip.errors import GsclipError
from gsclip.features.backbone import Backbone
from gsclip.features.encode import encode_views
from gsclip.features.types import VisualEncoder
from gsclip.params import FeaturesParams, Stage2Params
from gsclip.prompts.geometry_prompts import Prompts
from gsclip.streams.refinement import SynergisticRefinement
from gsclip.training.batches import Batch, TrainingData
from gsclip.training.checkpoints import Checkpoint
from gsclip.training.loop import train
from gsclip.training.losses import consistency_loss, detection_losses


def train_stage2(
    depth_stream: VisualEncoder,
    refinement: SynergisticRefinement,
    prompts: Prompts,
    backbone: Backbone,
    data: TrainingData,
    features: FeaturesParams,
    params: Stage2Params,
    checkpoint: Checkpoint,
    live: Path | None = None,
) -> pd.DataFrame:
    """Train LoRA and SRM; L = L_cla + L_seg + alpha L_con. The prompts are read in evaluation mode.

    Returns:
        Learning curve, see :func:`~gsclip.training.loop.train`.
    """
    text = _text_features(prompts.eval(), backbone, data)
    depth_stream.transformer.grad_checkpointing = params.gradient_checkpointing

    def step(batch: Batch) -> Mapping[str, Tensor]:
        if batch.depth is None:
            raise GsclipError("stage 2 learns from depth images: give the training data their encoding")
        # The losses stay in float32: their sums over pixels and points are long.
        with torch.autocast(batch.depth.device.type, torch.bfloat16, enabled=runs_in_bfloat16(params)):
            depth = encode_views(
                backbone,
                depth_stream,
                batch.depth.flatten(0, 1),
                local_blocks=features.local_blocks,
                local_layers=features.local_layers,
            ).unflatten(0, batch.depth.shape[:2])
            refined = refinement(batch.tokens, depth)
        refined = refined.float()
        losses = detection_losses(refined, torch.stack([text[name] for name in batch.names]), batch)
        consistency = consistency_loss(refined[:, :, 0])
        return {
            "loss": losses.classification + losses.segmentation + params.consistency_weight * consistency,
            "classification": losses.classification,
            "segmentation": losses.segmentation,
            "consistency": consistency,
        }

    lora = [parameter for parameter in depth_stream.parameters() if parameter.requires_grad]
    rate = params.learning_rate
    optimizer = torch.optim.Adam(
        [
            {"params": list(refinement.parameters()), "lr": rate},
            {"params": lora, "lr": rate * params.lora_learning_rate_factor},
        ]
    )
    return train(
        {"depth_stream": depth_stream.train(), "refinement": refinement.train()},
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


def runs_in_bfloat16(params: Stage2Params) -> bool:
    """Whether the passes of stage 2 run in bfloat16; processors without its instructions are slower with it."""
    if params.precision == "auto":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return params.precision == "bfloat16"


@torch.no_grad()
def _text_features(prompts: Prompts, backbone: Backbone, data: TrainingData) -> dict[str, Tensor]:
    """(2, d) of every sample; fixed in this stage, hence computed once."""
    return {name: prompts(backbone.clip, data.grouping([name]))[0] for name in data.names}
