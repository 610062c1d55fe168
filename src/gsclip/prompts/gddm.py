"""GDDM, the Geometric Defect Distillation Module: the points least like any normal prototype become a prompt.

Method, section 4. Prototypes are learned; the outlier score of a point is its distance to the nearest of them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gsclip.prompts.pointnet2 import POINT_CHANNELS

HEADS = 4


class GeometricDefectDistillation(nn.Module):
    """Distils (b, n, 128) point features into (b, tokens, width) defect prompt tokens.

    Args:
        width: width of the text tokens.
        prototypes: l, number of learnable normal prototypes.
        outliers: k, number of most deviating points that are kept.
        tokens: number of defect tokens: the refined tokens of that many most deviating points.
    """

    def __init__(self, width: int, *, prototypes: int = 32, outliers: int = 12, tokens: int = 1) -> None:
        super().__init__()
        if not 1 <= tokens <= outliers:
            raise ValueError(f"{tokens} defect tokens cannot be taken from {outliers} outliers")
        self.outliers = outliers
        self.tokens = tokens
        self.prototypes = nn.Parameter(torch.randn(prototypes, POINT_CHANNELS) * 0.02)
        self.project = nn.Linear(POINT_CHANNELS, width)
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.feed_forward = nn.Linear(width, width)

    def outlier_scores(self, features: Float[Tensor, "b n 128"]) -> Float[Tensor, "b n"]:
        """s_i = 1 - max_j cos(f_i, p_j), in [0, 2]."""
        similarity = functional.normalize(features, dim=-1) @ functional.normalize(self.prototypes, dim=-1).T
        return 1 - similarity.amax(-1)

    def forward(self, features: Float[Tensor, "b n 128"]) -> Float[Tensor, "b tokens width"]:
        """Defect prompt t_d of every cloud."""
        scores, chosen = self.outlier_scores(features).topk(self.outliers, dim=1)
        kept = features.gather(1, chosen[..., None].expand(-1, -1, features.shape[-1]))
        # A factor of one: choosing alone would leave the prototypes without a gradient.
        kept = kept * (1 + scores - scores.detach())[..., None]
        projected = self.project(kept)
        attended, _ = self.attention(projected, projected, projected, need_weights=False)
        refined = self.norm(projected + attended)
        refined = refined + functional.gelu(self.feed_forward(refined))
        return refined[:, : self.tokens]
