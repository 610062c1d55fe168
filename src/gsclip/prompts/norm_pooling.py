"""Batch norm, ReLU and the maximum over neighbours as one step of training, as a set abstraction ends.

Norm and ReLU are monotonic in each channel: the highest of the neighbours is found before, and only it is normed. The
gradient of the norm reaches every neighbour, through mean and variance: one pass over them instead of seven.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


def highest_of_normed(values: Float[Tensor, "m k c"], norm: nn.BatchNorm1d) -> Float[Tensor, "m c"]:
    """``relu(norm(values)).max(1)`` of a batch norm over the axes m and k, in training and in evaluation.

    Args:
        values: of k neighbours each.
        norm: with running statistics, which are updated in training.
    """
    usual = norm.training and norm.affine and norm.track_running_stats and norm.momentum is not None
    # A norm of several processes (gsclip.training.distributed) has a pass of its own, and torch refuses a single value.
    if usual and "forward" not in vars(norm) and values.flatten(0, 1).shape[0] > 1:
        return _NormReluHighest.apply(values, norm.weight, norm.bias, norm, norm.momentum)
    normed = functional.relu(norm(values.flatten(0, 1))).view_as(values)
    # Without a gradient amax takes an eighth of the time of max; with one max has the cheaper.
    return normed.max(1).values if normed.requires_grad else normed.amax(1)


class _NormReluHighest(torch.autograd.Function):
    """Source of the gradient of a batch norm: Ioffe and Szegedy, arXiv 1502.03167, section 3."""

    @staticmethod
    def forward(
        context: Any,  # noqa: ANN401
        values: Tensor,
        weight: Tensor,
        bias: Tensor,
        norm: nn.BatchNorm1d,
        momentum: float,
    ) -> Tensor:
        flat = values.flatten(0, 1)
        mean, variance = torch.batch_norm_update_stats(flat, norm.running_mean, norm.running_var, momentum)
        norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        inverse = (variance + norm.eps).rsqrt()
        extreme, place = values.max(1)
        falling = weight < 0
        if falling.any():
            lowest, its_place = values.min(1)
            extreme, place = torch.where(falling, lowest, extreme), torch.where(falling, its_place, place)
        unit = (extreme - mean) * inverse
        result = functional.relu(unit * weight + bias)
        context.save_for_backward(values, weight, unit, place, result, mean, inverse)
        return result

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        values, weight, unit, place, result, mean, inverse = context.saved_tensors
        gradient = gradient * (result > 0)
        of_bias, of_weight = gradient.sum(0), (gradient * unit).sum(0)
        scale = weight * inverse
        count = values.shape[0] * values.shape[1]
        slope = -scale * inverse * of_weight / count
        of_values = torch.addcmul(-scale * of_bias / count - slope * mean, values, slope)
        of_values.scatter_add_(1, place[:, None], (gradient * scale)[:, None])
        return of_values, of_weight, of_bias, None, None
