"""Tokens of the views of one object: what is kept of the frozen stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from gsclip.features.backbone import Backbone
from gsclip.features.images import rendered_images
from gsclip.features.inference import InferenceEncoder
from gsclip.features.types import RenderedEncoding, VisualEncoder
from gsclip.features.value_attention import encode_images
from gsclip.views.views import Views


@dataclass(frozen=True)
class ViewTokens:
    """Unit tokens of the rendered views of one object.

    Attributes:
        tokens: (v, t, d) float16, class token first, then patches row-major.
        kept: (v, t - 1) bool, the patches that were encoded, the tokens of the others being 0; ``None``: all.
    """

    tokens: np.ndarray
    kept: np.ndarray | None = None

    def select(self, places: Sequence[int]) -> ViewTokens:
        """Those of some of the views."""
        chosen = list(places)
        return ViewTokens(self.tokens[chosen], None if self.kept is None else self.kept[chosen])


def encode_views(
    backbone: Backbone,
    visual: VisualEncoder,
    images: Float[Tensor, "i 3 h w"],
    *,
    local_blocks: int,
    local_layers: tuple[int, ...],
) -> Float[Tensor, "i t d"]:
    """Unit tokens of a flat batch of images.

    Args:
        backbone: tells how images are normalised.
        visual: its visual encoder, or the depth stream made from it.
        images: in [0, 1].
        local_blocks: see :func:`~gsclip.features.value_attention.encode_images`.
        local_layers: patch tokens of these blocks are made unit vectors and averaged.
    """
    encoded = encode_images(visual, backbone.normalise(images), local_blocks=local_blocks, layers=local_layers)
    patches = functional.normalize(encoded.patch_tokens, dim=-1).mean(1)
    return functional.normalize(torch.cat([encoded.class_token[:, None], patches], 1), dim=-1)


def rendered_tokens(
    encoder: InferenceEncoder, views: Views, encoding: RenderedEncoding, kept: Bool[Tensor, "v p"] | None = None
) -> ViewTokens:
    """Tokens of the frozen rendered stream, rounded to float16 as they are stored; of ``kept`` patches alone."""
    tokens = encoder(rendered_images(views, encoding), kept).to(torch.float16).numpy()
    return ViewTokens(tokens, None if kept is None else kept.numpy())
