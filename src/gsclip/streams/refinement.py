"""SRM, the Synergistic Refinement Module: both streams refine each other, token by token (method, section 5)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gsclip.features.inference import linear, with_class_token


class SynergisticRefinement(nn.Module):
    """Fuses the tokens of the rendered and of the depth stream of every view.

    S = f1(K^R) f2(K^D)^T; S normalised over its rows lets rendered tokens read the depth stream, and over its columns
    depth tokens the rendered stream (E^R, E^D); G = MLP([E^R, E^D]). The paper is silent on residuals and
    initialisation. Here E adds what was read to the stream's own tokens, and G adds the MLP's small output to the
    mean of both streams: before training G keeps the alignment with text that the backbone has, and every parameter
    has a gradient from the first step.

    Args:
        dimension: d.
    """

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.rendered_key = nn.Linear(dimension, dimension, bias=False)  # f1
        self.depth_key = nn.Linear(dimension, dimension, bias=False)  # f2
        small = nn.Linear(dimension, dimension, bias=False)
        nn.init.normal_(small.weight, std=0.1 * dimension**-0.5)
        self.merge = nn.Sequential(nn.Linear(2 * dimension, dimension), nn.GELU(), small)

    def forward(
        self, rendered: Float[Tensor, "b v t d"], depth: Float[Tensor, "b v t d"]
    ) -> Float[Tensor, "b v t d"]:
        """Refine unit tokens (class token first) of both streams into unit tokens G."""
        scale = rendered.shape[-1] ** 0.5
        keys = self.rendered_key(rendered), self.depth_key(depth)
        similarity = keys[0] @ keys[1].transpose(-1, -2) * scale
        refined_rendered = rendered + similarity.softmax(-1) @ depth
        refined_depth = depth + similarity.softmax(-2).transpose(-1, -2) @ rendered
        merged = (rendered + depth) / 2 + self.merge(torch.cat([refined_rendered, refined_depth], -1))
        return nn.functional.normalize(merged, dim=-1)

    @torch.no_grad()
    def refine(
        self,
        rendered: Float[Tensor, "v t d"],
        depth: Float[Tensor, "v t d"],
        kept: Bool[Tensor, "v p"] | None = None,
    ) -> Float[Tensor, "v t d"]:
        """What :meth:`forward` gives for one object, one view after the other: for inference.

        Args:
            rendered: unit tokens, class token first.
            depth: the same of the depth stream.
            kept: patches that the streams have encoded; the others are not read, and their tokens G are 0.
        """
        if kept is not None:
            tokens = torch.zeros_like(rendered)
            for place, patches in enumerate(kept):
                chosen = with_class_token(patches)
                tokens[place, chosen] = self.refine(rendered[place, chosen][None], depth[place, chosen][None])[0]
            return tokens
        scale = rendered.shape[-1] ** 0.5
        weights = dict(self.merge.named_parameters())
        refined = []
        for one, other in zip(rendered, depth, strict=True):
            keys = linear(one, self.rendered_key.weight) * scale, linear(other, self.depth_key.weight)
            # Transposed, the softmax over columns is one over rows: a third of the time.
            read = linear(linear(*keys).softmax(-1), other.T.contiguous())
            written = linear(linear(*keys[::-1]).softmax(-1), one.T.contiguous())
            hidden = linear(torch.cat([one + read, other + written], -1), weights["0.weight"], weights["0.bias"])
            refined.append((one + other) / 2 + linear(nn.functional.gelu(hidden), weights["2.weight"]))
        return nn.functional.normalize(torch.stack(refined), dim=-1)
