"""Trains one stage and writes what it learned: resumable, and whole or not at all.

Of several processes (:mod:`gsclip.training.distributed`) the first writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gsclip.features.backbone import Backbone
from gsclip.packs import PackFolders
from gsclip.params import Params
from gsclip.prompts.geometry_prompts import PROMPTS_FILE, build_prompts, load_encoder, load_prompts
from gsclip.storage import atomic_directory, save_module, write_csv
from gsclip.streams.streams import build_streams, save_streams
from gsclip.training.batches import TrainingData
from gsclip.training.checkpoints import Checkpoint, run_key
from gsclip.training.distributed import is_first
from gsclip.training.loop import empty_curve
from gsclip.training.stage1 import train_stage1
from gsclip.training.stage2 import train_stage2


@dataclass(frozen=True)
class TrainingSet:
    """What is trained on.

    Attributes:
        folders: of the packs.
        names: samples.
    """

    folders: PackFolders
    names: Sequence[str]

    def files(self) -> list[Path]:
        """Packs that the samples lie in."""
        return self.folders.files(sorted({name.split("/", 1)[0] for name in self.names}))


@dataclass(frozen=True)
class Places:
    """Where a training writes.

    Attributes:
        model: folder of the result.
        curve: CSV file of the learning curve.
        checkpoints: folder of the checkpoints.
        live: folder of the curve while it grows; ``None``: not written.
        shared: whether other trainings keep their checkpoints in the same folder.
    """

    model: Path
    curve: Path
    checkpoints: Path
    live: Path | None = None
    shared: bool = False


def fit_stage1(params: Params, backbone: Backbone, training: TrainingSet, places: Places) -> None:
    """Learn the geometry-aware prompts."""
    data = TrainingData(training.folders, training.names)
    checkpoint = Checkpoint(places.checkpoints, "stage1", stage1_key(params, training))
    torch.manual_seed(params.stage1.seed)
    prompts = build_prompts(backbone, params.stage1)
    load_encoder(prompts, params.stage1)
    curve = train_stage1(prompts, backbone, data, params.stage1, checkpoint, places.live)
    data.close()
    if not is_first():
        return
    write_csv(places.curve, curve)  # before the model, which stands for a finished training
    with atomic_directory(places.model) as folder:
        save_module(prompts, folder / PROMPTS_FILE)
    checkpoint.remove(others=not places.shared)


def fit_stage2(params: Params, backbone: Backbone, training: TrainingSet, prompts_folder: Path, places: Places) -> None:
    """Learn depth stream and SRM under the prompts of a folder; an empty folder when they are switched off."""
    if not params.stage2.depth_stream:
        if not is_first():
            return
        write_csv(places.curve, empty_curve())
        with atomic_directory(places.model):
            return
    data = TrainingData(training.folders, training.names, params.features.depth_encoding)
    checkpoint = Checkpoint(places.checkpoints, "stage2", stage2_key(params, training, prompts_folder))
    prompts = load_prompts(prompts_folder, backbone, params.stage1)
    torch.manual_seed(params.stage2.seed)
    depth_stream, refinement = build_streams(backbone, params.stage2)
    curve = train_stage2(
        depth_stream, refinement, prompts, backbone, data, params.features, params.stage2, checkpoint, places.live
    )
    data.close()
    if not is_first():
        return
    write_csv(places.curve, curve)
    with atomic_directory(places.model) as folder:
        save_streams(folder, depth_stream, refinement)
    checkpoint.remove(others=not places.shared)


def stage1_key(params: Params, training: TrainingSet) -> str:
    """What stands for a training of stage 1, see :func:`~gsclip.training.checkpoints.run_key`."""
    start = Path(params.stage1.pointnet_weights)  # the empty path is the working folder, no file
    return _key(params, ("features", "stage1"), training, [start] if start.is_file() else [])


def stage2_key(params: Params, training: TrainingSet, prompts_folder: Path) -> str:
    """What stands for a training of stage 2 under the prompts of a folder."""
    return _key(params, ("features", "stage1", "stage2"), training, [prompts_folder / PROMPTS_FILE])


def _key(params: Params, groups: Sequence[str], training: TrainingSet, inputs: Sequence[Path]) -> str:
    settings = {group: getattr(params, group).model_dump() for group in groups}
    return run_key({**settings, "names": list(training.names)}, [*training.files(), *inputs])
