"""Local features by value-value attention: the second path through a vision transformer (method, section 3).

CLIP's own attention mixes distant patches, so its patch tokens localise badly. In each of the last blocks a local
path runs beside the original one: its queries and keys are the values, and its residual takes the attention output
only, no MLP. The original path is untouched and gives the class token.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from gsclip.features.types import VisualEncoder


@dataclass(frozen=True)
class EncodedImages:
    """Embedded tokens of a flat batch of images, not normalised.

    Attributes:
        class_token: (i, d) from the original path.
        patch_tokens: (i, layer, p, d) from the local path, one entry per requested layer, in their order.
    """

    class_token: Float[Tensor, "i d"]
    patch_tokens: Float[Tensor, "i layer p d"]


def encode_images(
    visual: VisualEncoder, images: Float[Tensor, "i 3 h w"], *, local_blocks: int, layers: tuple[int, ...]
) -> EncodedImages:
    """Run an open_clip vision transformer with its local path.

    Args:
        visual: open_clip ``VisionTransformer`` (LoRA may be injected into its MLPs).
        images: normalised as the backbone asks for.
        local_blocks: how many of the last blocks run the local path too (19 of 24 for ViT-L/14).
        layers: blocks, counted from 1, after which patch tokens are taken.

    Returns:
        Tokens after ``ln_post`` and ``proj``.

    Raises:
        ValueError: when a layer lies outside the transformer.
    """
    return encode_embedded(visual, visual._embeds(images), local_blocks=local_blocks, layers=layers)


def encode_embedded(
    visual: VisualEncoder, tokens: Float[Tensor, "i t width"], *, local_blocks: int, layers: tuple[int, ...]
) -> EncodedImages:
    """Run the blocks on tokens that are embedded already, class token first; see :func:`encode_images`.

    Where open_clip's ``transformer.grad_checkpointing`` is set, the backward pass computes each block anew instead of
    keeping what is inside it (Chen et al., arXiv 1604.06174): the same gradients in a fraction of the memory.
    """
    blocks = visual.transformer.resblocks
    if not all(1 <= layer <= len(blocks) for layer in layers):
        raise ValueError(f"layers {layers} must lie between 1 and {len(blocks)}")
    recompute = torch.is_grad_enabled() and visual.transformer.grad_checkpointing
    local: Tensor | None = None
    taken: dict[int, Tensor] = {}
    for number, block in enumerate(blocks, start=1):
        step: Callable[..., tuple[Tensor, Tensor | None]] = _original_path
        if number > len(blocks) - local_blocks:
            step = functools.partial(_both_paths, class_alone=number == len(blocks))
        if recompute:
            tokens, local = checkpoint(step, block, tokens, local, use_reentrant=False)
        else:
            tokens, local = step(block, tokens, local)
        if number in layers:
            taken[number] = tokens if local is None else local
    embedded = torch.stack([visual.ln_post(taken[layer][:, 1:]) for layer in layers], 1) @ visual.proj
    return EncodedImages(visual.ln_post(tokens[:, 0]) @ visual.proj, embedded)


def _original_path(block: Any, tokens: Tensor, local: Tensor | None) -> tuple[Tensor, Tensor | None]:  # noqa: ANN401
    """A block without local path: what the block itself does, on whole batches of contiguous tokens."""
    original, _ = _attentions(block.attn, block.ln_1(tokens), value_value=False)
    return _rest(block, tokens, original), local


def _both_paths(
    block: Any,  # noqa: ANN401
    tokens: Tensor,
    local: Tensor | None,
    *,
    class_alone: bool,
) -> tuple[Tensor, Tensor]:
    """A block with local path, which begins with its tokens where there is none yet.

    Behind the last block nothing of the original path is used but the class token, which is computed alone.
    """
    count = 1 if class_alone else None
    original, value_value = _attentions(block.attn, block.ln_1(tokens), value_value=True, queries=count)
    local = (tokens if local is None else local) + block.ls_1(value_value)
    return _rest(block, tokens[:, :count], original), local


def _rest(block: Any, tokens: Tensor, attended: Tensor) -> Tensor:  # noqa: ANN401
    tokens = tokens + block.ls_1(attended)
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def _attentions(
    attention: nn.MultiheadAttention, tokens: Tensor, *, value_value: bool, queries: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Outputs (i, t, width) of the original attention and of the value-value attention, sharing all weights.

    ``nn.MultiheadAttention`` would do the former on transposed tokens, at several times the cost on a CPU.

    Args:
        attention: of the block.
        tokens: (i, t, width), normed.
        value_value: whether the latter is asked for.
        queries: the former of so many of the first tokens alone; ``None``: of all.
    """
    images, _, width = tokens.shape
    weight, bias = attention.in_proj_weight, attention.in_proj_bias

    def heads(packed: Tensor) -> Tensor:
        return packed.view(images, -1, attention.num_heads, width // attention.num_heads).transpose(1, 2)

    if queries is None:
        query, key, value = map(heads, functional.linear(tokens, weight, bias).chunk(3, dim=-1))
    else:
        query = heads(functional.linear(tokens[:, :queries], weight[:width], bias[:width]))
        key, value = map(heads, functional.linear(tokens, weight[width:], bias[width:]).chunk(2, dim=-1))

    def output(first: Tensor, second: Tensor) -> Tensor:
        attended = functional.scaled_dot_product_attention(first, second, value)
        return attention.out_proj(attended.transpose(1, 2).flatten(2))

    return output(query, key), output(value, value) if value_value else None
