"""Stage stage2: learns depth stream and SRM on the auxiliary categories, under the prompts of stage 1."""

from __future__ import annotations

from gsclip.features.backbone import load_backbone
from gsclip.params import Params
from gsclip.stages import common
from gsclip.training.distributed import joined
from gsclip.training.fit import Places, TrainingSet, fit_stage2
from gsclip.training.selection import training_names


def stage2(params: Params) -> None:
    """Write ``models/stage2`` (empty when the depth stream is switched off) and its learning curve."""
    training = TrainingSet(common.FOLDERS, training_names(common.index(), params.prepare.auxiliary_categories))
    places = Places(common.STAGE2, common.CURVES / "stage2.csv", common.CHECKPOINTS, common.LIVE / "stage2")
    with joined():
        fit_stage2(params, load_backbone(*params.features.backbone_arguments), training, common.STAGE1, places)


if __name__ == "__main__":
    common.run(stage2)
