"""From maps of views back to the points (method, section 6)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def back_project(
    maps: Float[Tensor, "v *c h w"], pixels: Int[Tensor, "v n 2"], visible: Bool[Tensor, "v n"]
) -> tuple[Float[Tensor, "*c n"], Bool[Tensor, " n"]]:
    """Average the map values of every point over the views in which it is visible.

    Args:
        maps: one object's maps.
        pixels: (row, column) of every point in every view.
        visible: whether the point is seen there.

    Returns:
        The mean of each point and whether any view sees it; points that none sees get 0.
    """
    views = torch.arange(len(maps), device=maps.device)[:, None]
    rows, columns = pixels[..., 0].long(), pixels[..., 1].long()
    channels_last = maps.movedim((-2, -1), (1, 2)) if maps.dim() == 4 else maps
    values = channels_last[views, rows, columns]
    weight = visible.to(values.dtype)
    if values.dim() == 3:
        weight = weight[..., None]
    mean = (values * weight).sum(0) / weight.sum(0).clamp_min(1)
    return (mean.movedim(-1, 0) if mean.dim() == 2 else mean), visible.any(0)
