"""Stage calibrate: puts both stages together into the model and gives it thresholds, digests and licences."""

from __future__ import annotations

from gsclip.detector import Detector, DetectorConfig, Licences, Origin
from gsclip.features.backbone import load_backbone
from gsclip.params import Params
from gsclip.prompts.geometry_prompts import load_prompts
from gsclip.stages import common
from gsclip.streams.streams import load_streams
from gsclip.training.calibration import calibrate as calibrate_detector
from gsclip.training.selection import calibration_names, data_sha256, licences, parameters_sha256, provenance


def calibrate(params: Params) -> None:
    """Write ``models/gsclip``."""
    index = common.index()
    auxiliary = params.prepare.auxiliary_categories
    backbone = load_backbone(*params.features.backbone_arguments)
    config = DetectorConfig.of(
        params,
        trained_on=provenance(index, params, backbone.note),
        origin=Origin(
            data_sha256=data_sha256(common.PREPARED, index, auxiliary),
            parameters_sha256=parameters_sha256(params),
            licences=Licences.model_validate(licences(params)),
        ),
    )
    prompts = load_prompts(common.STAGE1, backbone, params.stage1)
    detector = Detector(config, backbone, prompts, *load_streams(common.STAGE2, backbone, params.stage2))
    names = calibration_names(index, auxiliary)
    calibrate_detector(detector, common.FOLDERS, index, names).save(common.MODEL)


if __name__ == "__main__":
    common.run(calibrate)
