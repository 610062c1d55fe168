"""Tokens of the frozen stream and neighbourhoods of PointNet++ for a whole data set, computed once and kept."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from gsclip.data.sample import Sample
from gsclip.features.backbone import Backbone
from gsclip.features.encode import ViewTokens, rendered_tokens
from gsclip.features.inference import InferenceEncoder
from gsclip.parallel import FEW, ordered_map
from gsclip.params import FeaturesParams
from gsclip.prompts.grouping import Grouping, group_points
from gsclip.reuse import Store, code_digest, digest, log_reuse, reusing_pack
from gsclip.storage import Pack
from gsclip.views.views import Views

# What tokens and groupings depend on, beside samples, views, parameters and weights.
CODE = (
    "data/geometry.py", "data/open3d_core.py", "data/sample.py", "features/*.py", "features/embedded/*.json",
    "prompts/grouping.py", "storage.py", "views/views.py",
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

    All cores work, or the workers of a scheduler (:mod:`gsclip.parallel`); the bytes are the same.

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
    keys: dict[tuple[str, str], str] = {}

    def key(step: str, pack: Pack[Views] | Pack[Sample], name: str) -> str:
        if (step, name) not in keys:
            keys[step, name] = digest(step, pack.digest(name))
        return keys[step, name]

    def new() -> Iterator[_Task]:
        for category, rows in index.groupby("category", sort=True):
            members = set(rows["name"])
            with (
                Pack(prepared / f"{category}.h5", Sample) as samples,
                Pack(views_folder / f"{category}.h5", Views) as views,
            ):
                for name in samples.names:
                    if name not in members:
                        continue
                    encoded = store and store.key(f"{category}.tokens.h5", name) == key(encoding, views, name)
                    grouped = store and store.key(f"{category}.grouping.h5", name) == key(grouping, samples, name)
                    if not (encoded and grouped):
                        yield _Task(
                            name,
                            None if encoded else views[name],
                            None if grouped else samples.read(name, ("points",)).points,
                        )

    encoder = InferenceEncoder(
        backbone, backbone.clip.visual, local_blocks=config.local_blocks, layers=config.local_layers
    )
    made = ordered_map(functools.partial(_make, encoder, config), new(), few=FEW)
    writers = {}
    with tqdm(total=len(index), desc="features", unit="sample", mininterval=5) as progress:
        for category, rows in index.groupby("category", sort=True):
            members = set(rows["name"])
            with (
                Pack(prepared / f"{category}.h5", Sample) as samples,
                Pack(views_folder / f"{category}.h5", Views) as views,
                # Rounded tokens hardly shrink, and every epoch reads them.
                reusing_pack(folder / f"{category}.tokens.h5", ViewTokens, store, compress=False) as tokens,
                reusing_pack(folder / f"{category}.grouping.h5", Grouping, store) as groupings,
            ):
                for name in samples.names:
                    if name not in members:
                        continue
                    encoded = tokens.holds(name, key(encoding, views, name))
                    grouped = groupings.holds(name, key(grouping, samples, name))
                    made_tokens, made_grouping = (None, None) if encoded and grouped else next(made)
                    if made_tokens is None:
                        tokens.take(name)
                    else:
                        tokens.add(name, made_tokens, key(encoding, views, name))
                    if made_grouping is None:
                        groupings.take(name)
                    else:
                        groupings.add(name, made_grouping, key(grouping, samples, name))
                    progress.update()
            writers[str(category)] = tokens
    log_reuse("features", writers, "encoded")


class _Task(NamedTuple):
    """Views and points (n, 3) of one sample; ``None`` where what is made of them can be taken over."""

    name: str
    views: Views | None
    points: np.ndarray | None


def _make(encoder: InferenceEncoder, config: FeaturesParams, task: _Task) -> tuple[ViewTokens | None, Grouping | None]:
    tokens = None if task.views is None else rendered_tokens(encoder, task.views, config.rendered_encoding)
    return tokens, None if task.points is None else group_points(task.points, config.cloud_points)


def weights_digest(backbone: Backbone) -> str:
    """Hexadecimal SHA-256 of what a backbone encodes images with: name, note, normalisation and weights."""
    content = hashlib.sha256(repr((backbone.name, backbone.note, backbone.mean, backbone.std)).encode())
    for name, value in backbone.clip.visual.state_dict().items():
        content.update(repr((name, value.dtype, tuple(value.shape))).encode())
        content.update(value.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()
