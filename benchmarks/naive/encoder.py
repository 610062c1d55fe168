"""Both encoders as CLIP's and its followers' code runs them: all of the context, attention weights written out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gsclip.features.backbone import Backbone
from gsclip.features.types import ClipModel, VisualEncoder
from gsclip.prompts.geometry_prompts import GeometryAwarePrompts
from gsclip.prompts.grouping import Grouping
from gsclip.prompts.text import encode_prompts

CONTEXT = 77  # of CLIP's text encoder


def naive_tokens(
    backbone: Backbone, visual: VisualEncoder, images: Tensor, *, local_blocks: int, local_layers: tuple[int, ...]
) -> Tensor:
    """Unit tokens (i, t, d) of images (i, 3, h, w), as :func:`gsclip.features.encode.encode_views`."""
    tokens = visual._embeds(backbone.normalise(images))
    blocks = visual.transformer.resblocks
    local: Tensor | None = None
    taken = []
    for number, block in enumerate(blocks, start=1):
        if number > len(blocks) - local_blocks:
            local = (tokens if local is None else local) + block.ls_1(_value_attention(block, tokens))
        tokens = block(tokens)
        if number in local_layers:
            taken.append(visual.ln_post((tokens if local is None else local)[:, 1:]) @ visual.proj)
    patches = torch.stack([functional.normalize(layer, dim=-1) for layer in taken]).mean(0)
    class_token = visual.ln_post(tokens[:, 0]) @ visual.proj
    return functional.normalize(torch.cat([class_token[:, None], patches], 1), dim=-1)


def _value_attention(block: torch.nn.Module, tokens: Tensor) -> Tensor:
    """Value-value attention, its weights (i, heads, t, t) written out; projects queries and keys too and drops them."""
    attention = block.attn
    images, count, width = tokens.shape
    packed = functional.linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
    value = packed.chunk(3, dim=-1)[2].view(images, count, attention.num_heads, -1).transpose(1, 2)
    weights = (value @ value.transpose(-2, -1) * value.shape[-1] ** -0.5).softmax(-1)
    return attention.out_proj((weights @ value).transpose(1, 2).reshape(images, count, width))


def naive_text_features(prompts: GeometryAwarePrompts, clip: ClipModel, grouping: Grouping) -> Tensor:
    """Unit text features (b, 2, d) of a stacked grouping, as the prompts' own forward pass; padded to the context."""
    batch = len(grouping.cloud)
    shape = defect = None
    if prompts.encoder is not None:
        features = prompts.encoder(grouping)
        shape = None if prompts.shape is None else prompts.shape(features.object)[:, None]
        defect = None if prompts.defect is None else prompts.defect(features.point)
    own = prompts.prompts
    sides = []
    for context, words, geometry in (
        (own.normal_context, own.normal_words, (shape,)),
        (own.abnormal_context, own.abnormal_words, (shape, defect)),
    ):
        parts = [own.start, context, *(part for part in geometry if part is not None), words]
        embedded = torch.cat([part.expand(batch, -1, -1) for part in parts], 1)
        ends = torch.full((batch,), embedded.shape[1] - 1)
        padded = functional.pad(embedded, (0, 0, 0, CONTEXT - embedded.shape[1]))
        sides.append(encode_prompts(clip, padded, ends, own.deep_tokens))
    return functional.normalize(torch.stack(sides, 1), dim=-1)
