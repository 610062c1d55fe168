"""Both stages of training with the embedded backbone."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.naive.training import NaiveTraining
from benchmarks.speed.common import ROOT, Check, Found, Row, Settings, interleaved, speed_up, where_time_goes
from gsclip.data.preparing import prepare_dataset
from gsclip.features.backbone import Backbone, load_backbone
from gsclip.features.packing import write_features
from gsclip.packs import PackFolders
from gsclip.params import Params, load_params
from gsclip.prompts.geometry_prompts import GeometryAwarePrompts, build_prompts
from gsclip.streams.depth_lora import SavedDepthStream
from gsclip.streams.streams import build_streams, load_streams
from gsclip.training.batches import TrainingData
from gsclip.training.fit import Places, TrainingSet, fit_stage1, fit_stage2
from gsclip.views.packing import write_views

FAMILIES = ("castle_nut", "vase")
SAMPLES = 6  # of each family
EPOCHS = {"stage1": 15, "stage2": 10}  # of the paper
NAIVE_EPOCHS = 1  # measured; the others cost the same
SPEED_UP, LONGEST = 8.0, 1.0


def parameters(settings: Settings) -> Params:
    """The repository's, on a few generated parts and with the paper's numbers of epochs."""
    values = load_params(ROOT / "params.yaml").model_dump()
    values["prepare"] |= {
        "dataset": "procedural",
        "auxiliary_categories": FAMILIES[:1] if settings.quick else FAMILIES,
        "test_categories": ["elbow"],
        "auxiliary_samples": 3 if settings.quick else SAMPLES,
        "calibration_samples": 2,
        "test_samples": 2,
    }
    values["experiments"]["one_vs_rest"] = list(FAMILIES[:1])
    for stage, epochs in EPOCHS.items():
        values[stage]["epochs"] = 2 if settings.quick else epochs
    if settings.quick:
        values["features"]["cloud_points"] = 512
        values["render"]["views"] = 2
    return Params.model_validate(values)


@dataclass(frozen=True)
class Work:
    """Prepared and rendered parts in a folder, and both ways to learn from them."""

    params: Params
    backbone: Backbone
    folder: Path
    names: list[str]

    @property
    def folders(self) -> PackFolders:
        """Packs of samples, views and features."""
        return PackFolders(self.folder / "prepared", self.folder / "views", self.folder / "features")

    def encode(self, folder: Path) -> None:
        """Tokens and groupings of all parts, into a fresh folder."""
        index = self._index
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        write_features(
            index, self.folders.prepared, self.folders.views, folder, self.backbone, self.params.features
        )

    @property
    def _index(self):  # noqa: ANN202 - a data frame
        import pandas as pd

        index = pd.read_csv(self.folders.prepared / "names.csv")
        return index[index["name"].isin(self.names)]

    def ours(self, stage: str, params: Params | None = None) -> None:
        """A stage as the pipeline runs it; the first one with the features that it needs."""
        params = params or self.params
        training, places = TrainingSet(self.folders, self.names), self.places(stage)
        if stage == "stage1":
            self.encode(self.folders.features)
            fit_stage1(params, self.backbone, training, places)
        else:
            fit_stage2(params, self.backbone, training, self.folder / "stage1", places)

    def naive(self, stage: str, epochs: int) -> None:
        """Some epochs of a stage as a plain loop."""
        encoding = self.params.features.depth_encoding if stage == "stage2" else None
        data = TrainingData(self.folders, self.names, encoding)
        loop = NaiveTraining(self.params, self.backbone, self.folders, data)
        torch.manual_seed(0)
        prompts = build_prompts(self.backbone, self.params.stage1)
        if not isinstance(prompts, GeometryAwarePrompts):
            raise TypeError("the parameters have no learned prompts")
        if stage == "stage1":
            loop.stage1(prompts, epochs)
        else:
            loop.stage2(prompts, *build_streams(self.backbone, self.params.stage2), epochs)
        data.close()

    def places(self, stage: str) -> Places:
        """Where a stage writes."""
        return Places(self.folder / stage, self.folder / f"{stage}.csv", self.folder / "checkpoints")

    def changed(self) -> tuple[int, int]:
        """How many tensors stage 2 has changed, of those that it trains."""
        torch.manual_seed(self.params.stage2.seed)
        before = _trained(*build_streams(self.backbone, self.params.stage2))
        after = _trained(*load_streams(self.folder / "stage2", self.backbone, self.params.stage2))
        return sum(not torch.equal(value, after[name]) for name, value in before.items()), len(before)


def prepare(settings: Settings, folder: Path) -> Work:
    """Generate and render the parts, which is not measured."""
    params = parameters(settings)
    index = prepare_dataset(params.prepare, folder / "prepared")
    index = index[(index["category"].isin(params.prepare.auxiliary_categories)) & (index["split"] == "train")]
    index.to_csv(folder / "prepared" / "names.csv", index=False)
    (folder / "views").mkdir()
    write_views(index, folder / "prepared", folder / "views", params.render)
    return Work(params, load_backbone(*params.features.backbone_arguments), folder, index["name"].tolist())


def measure(settings: Settings) -> Found:
    """Rows ``stage1`` and ``stage2``."""
    with tempfile.TemporaryDirectory() as name:
        work = prepare(settings, Path(name))
        rows = [_row(work, stage, settings) for stage in EPOCHS]
        changed, tensors = work.changed()
        rows[1].figures.update({"tensors_trained": tensors, "tensors_changed": changed})
        once = Params.model_validate(
            {**work.params.model_dump(), **{stage: {**getattr(work.params, stage).model_dump(), "epochs": 1}
                                            for stage in EPOCHS}}
        )  # fmt: skip
        profiles = {
            "features": where_time_goes(lambda: work.encode(work.folder / "again")),
            "stage 1, an epoch": where_time_goes(_trained_once(work, "stage1", once)),
            "stage 2, an epoch": where_time_goes(_trained_once(work, "stage2", once)),
        }
    return Found(rows, profiles)


def _trained_once(work: Work, stage: str, params: Params) -> Callable[[], None]:
    def run() -> None:
        training, places = TrainingSet(work.folders, work.names), work.places(f"{stage}_again")
        if stage == "stage1":
            fit_stage1(params, work.backbone, training, places)
        else:
            fit_stage2(params, work.backbone, training, work.folder / "stage1", places)

    return run


def _row(work: Work, stage: str, settings: Settings) -> Row:
    epochs = getattr(work.params, stage).epochs
    seconds = interleaved(
        # Ours first: the naive loop reads the clouds of the packs that it writes.
        {"ours": lambda: work.ours(stage), "naive": lambda: work.naive(stage, NAIVE_EPOCHS)},
        1 if settings.quick or stage == "stage2" else min(settings.repeats, 3),  # stage 2 takes minutes
        warm_up=stage == "stage1",
        now=settings.now,
    )
    ours, naive = seconds["ours"], [value * epochs / NAIVE_EPOCHS for value in seconds["naive"]]
    size = f"{len(work.names)} parts, batches of {getattr(work.params, stage).batch_size}, embedded backbone"
    counted = f"measured over {NAIVE_EPOCHS} epoch and multiplied"
    if stage == "stage1":
        what = f"stage 1, {epochs} epochs"
        how = f"{size}; ours with features and groupings, computed once. Naive: computed anew in each epoch; {counted}"
        check = Check("naive / ours", speed_up(naive, ours), ">=", SPEED_UP, "×")
    else:
        what = f"stage 2, {epochs} epochs, really training"
        how = (
            f"{size}; rendered tokens are those of stage 1. Naive: the released loop, without gradients in LoRA and "
            f"attention, all that is frozen computed anew in each epoch; {counted}"
        )
        check = Check("ours / naive", 1 / speed_up(naive, ours), "<=", LONGEST, "×")
    return Row(name=stage, what=what, how=how, ours=ours, naive=naive, checks=[check])


def _trained(depth_stream: torch.nn.Module, refinement: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of what stage 2 trains, by the names that PEFT saves; of a stream to be trained and of a loaded one."""
    if isinstance(depth_stream, SavedDepthStream):
        lora = depth_stream.adapter()
    else:
        from peft import get_peft_model_state_dict

        lora = get_peft_model_state_dict(depth_stream)
    return {name: value.detach().clone() for name, value in {**lora, **dict(refinement.named_parameters())}.items()}
