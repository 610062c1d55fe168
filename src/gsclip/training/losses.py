"""The losses of both stages (method, sections 4 and 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from gsclip.axes import ABNORMAL, NORMAL
from gsclip.scores.back_projection import back_project
from gsclip.scores.similarity import class_logits, enlarge_maps, patch_maps
from gsclip.training.batches import Batch

FOCAL_GAMMA = 2.0  # Lin et al., ICCV 2017
FOCAL_SMOOTH = 1e-5
DICE_SMOOTH = 1.0


def focal_loss(maps: Float[Tensor, "i 2 h w"], mask: Bool[Tensor, "i h w"]) -> Float[Tensor, ""]:
    """Focal loss of probability maps, gamma 2, mean over pixels; targets are smoothed by 1e-5."""
    truth = torch.stack([~mask, mask], 1).to(maps.dtype).clamp(FOCAL_SMOOTH, 1 - FOCAL_SMOOTH)
    probability = (truth * maps).sum(1) + FOCAL_SMOOTH
    return -((1 - probability) ** FOCAL_GAMMA * probability.log()).mean()


def dice_loss(scores: Float[Tensor, "i *points"], mask: Bool[Tensor, "i *points"]) -> Float[Tensor, ""]:
    """1 - Dice coefficient of scores in [0, 1] against a mask, smoothing 1, mean over the first axis."""
    scores, truth = scores.flatten(1), mask.flatten(1).to(scores.dtype)
    overlap = (scores * truth).sum(1)
    return (1 - (2 * overlap + DICE_SMOOTH) / (scores.sum(1) + truth.sum(1) + DICE_SMOOTH)).mean()


def classification_loss(
    logits: Float[Tensor, "b v 2"], view_labels: Int[Tensor, "b v"], labels: Int[Tensor, " b"]
) -> Float[Tensor, ""]:
    """L_cla: cross-entropy of each view against its own label, and of the view-averaged logit against the object's."""
    in_2d = functional.cross_entropy(logits.flatten(0, 1), view_labels.flatten())
    in_3d = functional.cross_entropy(logits.mean(1), labels)
    return in_2d + in_3d


def segmentation_loss(
    maps: Float[Tensor, "b v 2 h w"],
    masks: Bool[Tensor, "b v h w"],
    pixels: list[Int[Tensor, "v _ 2"]],
    visible: list[Bool[Tensor, "v _"]],
    point_masks: list[Bool[Tensor, " _"]],
) -> Float[Tensor, ""]:
    """L_seg: focal and Dice on both maps of every view, and Dice on the maps carried back to the points.

    Args:
        maps: probabilities, channel 0 normal and 1 abnormal.
        masks: rendered ground truth.
        pixels: per object, (row, column) of its points in each view; the number of points differs.
        visible: per object.
        point_masks: per object, ground truth of its points.
    """
    flat, truth = maps.flatten(0, 1), masks.flatten(0, 1)
    loss = focal_loss(flat, truth) + dice_loss(flat[:, ABNORMAL], truth) + dice_loss(flat[:, NORMAL], ~truth)
    in_3d = []
    for index, mask in enumerate(point_masks):
        scores, seen = back_project(maps[index], pixels[index], visible[index])
        scores, mask = scores[:, seen], mask[seen]
        in_3d.append(dice_loss(scores[None, ABNORMAL], mask[None]) + dice_loss(scores[None, NORMAL], ~mask[None]))
    return loss + torch.stack(in_3d).mean()


def consistency_loss(features: Float[Tensor, "b v d"]) -> Float[Tensor, ""]:
    """L_con = 1 - (1/v) sum_i <G_i, mean G>, unit vectors, over the feature dimension; mean over objects.

    Source: method, section 5. The mean of the unit view features is made a unit vector again.
    """
    unit = functional.normalize(features, dim=-1)
    mean = functional.normalize(unit.mean(1, keepdim=True), dim=-1)
    return (1 - (unit * mean).sum(-1).mean(1)).mean()


@dataclass(frozen=True)
class DetectionLosses:
    """The two terms that both stages share."""

    classification: Tensor
    segmentation: Tensor


def detection_losses(
    tokens: Float[Tensor, "b v t d"], prompts: Float[Tensor, "b 2 d"], batch: Batch
) -> DetectionLosses:
    """L_cla and L_seg of view tokens (class token first) against each object's own prompts."""
    logits = class_logits(tokens, prompts)
    maps = enlarge_maps(patch_maps(logits[:, :, 1:].softmax(-1)), batch.masks.shape[-1])
    return DetectionLosses(
        classification=classification_loss(logits[:, :, 0], batch.view_labels, batch.labels),
        segmentation=segmentation_loss(maps, batch.masks, batch.pixels, batch.visible, batch.point_masks),
    )
