"""Stage features: the frozen stream's tokens of every view, and the neighbourhoods that PointNet++ sees."""

from __future__ import annotations

from gsclip.features.backbone import check_fit, load_backbone
from gsclip.features.packing import write_features
from gsclip.params import Params
from gsclip.reuse import Store
from gsclip.stages import common
from gsclip.storage import atomic_directory


def features(params: Params) -> None:
    """Write ``data/features``."""
    backbone = load_backbone(*params.features.backbone_arguments)
    check_fit(backbone, params.render.image_size, params.features.local_layers)
    store = Store(common.PACKS / "features")
    with atomic_directory(common.FEATURES) as folder:
        write_features(common.index(), common.PREPARED, common.VIEWS, folder, backbone, params.features, store)
    store.keep(common.FEATURES)


if __name__ == "__main__":
    common.run(features)
