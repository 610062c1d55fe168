"""Tokens of the frozen stream and neighbourhoods of PointNet++ for a whole data set, computed once and kept."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from gsclip.data.sample import Sample
from gsclip.features.backbone import Backbone
from gsclip.features.encode import ViewTokens, rendered_tokens
from gsclip.params import FeaturesParams
from gsclip.prompts.grouping import Grouping, group_points
from gsclip.reuse import Store, code_digest, digest, log_reuse, reusing_pack
from gsclip.storage import Pack
from gsclip.views.views import Views

# What tokens and groupings depend on, beside samples, views, parameters and weights.
CODE = (
    "data/geometry.py", "data/sample.py", "features/*.py", "features/embedded/*.json", "prompts/grouping.py",
    "storage.py", "views/views.py",
)  # fmt: skip


def write_features(
    index: pd.DataFrame,
    prepared: Path,
    views_folder: Path,
    folder: Path,
    backbone: Backbone,
    config: FeaturesParams,
    store: Store | None = None,
) -> None:
    """Write ``<category>.tokens.h5`` and ``<category>.grouping.h5`` for every sample of an index.

    Args:
        index: accepted samples.
        prepared: folder of the packs of samples.
        views_folder: folder of the packs of views.
        folder: where the packs of tokens and of groupings go.
        backbone: the loaded backbone that ``config`` names.
        config: encodings, layers, size of the cloud.
        store: both of the last run, to be taken over where the sample or its views, parameters, weights and code are
            the same.
    """
    code = code_digest(CODE)
    encoding = digest(
        code, weights_digest(backbone), config.rendered_encoding, config.local_blocks, config.local_layers
    )
    grouping = digest(code, config.cloud_points)
    writers = {}
    with tqdm(total=len(index), desc="features", mininterval=5) as progress:
        for category, rows in index.groupby("category", sort=True):
            members = set(rows["name"])
            with (
                Pack(prepared / f"{category}.h5", Sample) as samples,
                Pack(views_folder / f"{category}.h5", Views) as views,
                reusing_pack(folder / f"{category}.tokens.h5", ViewTokens, store) as tokens,
                reusing_pack(folder / f"{category}.grouping.h5", Grouping, store) as groupings,
            ):
                for name in samples.names:
                    if name not in members:
                        continue
                    key = digest(encoding, views.digest(name))
                    if tokens.holds(name, key):
                        tokens.take(name)
                    else:
                        encoded = rendered_tokens(
                            backbone,
                            views[name],
                            encoding=config.rendered_encoding,
                            local_blocks=config.local_blocks,
                            local_layers=config.local_layers,
                        )
                        tokens.add(name, encoded, key)
                    key = digest(grouping, samples.digest(name))
                    if groupings.holds(name, key):
                        groupings.take(name)
                    else:
                        groupings.add(name, group_points(samples[name].points, config.cloud_points), key)
                    progress.update()
            writers[str(category)] = tokens
    log_reuse("features", writers, "encoded")


def weights_digest(backbone: Backbone) -> str:
    """Hexadecimal SHA-256 of what a backbone encodes images with: name, note, normalisation and weights."""
    content = hashlib.sha256(repr((backbone.name, backbone.note, backbone.mean, backbone.std)).encode())
    for name, value in backbone.clip.visual.state_dict().items():
        content.update(repr((name, value.dtype, tuple(value.shape))).encode())
        content.update(value.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()
