"""Tokens of the frozen stream and neighbourhoods of PointNet++ for a whole data set, computed once and kept."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tqdm import tqdm

from gsclip.data.sample import Sample
from gsclip.features.backbone import Backbone
from gsclip.features.encode import rendered_tokens
from gsclip.params import FeaturesParams
from gsclip.prompts.grouping import group_points
from gsclip.storage import Pack, write_pack
from gsclip.views.views import Views


def write_features(
    index: pd.DataFrame, prepared: Path, views_folder: Path, folder: Path, backbone: Backbone, config: FeaturesParams
) -> None:
    """Write ``<category>.tokens.h5`` and ``<category>.grouping.h5`` for every sample of an index.

    Args:
        index: accepted samples.
        prepared: folder of the packs of samples.
        views_folder: folder of the packs of views.
        folder: where the packs of tokens and of groupings go.
        backbone: the loaded backbone that ``config`` names.
        config: encodings, layers, size of the cloud.
    """
    with tqdm(total=len(index), desc="features", mininterval=5) as progress:
        for category, rows in index.groupby("category", sort=True):
            members = set(rows["name"])
            with (
                Pack(prepared / f"{category}.h5", Sample) as samples,
                Pack(views_folder / f"{category}.h5", Views) as views,
                write_pack(folder / f"{category}.tokens.h5") as tokens,
                write_pack(folder / f"{category}.grouping.h5") as groupings,
            ):
                for name in samples.names:
                    if name not in members:
                        continue
                    encoded = rendered_tokens(
                        backbone,
                        views[name],
                        encoding=config.rendered_encoding,
                        local_blocks=config.local_blocks,
                        local_layers=config.local_layers,
                    )
                    tokens.add(name, encoded)
                    groupings.add(name, group_points(samples[name].points, config.cloud_points))
                    progress.update()
