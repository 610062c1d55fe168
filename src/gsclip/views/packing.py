"""Renders a whole prepared data set, one pack a category."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tqdm import tqdm

from gsclip.data.sample import Sample
from gsclip.params import RenderParams
from gsclip.reuse import Store, code_digest, digest, log_reuse, reusing_pack
from gsclip.storage import Pack
from gsclip.views.renderer import render_views
from gsclip.views.views import Views

# What views depend on, beside the samples and the parameters.
CODE = ("data/geometry.py", "data/sample.py", "storage.py", "views/*.py")


def write_views(
    index: pd.DataFrame, prepared: Path, folder: Path, config: RenderParams, store: Store | None = None
) -> None:
    """Write ``<category>.h5`` with the :class:`~gsclip.views.views.Views` of every sample of an index.

    Args:
        index: accepted samples.
        prepared: folder of the packs of samples.
        folder: where the packs of views go.
        config: of the views.
        store: views of the last run, to be taken over where sample, parameters and code are the same.
    """
    step = digest(code_digest(CODE), config.model_dump())
    writers = {}
    with tqdm(total=len(index), desc="render", mininterval=5) as progress:
        for category, rows in index.groupby("category", sort=True):
            file, members = f"{category}.h5", set(rows["name"])
            with Pack(prepared / file, Sample) as samples, reusing_pack(folder / file, Views, store) as pack:
                for name in samples.names:
                    if name not in members:
                        continue
                    key = digest(step, samples.digest(name))
                    if pack.holds(name, key):
                        pack.take(name)
                    else:
                        views = render_views(
                            samples[name], image_size=config.image_size, cameras=config.cameras, views=config.views
                        )
                        pack.add(name, views, key)
                    progress.update()
            writers[str(category)] = pack
    log_reuse("render", writers, "rendered")
