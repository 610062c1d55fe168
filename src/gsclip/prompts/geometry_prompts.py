"""Stage 1's module: from the geometry of a cloud to its pair of text features (method, section 4)."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor, nn

from gsclip.features.backbone import Backbone
from gsclip.features.types import ClipModel, Tokenizer
from gsclip.params import Stage1Params
from gsclip.prompts.gddm import GeometricDefectDistillation
from gsclip.prompts.grouping import Grouping
from gsclip.prompts.hand_written import HandWrittenPrompts
from gsclip.prompts.pointnet2 import OBJECT_CHANNELS, PointNet2, load_pointnet2_sem_seg
from gsclip.prompts.text import AsymmetricPrompts
from gsclip.storage import load_module

PROMPTS_FILE = "prompts.safetensors"


class GeometryAwarePrompts(nn.Module):
    """PointNet++, shape prompt, defect prompt and learned context; every part but the context can be switched off.

    Args:
        clip: the frozen backbone (not registered as a sub-module: it is neither trained nor saved here).
        tokenizer: the backbone's tokenizer.
        shape_prompt: use t_s = LayerNorm(GELU(W F_e)).
        defect_prompt: use t_d of the GDDM.
        context_tokens: number of learned context tokens.
        deep_tokens: number of deep text tokens per layer.
        prototypes: l of the GDDM.
        outliers: k of the GDDM.
        defect_tokens: number of tokens of t_d.
    """

    def __init__(
        self,
        clip: ClipModel,
        tokenizer: Tokenizer,
        *,
        shape_prompt: bool,
        defect_prompt: bool,
        context_tokens: int,
        deep_tokens: int,
        prototypes: int,
        outliers: int,
        defect_tokens: int,
    ) -> None:
        super().__init__()
        width = clip.token_embedding.weight.shape[1]
        self.prompts = AsymmetricPrompts(clip, tokenizer, context=context_tokens, deep=deep_tokens)
        self.encoder = PointNet2() if shape_prompt or defect_prompt else None
        self.shape = (
            nn.Sequential(nn.Linear(OBJECT_CHANNELS, width), nn.GELU(), nn.LayerNorm(width)) if shape_prompt else None
        )
        self.defect = (
            GeometricDefectDistillation(width, prototypes=prototypes, outliers=outliers, tokens=defect_tokens)
            if defect_prompt
            else None
        )

    def forward(self, clip: ClipModel, grouping: Grouping) -> Float[Tensor, "b 2 d"]:
        """Unit text features of b clouds, given as a stacked grouping; channel 0 normal, 1 abnormal."""
        batch = len(grouping.cloud)
        if self.encoder is None:
            return self.prompts(clip, batch, None, None)
        features = self.encoder(grouping)
        shape = None if self.shape is None else self.shape(features.object)[:, None]
        defect = None if self.defect is None else self.defect(features.point)
        return self.prompts(clip, batch, shape, defect)


Prompts: TypeAlias = GeometryAwarePrompts | HandWrittenPrompts


def build_prompts(backbone: Backbone, stage1: Stage1Params) -> Prompts:
    """Build stage 1's module with fresh weights (seed it before)."""
    if stage1.prompts == "hand_written":
        return HandWrittenPrompts(backbone.clip, backbone.tokenizer, backbone.captions)
    return GeometryAwarePrompts(
        backbone.clip,
        backbone.tokenizer,
        shape_prompt=stage1.shape_prompt,
        defect_prompt=stage1.defect_prompt,
        context_tokens=stage1.context_tokens,
        deep_tokens=stage1.deep_tokens,
        prototypes=stage1.prototypes,
        outliers=stage1.outliers,
        defect_tokens=stage1.defect_tokens,
    )


def load_encoder(prompts: Prompts, stage1: Stage1Params) -> None:
    """Start PointNet++ from the checkpoint that the parameters name, if they name one and there is a PointNet++.

    Raises:
        InputError: see :func:`~gsclip.prompts.pointnet2.load_pointnet2_sem_seg`.
    """
    if stage1.pointnet_weights and isinstance(prompts, GeometryAwarePrompts) and prompts.encoder is not None:
        load_pointnet2_sem_seg(prompts.encoder, stage1.pointnet_weights, stage1.pointnet_sha256)


def load_prompts(folder: Path, backbone: Backbone, stage1: Stage1Params) -> Prompts:
    """Build stage 1's module with the weights in a folder.

    Raises:
        InputError: when the weights are missing or do not fit.
    """
    prompts = build_prompts(backbone, stage1)
    load_module(prompts, folder / PROMPTS_FILE)
    return prompts
