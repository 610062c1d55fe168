"""The architecture of the embedded backbone: a small CLIP, with a convolutional stem in the vision transformer.

It computes what open_clip's model of the same configuration does, bit for bit, under the same names of attributes and
weights: all else in the package takes either. It is here because open_clip's import takes seconds (torchvision,
transformers, timm), and every call of ``gsclip score`` would wait for it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from gsclip.features.stem import ConvolutionalStem

MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Channel means that images are normalised with, those of CLIP, and"""
STD = (0.26862954, 0.26130258, 0.27577711)
"""standard deviations."""
KNOWN_TEXTS: Mapping[str, tuple[int, ...]] = {
    "object.": (49406, 14115, 269, 49407),
    "damaged object.": (49406, 13568, 14115, 269, 49407),
}
"""Tokens of the words of learned prompts (:mod:`gsclip.prompts.text`): start, words, end."""


class LayerNorm(nn.LayerNorm):
    """Gives back the type that comes in, under automatic mixed precision too."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).to(x.dtype)


class QuickGELU(nn.Module):
    """CLIP's activation."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """Attention and feed-forward network, each behind a layer norm and beside a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ls_1 = nn.Identity()
        self.ln_2 = LayerNorm(width)
        layers = {"c_fc": nn.Linear(width, 4 * width), "gelu": QuickGELU(), "c_proj": nn.Linear(4 * width, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ls_2 = nn.Identity()

    def forward(self, x: Float[Tensor, "i t width"], attn_mask: Tensor | None = None) -> Float[Tensor, "i t width"]:
        """Tokens after the block."""
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False, attn_mask=attn_mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """Blocks, one after the other.

    Attributes:
        grad_checkpointing: see :func:`~gsclip.features.value_attention.encode_embedded`.
    """

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.resblocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])

    def forward(self, x: Float[Tensor, "i t width"], attn_mask: Tensor | None = None) -> Float[Tensor, "i t width"]:
        """Tokens after all blocks."""
        for block in self.resblocks:
            x = block(x, attn_mask=attn_mask)
        return x


class VisionTransformer(nn.Module):
    """The visual encoder.

    Args:
        embed_dim: d, of the joint embedding.
        image_size: side of the images in pixels.
        patch_size: side of the patches in pixels.
        width: of the tokens.
        head_width: of the heads of the attention.
        layers: number of blocks.
    """

    def __init__(
        self, embed_dim: int, *, image_size: int, patch_size: int, width: int, head_width: int, layers: int
    ) -> None:
        super().__init__()
        self.image_size, self.patch_size = (image_size, image_size), (patch_size, patch_size)
        self.grid_size = (image_size // patch_size, image_size // patch_size)
        # Its place is the stem's; made all the same: the weights that follow are then those that open_clip begins with.
        self.conv1: nn.Module = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=False)
        scale = width**-0.5
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(math.prod(self.grid_size) + 1, width))
        self.patch_dropout = nn.Identity()
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, width // head_width, layers)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, embed_dim))

    def _embeds(self, images: Float[Tensor, "i 3 h w"]) -> Float[Tensor, "i t width"]:
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        # The shape, not len: an export would take that for a constant.
        class_token = self.class_embedding.expand(patches.shape[0], 1, -1).to(patches.dtype)
        tokens = torch.cat([class_token, patches], 1) + self.positional_embedding.to(patches.dtype)
        return self.ln_pre(tokens)

    def forward(self, images: Float[Tensor, "i 3 h w"]) -> Float[Tensor, "i d"]:
        """Embeddings of normalised images."""
        return self.ln_post(self.transformer(self._embeds(images)))[:, 0] @ self.proj


class EmbeddedClip(nn.Module):
    """Visual encoder and text encoder, freshly initialised as open_clip does it.

    Args:
        embed_dim: d, of the joint embedding.
        vision_cfg: of :class:`VisionTransformer`.
        text_cfg: ``context_length``, ``vocab_size``, ``width``, ``heads``, ``layers``.
        stem: of :class:`~gsclip.features.stem.ConvolutionalStem`: widths, blocks.
        normalised: with batch norms in the stem, for training.
    """

    attn_mask: Tensor

    def __init__(
        self,
        embed_dim: int,
        vision_cfg: Mapping[str, int],
        text_cfg: Mapping[str, int],
        stem: Mapping[str, Sequence[int]],
        *,
        normalised: bool = False,
    ) -> None:
        super().__init__()
        self.visual = VisionTransformer(embed_dim, **vision_cfg)
        context, width, layers = (text_cfg[name] for name in ("context_length", "width", "layers"))
        embedding = nn.Embedding(text_cfg["vocab_size"], width)
        self.transformer = Transformer(width, text_cfg["heads"], layers)
        self.token_embedding = embedding  # made first and named second, as by open_clip
        self.positional_embedding = nn.Parameter(torch.empty(context, width))
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        mask = torch.full((context, context), -math.inf).triu_(1)
        self.register_buffer("attn_mask", mask, persistent=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self._initialise_text(width, layers)
        self.visual.conv1 = ConvolutionalStem(**stem, width=vision_cfg["width"], normalised=normalised)

    def _initialise_text(self, width: int, layers: int) -> None:
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        block: Any  # of class Block, which the list does not tell
        for block in self.transformer.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=(2 * layers * width) ** -0.5)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=(2 * layers * width) ** -0.5)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    def encode_image(self, images: Float[Tensor, "i 3 h w"]) -> Float[Tensor, "i d"]:
        """Embeddings of normalised images."""
        return self.visual(images)

    def encode_text(self, ids: Int[Tensor, "i context"]) -> Float[Tensor, "i d"]:
        """Embeddings of texts; the end token has the largest id."""
        tokens = self.token_embedding(ids) + self.positional_embedding
        tokens = self.ln_final(self.transformer(tokens, attn_mask=self.attn_mask))
        return tokens[torch.arange(len(ids), device=ids.device), ids.argmax(-1)] @ self.text_projection


class EmbeddedTokenizer:
    """Maps texts to (i, context) token ids as open_clip's does, which is loaded for unknown texts alone.

    Args:
        context: longest text in tokens.
    """

    def __init__(self, context: int) -> None:
        self._context = context
        self._full: Any = None

    def __call__(self, texts: str | Sequence[str]) -> Int[Tensor, "i context"]:
        """Token ids, padded with zeros."""
        texts = [texts] if isinstance(texts, str) else texts
        if self._full is None and all(text in KNOWN_TEXTS for text in texts):
            ids = torch.zeros(len(texts), self._context, dtype=torch.long)
            for row, text in zip(ids, texts, strict=True):
                row[: len(KNOWN_TEXTS[text])] = torch.tensor(KNOWN_TEXTS[text])
            return ids
        if self._full is None:
            from open_clip.tokenizer import SimpleTokenizer

            self._full = SimpleTokenizer(context_length=self._context)
        return self._full(list(texts))
