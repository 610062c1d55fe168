"""The visual encoder as it is used where nothing is learned: the same function as training's, in less time.

Against :func:`~gsclip.features.value_attention.encode_images`, whose result it gives but for the rounding:

- of the last block's original path only the class token is computed, since nothing else of it is used;
- matrix products run in oneDNN where the processor has AVX-512: its kernels use it on any such processor, those that
  torch takes by default on Intel's alone (on AMD's they take twice as long); without AVX-512 torch's are the faster;
- every image goes through all blocks on its own, so that its tokens stay in the cache of one core;
- QuickGELU's factor 1.702 is taken into the layer norm before and the sum behind.

The fast profile lets only the patches of the part through the blocks (:func:`~gsclip.features.images.part_patches`);
that is another function.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from gsclip.features.backbone import Backbone
from gsclip.features.types import VisualEncoder
from gsclip.features.value_attention import EncodedImages
from gsclip.parallel import side_by_side

QUICK_GELU = 1.702


def _types_of_onednn() -> set[torch.dtype]:
    """Precisions whose products oneDNN is asked for here."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return set()
    types = {torch.float32} if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else set()
    return types | ({torch.bfloat16} if torch.ops.mkldnn._is_mkldnn_bf16_supported() else set())


_ONEDNN_TYPES = _types_of_onednn()


def _by_onednn(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in _ONEDNN_TYPES


def linear(x: Float[Tensor, "*b i"], weight: Float[Tensor, "o i"], bias: Tensor | None = None) -> Tensor:
    """``functional.linear`` without gradients, by oneDNN where that is the faster."""
    if _by_onednn(x):
        # Both contiguous: of other strides there are only slow kernels.
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return functional.linear(x, weight, bias)


def bfloat16_is_fast() -> bool:
    """Whether the processor has instructions for products in bfloat16; without them they take longer."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class InferenceEncoder:
    """A visual encoder made ready for inference; it holds references to the encoder's weights, and few copies.

    Args:
        backbone: tells how images are normalised.
        visual: its open_clip ``VisionTransformer``, or a depth stream merged into one
            (:func:`~gsclip.streams.depth_lora.merge_depth_stream`).
        local_blocks: see :func:`~gsclip.features.value_attention.encode_images`.
        layers: see there.
        precision: of products; the sum of the blocks' outputs stays in float32.

    Raises:
        ValueError: when a layer lies outside the transformer.
    """

    def __init__(
        self,
        backbone: Backbone,
        visual: VisualEncoder,
        *,
        local_blocks: int,
        layers: tuple[int, ...],
        precision: torch.dtype = torch.float32,
    ) -> None:
        count = len(visual.transformer.resblocks)
        if not all(1 <= layer <= count for layer in layers):
            raise ValueError(f"layers {layers} must lie between 1 and {count}")
        self._backbone, self._visual = backbone, visual
        self._layers, self._precision = layers, precision
        self._first_local = count - local_blocks + 1
        # Convolutions take a sixth less with the channels side by side in memory.
        self._stem = copy.deepcopy(visual.conv1).to(dtype=precision, memory_format=torch.channels_last)
        self._projection = visual.proj.detach().T.contiguous()
        self._blocks = [_Block(block, precision) for block in visual.transformer.resblocks]

    @torch.no_grad()
    def __call__(
        self, images: Float[Tensor, "i 3 h w"], kept: Bool[Tensor, "i p"] | None = None
    ) -> Float[Tensor, "i t d"]:
        """Unit tokens of images in [0, 1], class token first; see :func:`~gsclip.features.encode.encode_views`.

        Args:
            images: any number.
            kept: patches of each image that go through the blocks, beside the class token; the others take no part,
                and their tokens are 0. ``None``: all.
        """
        normalised = self._backbone.normalise(images)

        def tokens(place: int) -> Float[Tensor, "1 t d"]:
            image = normalised[place : place + 1]
            if kept is None:
                return self._unit_tokens(self.encode(image))
            chosen = with_class_token(kept[place])
            some = self._unit_tokens(self.encode(image, chosen))
            all_places = some.new_zeros(1, len(chosen), some.shape[-1])
            all_places[:, chosen] = some
            return all_places

        return torch.cat(side_by_side(tokens, range(len(images))))

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "i 3 h w"], chosen: Bool[Tensor, " t"] | None = None) -> EncodedImages:
        """What :func:`~gsclip.features.value_attention.encode_images` gives, of normalised images.

        Args:
            images: any number.
            chosen: tokens that go through the blocks, the same of every image; ``None``: all.
        """
        visual = self._visual
        tokens = self._embed(images)
        if chosen is not None:
            tokens = tokens[:, chosen]
        local: Tensor | None = None
        taken: dict[int, Tensor] = {}
        for number, block in enumerate(self._blocks, start=1):
            last = number == len(self._blocks)
            if number < self._first_local or (last and number not in self._layers):
                tokens, _ = block(tokens, local=False, class_alone=last and self._first_local <= number)
            else:
                before = tokens
                tokens, attended = block(tokens, local=True, class_alone=last)
                local = (before if local is None else local) + attended
            if number in self._layers:
                taken[number] = tokens if local is None else local
        embedded = torch.stack([visual.ln_post(taken[layer][:, 1:]) for layer in self._layers], 1)
        class_token = linear(visual.ln_post(tokens[:, 0]), self._projection)
        return EncodedImages(class_token, linear(embedded, self._projection))

    def _embed(self, images: Tensor) -> Tensor:
        """(i, t, width) float32; open_clip's ``_embeds`` with this precision's stem."""
        visual = self._visual
        images = images.to(dtype=self._precision, memory_format=torch.channels_last)
        patches = self._stem(images).flatten(2).transpose(1, 2).float()
        tokens = torch.cat([visual.class_embedding.expand(len(patches), 1, -1), patches], 1)
        return visual.ln_pre(visual.patch_dropout(tokens + visual.positional_embedding))

    @staticmethod
    def _unit_tokens(encoded: EncodedImages) -> Tensor:
        patches = functional.normalize(encoded.patch_tokens, dim=-1).mean(1)
        return functional.normalize(torch.cat([encoded.class_token[:, None], patches], 1), dim=-1)


def with_class_token(kept: Bool[Tensor, " p"]) -> Bool[Tensor, " t"]:
    """Which tokens stay where these patches do: the class token, which comes first, always does."""
    return torch.cat([kept.new_ones(1), kept])


class _Block:
    """One block of the transformer; see the head of this module."""

    def __init__(self, block: Any, precision: torch.dtype) -> None:  # noqa: ANN401
        attention, feed_forward = block.attn, block.mlp
        self._heads = attention.num_heads
        self._precision = precision
        self._norms = block.ln_1, block.ln_2
        self._scales = block.ls_1, block.ls_2
        self._activation = feed_forward.gelu
        self._quick = type(feed_forward.gelu).__name__ == "QuickGELU"
        self._in = _weights(attention.in_proj_weight, attention.in_proj_bias, precision)
        self._out = _weights(attention.out_proj.weight, attention.out_proj.bias, precision)
        self._up = _weights(feed_forward.c_fc.weight, feed_forward.c_fc.bias, precision)
        self._down = _weights(feed_forward.c_proj.weight, feed_forward.c_proj.bias, precision)
        if self._quick:  # x sigmoid(1.702 x) = silu(1.702 x) / 1.702
            self._up = self._up[0], self._up[1] * QUICK_GELU
            self._down = self._down[0], self._down[1] * QUICK_GELU

    def __call__(self, tokens: Tensor, *, local: bool, class_alone: bool) -> tuple[Tensor, Tensor]:
        """Tokens after the original path, all or the class token alone, and what the local path adds: 0 without."""
        normed = self._norms[0](tokens).to(self._precision)
        width = tokens.shape[-1]
        if class_alone:
            query = linear(normed[:, :1], self._in[0][:width], self._in[1][:width])
            packed = linear(normed, self._in[0][width:], self._in[1][width:])
            key, value = packed.chunk(2, -1)
            tokens = tokens[:, :1]
        else:
            query, key, value = linear(normed, *self._in).chunk(3, -1)
        original = self._scales[0](linear(self._attend(query, key, value), *self._out))
        tokens = self._feed_forward(tokens + original)
        if not local:
            return tokens, tokens.new_zeros(())
        return tokens, self._scales[0](linear(self._attend(value, value, value), *self._out))

    def _feed_forward(self, tokens: Tensor) -> Tensor:
        norm = self._norms[1]
        if not self._quick:
            hidden = self._activation(linear(norm(tokens).to(self._precision), *self._up))
            return tokens + self._scales[1](linear(hidden, *self._down))
        normed = functional.layer_norm(
            tokens, norm.normalized_shape, norm.weight * QUICK_GELU, norm.bias * QUICK_GELU, norm.eps
        )
        hidden = functional.silu(linear(normed.to(self._precision), *self._up), inplace=True)
        return torch.add(tokens, self._scales[1](linear(hidden, *self._down)), alpha=1 / QUICK_GELU)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(i, q, width) attention of every head."""
        images, _, width = query.shape
        depth = width // self._heads
        if not _by_onednn(query):
            heads = (part.unflatten(-1, (self._heads, depth)).transpose(1, 2) for part in (query, key, value))
            return functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        output = query.new_empty(query.shape)
        query = query * depth**-0.5
        for image in range(images):
            for start in range(0, width, depth):
                part = (image, slice(None), slice(start, start + depth))
                weights = linear(query[part].contiguous(), key[part].contiguous()).softmax(-1)
                output[part] = linear(weights, value[part].T.contiguous())
        return output


def _weights(weight: Tensor, bias: Tensor | None, precision: torch.dtype) -> tuple[Tensor, Tensor]:
    zeros = torch.zeros(len(weight), device=weight.device) if bias is None else bias.detach()
    return weight.detach().to(precision), zeros.to(precision)
