"""Hand-written prompts: the baseline that learns nothing (method, section 7).

The pair of text features is the mean over sentences about an object in order and about a damaged one. Every object
has the same pair.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from gsclip.features.types import ClipModel, Tokenizer
from gsclip.prompts.grouping import Grouping

STATES = (("{}.", "damaged {}."), ("flawless {}.", "{} with damage."))
"""Pairs of sentences, normal and abnormal, about a noun."""


class HandWrittenPrompts(nn.Module):
    """Stands in the place of :class:`~gsclip.prompts.geometry_prompts.GeometryAwarePrompts`; has no parameter.

    Args:
        clip: the frozen backbone.
        tokenizer: the backbone's tokenizer.
        captions: forms that put a noun as the backbone's training did, such as ``a photo of a {}``.
    """

    pair: Tensor

    def __init__(self, clip: ClipModel, tokenizer: Tokenizer, captions: tuple[str, ...]) -> None:
        super().__init__()
        sides = []
        for side in range(2):
            sentences = [caption.format(pair[side].format("object")) for caption in captions for pair in STATES]
            with torch.no_grad():
                features = functional.normalize(clip.encode_text(tokenizer(sentences)), dim=-1)
            sides.append(functional.normalize(features.mean(0), dim=-1))
        self.register_buffer("pair", torch.stack(sides), persistent=False)

    def forward(self, clip: ClipModel, grouping: Grouping) -> Float[Tensor, "b 2 d"]:
        """Unit text features of b clouds, given as a stacked grouping; channel 0 normal, 1 abnormal."""
        return self.pair.expand(len(grouping.cloud), -1, -1)
