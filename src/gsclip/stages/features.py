"""Stage features: the frozen stream's tokens of every view, and the neighbourhoods that PointNet++ sees."""

from __future__ import annotations

from tqdm import tqdm

from gsclip.data.sample import Sample
from gsclip.features.backbone import check_fit, load_backbone
from gsclip.features.encode import rendered_tokens
from gsclip.params import Params
from gsclip.prompts.grouping import group_points
from gsclip.stages import common
from gsclip.storage import Pack, atomic_directory, write_pack
from gsclip.views.views import Views


def features(params: Params) -> None:
    """Write ``data/features``."""
    index = common.index()
    config = params.features
    backbone = load_backbone(*config.backbone_arguments)
    check_fit(backbone, params.render.image_size, config.local_layers)
    with (
        atomic_directory(common.FEATURES) as folder,
        tqdm(total=len(index), desc="features", mininterval=5) as progress,
    ):
        for category in sorted(set(index["category"])):
            with (
                Pack(common.PREPARED / f"{category}.h5", Sample) as samples,
                Pack(common.VIEWS / f"{category}.h5", Views) as views,
                write_pack(folder / f"{category}.tokens.h5") as tokens,
                write_pack(folder / f"{category}.grouping.h5") as groupings,
            ):
                for name, sample in samples:
                    encoded = rendered_tokens(
                        backbone,
                        views[name],
                        encoding=config.rendered_encoding,
                        local_blocks=config.local_blocks,
                        local_layers=config.local_layers,
                    )
                    tokens.add(name, encoded)
                    groupings.add(name, group_points(sample.points, config.cloud_points))
                    progress.update()


if __name__ == "__main__":
    common.run(features)
