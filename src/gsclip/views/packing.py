"""Renders a whole prepared data set, one pack a category."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from tqdm import tqdm

from gsclip.data.sample import Sample
from gsclip.parallel import FEW, ordered_map
from gsclip.params import RenderParams
from gsclip.reuse import Store, code_digest, digest, log_reuse, reusing_pack
from gsclip.storage import Pack
from gsclip.views.renderer import render_views
from gsclip.views.views import Views

# What views depend on, beside the samples and the parameters.
CODE = ("data/geometry.py", "data/open3d_core.py", "data/sample.py", "storage.py", "views/*.py")


def write_views(
    index: pd.DataFrame, prepared: Path, folder: Path, config: RenderParams, store: Store | None = None
) -> None:
    """Write ``<category>.h5`` with the :class:`~gsclip.views.views.Views` of every sample of an index.

    All cores work, or the workers of a scheduler (:mod:`gsclip.parallel`); the bytes are the same.

    Args:
        index: accepted samples.
        prepared: folder of the packs of samples.
        folder: where the packs of views go.
        config: of the views.
        store: views of the last run, to be taken over where sample, parameters and code are the same.
    """
    step = digest(code_digest(CODE), config.model_dump())
    keys: dict[str, str] = {}

    def key(samples: Pack[Sample], name: str) -> str:
        if name not in keys:
            keys[name] = digest(step, samples.digest(name))
        return keys[name]

    def new() -> Iterator[_Task]:
        for category, rows in index.groupby("category", sort=True):
            file, members = f"{category}.h5", set(rows["name"])
            with Pack(prepared / file, Sample) as samples:
                for name in samples.names:
                    if name in members and not (store and store.key(file, name) == key(samples, name)):
                        yield _Task(name, samples[name])

    rendered = ordered_map(functools.partial(_render, config), new(), few=FEW)
    writers = {}
    with tqdm(total=len(index), desc="render", unit="sample", mininterval=5) as progress:
        for category, rows in index.groupby("category", sort=True):
            file, members = f"{category}.h5", set(rows["name"])
            with Pack(prepared / file, Sample) as samples, reusing_pack(folder / file, Views, store) as pack:
                for name in samples.names:
                    if name not in members:
                        continue
                    if pack.holds(name, key(samples, name)):
                        pack.take(name)
                    else:
                        pack.add(name, next(rendered), key(samples, name))
                    progress.update()
            writers[str(category)] = pack
    log_reuse("render", writers, "rendered")


class _Task(NamedTuple):
    name: str
    sample: Sample


def _render(config: RenderParams, task: _Task) -> Views:
    return render_views(task.sample, image_size=config.image_size, cameras=config.cameras, views=config.views)
