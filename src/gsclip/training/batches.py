"""What a training step reads: auxiliary samples with views, tokens, groupings and ground truth, lazily from packs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gsclip.errors import GsclipError
from gsclip.features.images import depth_images
from gsclip.features.types import DepthEncoding
from gsclip.packs import CategoryPacks, PackFolders
from gsclip.prompts.grouping import Grouping, stack_groupings
from gsclip.views.views import Views

# What training reads of the views, and what the depth images are made from.
VIEW_FIELDS = ("mask", "pixels", "visible")
DEPTH_FIELDS = ("depth", "relief", "foreground")


@dataclass(frozen=True)
class Batch:
    """b samples of one training step; the number of points differs between samples, hence the lists.

    Attributes:
        names: of the samples.
        labels: of the objects.
        view_labels: of the views: abnormal where the defect is seen.
        masks: rendered ground truth.
        depth: depth images in [0, 1], as the depth stream takes them; ``None`` where they are not asked for.
        pixels: (row, column) of every point in every view.
        visible: whether the point is seen there.
        point_masks: ground truth of every point.
        tokens: rendered tokens of the frozen stream.
        grouping: stacked over the batch.
    """

    names: list[str]
    labels: Int[Tensor, " b"]
    view_labels: Int[Tensor, "b v"]
    masks: Bool[Tensor, "b v h w"]
    depth: Float[Tensor, "b v 3 h w"] | None
    pixels: list[Int[Tensor, "v _ 2"]]
    visible: list[Bool[Tensor, "v _"]]
    point_masks: list[Bool[Tensor, " _"]]
    tokens: Float[Tensor, "b v t d"]
    grouping: Grouping


class TrainingData:
    """Auxiliary samples by name, read batch by batch.

    Args:
        folders: of the packs.
        names: samples to train on; the category is the part of a name before the first ``/``.
        depth_encoding: of the depth images; ``None`` leaves them out.

    Raises:
        GsclipError: when there are no samples, or no defective or no normal ones.
    """

    def __init__(self, folders: PackFolders, names: Sequence[str], depth_encoding: DepthEncoding | None = None) -> None:
        categories = sorted({name.split("/", 1)[0] for name in names})
        if not categories:
            raise GsclipError("training: no auxiliary samples; see data/prepared/rejected.csv")
        self.names = list(names)
        self._depth_encoding = depth_encoding
        with contextlib.ExitStack() as stack:
            self._packs = {category: stack.enter_context(folders.open(category)) for category in categories}
            self._stack = stack.pop_all()
        self.defective = frozenset(name for name in names if self._mask(name).any())
        if len(self.defective) in (0, len(self.names)):
            raise GsclipError(
                f"training: {len(self.defective)} of {len(self.names)} auxiliary samples have a defect; "
                "name auxiliary categories with normal and defective samples"
            )

    def batch(self, names: Sequence[str]) -> Batch:
        """Read the samples of one step."""
        encoding = self._depth_encoding
        fields = VIEW_FIELDS if encoding is None else VIEW_FIELDS + DEPTH_FIELDS
        views = [self._pack(name).views.read(name, fields) for name in names]
        point_masks = [torch.from_numpy(self._mask(name)) for name in names]
        masks = torch.stack([_rendered_mask(view) for view in views])
        tokens = np.stack([self._pack(name).tokens[name].tokens for name in names])
        return Batch(
            names=list(names),
            labels=torch.tensor([name.split("/")[2] != "good" for name in names]).long(),
            view_labels=masks.flatten(2).any(-1).long(),
            masks=masks,
            depth=None if encoding is None else torch.stack([depth_images(view, encoding) for view in views]),
            pixels=[torch.from_numpy(view.pixels) for view in views],
            visible=[torch.from_numpy(view.visible) for view in views],
            point_masks=point_masks,
            tokens=torch.from_numpy(tokens).float(),
            grouping=self.grouping(names),
        )

    def grouping(self, names: Sequence[str]) -> Grouping:
        """Read the groupings of some samples alone, stacked."""
        return stack_groupings([self._pack(name).groupings[name] for name in names])

    def close(self) -> None:
        """Close the packs."""
        self._stack.close()

    def _pack(self, name: str) -> CategoryPacks:
        return self._packs[name.split("/", 1)[0]]

    def _mask(self, name: str) -> np.ndarray:
        sample = self._pack(name).samples.read(name, ("mask",))
        if sample.mask is None:
            raise GsclipError(f"training: {name} has no ground truth; leave it out of the auxiliary samples")
        return sample.mask


def _rendered_mask(views: Views) -> Tensor:
    if views.mask is None:
        raise GsclipError("training: views without rendered ground truth; run `dvc repro render`")
    return torch.from_numpy(views.mask)
