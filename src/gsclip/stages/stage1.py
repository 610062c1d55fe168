"""Stage stage1: learns the geometry-aware prompts on the auxiliary categories."""

from __future__ import annotations

from gsclip.features.backbone import load_backbone
from gsclip.params import Params
from gsclip.stages import common
from gsclip.training.distributed import joined
from gsclip.training.fit import Places, TrainingSet, fit_stage1
from gsclip.training.selection import training_names


def stage1(params: Params) -> None:
    """Write ``models/stage1`` and its learning curve."""
    training = TrainingSet(common.FOLDERS, training_names(common.index(), params.prepare.auxiliary_categories))
    places = Places(common.STAGE1, common.CURVES / "stage1.csv", common.CHECKPOINTS, common.LIVE / "stage1")
    with joined():
        fit_stage1(params, load_backbone(*params.features.backbone_arguments), training, places)


if __name__ == "__main__":
    common.run(stage1)
