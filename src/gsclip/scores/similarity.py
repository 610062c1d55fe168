"""Probabilities of normal and abnormal from features and prompts (method, sections 3 and 6)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.07  # tau of the paper


def class_logits(
    features: Float[Tensor, "b v *token d"], prompts: Float[Tensor, "b 2 d"]
) -> Float[Tensor, "b v *token 2"]:
    """<feature, prompt> / tau of view or patch features against the object's own prompts; both need not be unit."""
    unit = functional.normalize(features, dim=-1)
    text = functional.normalize(prompts, dim=-1)
    flat = unit.flatten(1, -2)
    return ((flat @ text.transpose(1, 2)) / TEMPERATURE).unflatten(1, unit.shape[1:-1])


def enlarge_maps(maps: Float[Tensor, "b v *c rows columns"], size: int) -> Float[Tensor, "b v *c size size"]:
    """Bilinear enlargement of patch maps to the side of the image in pixels.

    As products with the matrix of the linear interpolation along an axis, whose gradient takes a tenth of the time of
    ``functional.interpolate``'s.
    """
    along = [
        functional.interpolate(
            torch.eye(count, dtype=maps.dtype, device=maps.device)[None], size=size, mode="linear", align_corners=False
        )[0]
        for count in maps.shape[-2:]
    ]
    return along[0].T @ (maps @ along[1])


def patch_maps(probabilities: Float[Tensor, "b v p 2"]) -> Float[Tensor, "b v 2 rows columns"]:
    """Lay patch probabilities out as square maps, row-major, channel 0 normal and 1 abnormal."""
    rows = int(probabilities.shape[2] ** 0.5)
    return probabilities.transpose(2, 3).unflatten(3, (rows, rows))
