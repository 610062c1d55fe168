"""Asymmetric prompts and the frozen text encoder with deep tokens (method, section 4).

A prompt is [start, t_l, t_s, (t_d), words, end]: learned context t_l, shape token t_s, and in the abnormal prompt
alone the defect tokens t_d. The words stay what they are: "object." and "damaged object.".
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from gsclip.features.types import ClipModel, Tokenizer

NORMAL_WORDS = "object."
ABNORMAL_WORDS = "damaged object."
FIRST_DEEP_LAYER = 2
LAST_DEEP_LAYER = 9


def deep_layers(text_layers: int) -> int:
    """Count the layers that take deep tokens: layers 2 to 9, as far as the text encoder has them."""
    return max(0, min(LAST_DEEP_LAYER, text_layers) - FIRST_DEEP_LAYER + 1)


def encode_prompts(
    clip: ClipModel,
    prompts: Float[Tensor, "i context width"],
    ends: Int[Tensor, "i"],
    deep_tokens: Float[Tensor, "layer deep width"],
) -> Float[Tensor, "i d"]:
    """Encode embedded prompts with the text tower of an open_clip model.

    Args:
        clip: open_clip ``CLIP``; frozen or not.
        prompts: token embeddings without positions, start token first.
        ends: place of the end token of each prompt.
        deep_tokens: for layer 2 and the following ones, the tokens that replace those right behind the start token.

    Returns:
        Text features, not normalised.
    """
    count, context, _ = prompts.shape
    tokens = prompts + clip.positional_embedding[:context]
    mask = clip.attn_mask[:context, :context]
    for number, block in enumerate(clip.transformer.resblocks, start=1):
        place = number - FIRST_DEEP_LAYER
        if 0 <= place < len(deep_tokens):
            deep = deep_tokens[place].expand(count, -1, -1)
            tokens = torch.cat([tokens[:, :1], deep, tokens[:, 1 + deep.shape[1] :]], 1)
        tokens = block(tokens, attn_mask=mask)
    last = clip.ln_final(tokens[torch.arange(count, device=tokens.device), ends])
    return last @ clip.text_projection


class AsymmetricPrompts(nn.Module):
    """Learned context and deep tokens; assembles and encodes the two prompts of every object.

    Args:
        clip: the backbone, read for the embeddings of the words (it is not registered as a sub-module).
        tokenizer: maps a list of strings to (i, 77) token ids, start token first, end token = largest id.
        context: number of learned context tokens t_l of each prompt.
        deep: number of deep tokens per layer.
    """

    start: Tensor
    normal_words: Tensor
    abnormal_words: Tensor

    def __init__(self, clip: ClipModel, tokenizer: Tokenizer, *, context: int = 12, deep: int = 4) -> None:
        super().__init__()
        if deep > context:
            raise ValueError(f"{deep} deep tokens do not fit into {context} context tokens")
        width = clip.token_embedding.weight.shape[1]
        ids = tokenizer([NORMAL_WORDS, ABNORMAL_WORDS])
        with torch.no_grad():
            embedded = clip.token_embedding(ids)
        # Words and end token of each prompt; fixed, and made again from the backbone rather than stored.
        ends = ids.argmax(-1)
        self.register_buffer("start", embedded[:1, 0].clone(), persistent=False)
        self.register_buffer("normal_words", embedded[0, 1 : ends[0] + 1].clone(), persistent=False)
        self.register_buffer("abnormal_words", embedded[1, 1 : ends[1] + 1].clone(), persistent=False)
        self.normal_context = nn.Parameter(torch.randn(context, width) * 0.02)
        self.abnormal_context = nn.Parameter(torch.randn(context, width) * 0.02)
        layers = deep_layers(len(clip.transformer.resblocks))
        self.deep_tokens = nn.Parameter(torch.randn(layers, deep, width) * 0.02)

    def forward(
        self,
        clip: ClipModel,
        batch: int,
        shape: Float[Tensor, "b 1 width"] | None,
        defect: Float[Tensor, "b tokens width"] | None,
    ) -> Float[Tensor, "b 2 d"]:
        """Unit text features of the normal and the abnormal prompt of every object.

        Args:
            clip: the backbone with the frozen text encoder.
            batch: b; with neither shape nor defect tokens all objects share their prompts.
            shape: shape prompt t_s, or ``None`` when it is switched off.
            defect: defect prompt t_d, or ``None`` when it is switched off.
        """
        normal = self._assemble(batch, self.normal_context, self.normal_words, shape)
        abnormal = self._assemble(batch, self.abnormal_context, self.abnormal_words, shape, defect)
        features = torch.stack([self._encode(clip, normal), self._encode(clip, abnormal)], 1)
        return functional.normalize(features, dim=-1)

    def _assemble(self, batch: int, context: Tensor, words: Tensor, *geometry: Tensor | None) -> Tensor:
        def repeat(tokens: Tensor) -> Tensor:
            return tokens.expand(batch, -1, -1)

        parts = [repeat(self.start), repeat(context), *(part for part in geometry if part is not None), repeat(words)]
        return torch.cat(parts, 1)

    def _encode(self, clip: ClipModel, prompts: Tensor) -> Tensor:
        # Causal attention: what would follow the end token changes nothing, so the padding is left away.
        ends = torch.full((len(prompts),), prompts.shape[1] - 1, device=prompts.device)
        return encode_prompts(clip, prompts, ends, self.deep_tokens)
