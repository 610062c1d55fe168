"""A convolutional stem: what a small vision transformer puts in the place of its linear patch embedding.

A transformer that is trained on little data learns edges and textures of the surface far sooner from convolutions
than from patches (Xiao et al., "Early convolutions help transformers see better", NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn


class ConvolutionalStem(nn.Module):
    """Maps images to one vector per patch; every stage halves the resolution and adds residual blocks.

    Without normalisation, so that what a patch becomes depends on its surroundings alone, in a crop as in the whole
    image; the transformer normalises what comes out.

    Args:
        widths: channels of each stage; the patch is 2 to the power of their number pixels wide.
        blocks: residual blocks of each stage.
        width: channels that come out, the transformer's.
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int], width: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        before = 3
        for channels, count in zip(widths, blocks, strict=True):
            stages += [nn.Conv2d(before, channels, 3, stride=2, padding=1), nn.ReLU()]
            stages += [_Residual(channels) for _ in range(count)]
            before = channels
        self.stages = nn.Sequential(*stages)
        self.project = nn.Conv2d(before, width, 1, bias=False)

    def forward(self, images: Float[Tensor, "i 3 h w"]) -> Float[Tensor, "i width rows columns"]:
        """Embed the patches of normalised images."""
        return self.project(self.stages(images))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)  # starts as the identity: what stands in for a normalisation

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x).relu()).relu()
