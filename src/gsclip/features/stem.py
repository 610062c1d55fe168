"""A convolutional stem: what a small vision transformer puts in the place of its linear patch embedding.

A transformer that is trained on little data learns edges and textures of the surface far sooner from convolutions
than from patches (Xiao et al., "Early convolutions help transformers see better", NeurIPS 2021).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ConvolutionalStem(nn.Module):
    """Maps images to one vector per patch; every stage halves the resolution and adds residual blocks.

    Args:
        widths: channels of each stage; the patch is 2 to the power of their number pixels wide.
        blocks: residual blocks of each stage.
        width: channels that come out, the transformer's.
        normalised: put batch norms behind the convolutions, for training; :meth:`folded` takes them in.
    """

    def __init__(
        self, widths: Sequence[int], blocks: Sequence[int], width: int, *, normalised: bool = False
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        before = 3
        for channels, count in zip(widths, blocks, strict=True):
            stages += [_convolution(before, channels, normalised, stride=2), nn.ReLU()]
            stages += [_Residual(channels, normalised) for _ in range(count)]
            before = channels
        self.stages = nn.Sequential(*stages)
        self.project = nn.Conv2d(before, width, 1, bias=False)

    def forward(self, images: Float[Tensor, "i 3 h w"]) -> Float[Tensor, "i width rows columns"]:
        """Embed the patches of normalised images."""
        return self.project(self.stages(images))

    @torch.no_grad()
    def folded(self) -> ConvolutionalStem:
        """The same function, as in evaluation, without the batch norms: they are taken into the convolutions."""
        plain = copy.deepcopy(self).eval()
        for module in list(plain.modules()):
            for name, child in list(module.named_children()):
                layers = list(child) if isinstance(child, nn.Sequential) else []
                match layers:
                    case [nn.Conv2d() as convolution, nn.BatchNorm2d() as norm]:
                        setattr(module, name, nn.Sequential(fuse_conv_bn_eval(convolution, norm)))
        return plain


class _Residual(nn.Module):
    def __init__(self, channels: int, normalised: bool) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, normalised)
        self.second = _convolution(channels, channels, normalised)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.second(self.first(x).relu())).relu()


def _convolution(before: int, channels: int, normalised: bool, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(before, channels, 3, stride=stride, padding=1)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(channels)) if normalised else nn.Sequential(convolution)
