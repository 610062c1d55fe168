"""Both stages as plain loops: what is frozen is computed anew for each batch of each epoch.

Stage 1 learns what ours learns. Stage 2 is the released loop, which trains next to nothing (method, section 8): the
depth stream runs without gradients, attention goes over sequences of length one, patch tokens are not fused, the
consistency is taken over views. PointNet++ and the text encoder run in each of its steps, though they are fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.naive.encoder import naive_text_features, naive_tokens
from benchmarks.naive.grouping import naive_grouping
from gsclip.features.backbone import Backbone
from gsclip.features.images import rendered_images
from gsclip.features.types import VisualEncoder
from gsclip.packs import PackFolders
from gsclip.params import Params
from gsclip.prompts.geometry_prompts import GeometryAwarePrompts
from gsclip.storage import Pack
from gsclip.streams.refinement import SynergisticRefinement
from gsclip.training.batches import Batch, TrainingData
from gsclip.training.losses import detection_losses
from gsclip.training.stage1 import BETAS
from gsclip.views.views import Views


@dataclass(frozen=True)
class NaiveTraining:
    """What both loops read.

    Attributes:
        params: of the pipeline.
        backbone: frozen.
        folders: of the packs; of those of the features nothing is used but the clouds.
        data: the samples of :class:`~gsclip.training.batches.TrainingData`.
    """

    params: Params
    backbone: Backbone
    folders: PackFolders
    data: TrainingData

    def stage1(self, prompts: GeometryAwarePrompts, epochs: int) -> list[float]:
        """Train the prompts; the mean loss of each epoch."""
        stage1 = self.params.stage1
        optimizer = torch.optim.Adam(prompts.train().parameters(), lr=stage1.learning_rate, betas=BETAS)

        def step(names: Sequence[str]) -> Tensor:
            batch = self.data.batch(names)
            losses = detection_losses(self._rendered(names), self._text(prompts, batch), batch)
            return losses.classification + losses.segmentation

        return self._train(optimizer, step, epochs, stage1.batch_size, stage1.seed)

    def stage2(
        self, prompts: GeometryAwarePrompts, depth_stream: VisualEncoder, srm: SynergisticRefinement, epochs: int
    ) -> list[float]:
        """Run the released loop; the mean loss of each epoch."""
        stage2 = self.params.stage2
        prompts.eval()
        depth_stream.train()
        lora = [parameter for parameter in depth_stream.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(
            [
                {"params": list(srm.train().parameters()), "lr": stage2.learning_rate},
                {"params": lora, "lr": stage2.learning_rate * stage2.lora_learning_rate_factor},
            ]
        )

        def step(names: Sequence[str]) -> Tensor:
            batch = self.data.batch(names)
            if batch.depth is None:
                raise ValueError("stage 2 needs data with depth images")
            with torch.no_grad():
                text = self._text(prompts, batch)
                rendered = self._rendered(names)
                depth = self._encode(depth_stream, batch.depth)
            # Each class token is a sequence of its own: softmax over one entry.
            fused = srm(rendered[:, :, None, 0], depth[:, :, None, 0])
            losses = detection_losses(torch.cat([fused, rendered[:, :, 1:]], 2), text, batch)
            views = functional.normalize(fused[:, :, 0], dim=1)  # over views instead of features
            consistency = (1 - (views * functional.normalize(views.mean(1, keepdim=True), dim=1)).sum(1)).mean()
            return losses.classification + losses.segmentation + stage2.consistency_weight * consistency

        return self._train(optimizer, step, epochs, stage2.batch_size, stage2.seed)

    def _train(self, optimizer: torch.optim.Optimizer, step, epochs: int, batch_size: int, seed: int) -> list[float]:  # noqa: ANN001
        """The order of the samples is that of :func:`gsclip.training.loop.train`."""
        curve = []
        for epoch in range(1, epochs + 1):
            torch.manual_seed(seed * 1_000_003 + epoch)
            order = [self.data.names[index] for index in torch.randperm(len(self.data.names)).tolist()]
            total = 0.0
            for start in range(0, len(order), batch_size):
                names = order[start : start + batch_size]
                optimizer.zero_grad()
                loss = step(names)
                loss.backward()
                optimizer.step()
                total += loss.item() * len(names)
            curve.append(total / len(order))
        return curve

    def _text(self, prompts: GeometryAwarePrompts, batch: Batch) -> Tensor:
        grouping = naive_grouping(torch.from_numpy(batch.grouping.cloud))
        return naive_text_features(prompts, self.backbone.clip, grouping)

    @torch.no_grad()
    def _rendered(self, names: Sequence[str]) -> Tensor:
        """Tokens (b, v, t, d) of the frozen stream."""
        encoding = self.params.features.rendered_encoding
        images = torch.stack([rendered_images(self._views(name), encoding) for name in names])
        return self._encode(self.backbone.clip.visual, images)

    def _views(self, name: str) -> Views:
        with Pack(self.folders.views / f"{name.split('/', 1)[0]}.h5", Views) as views:
            return views[name]

    def _encode(self, visual: VisualEncoder, images: Tensor) -> Tensor:
        """(b, v, t, d) of images (b, v, 3, h, w), one view of the whole batch after the other."""
        features = self.params.features
        layers = {"local_blocks": features.local_blocks, "local_layers": features.local_layers}
        return torch.stack([naive_tokens(self.backbone, visual, view, **layers) for view in images.unbind(1)], 1)
