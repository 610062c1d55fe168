"""Renders a whole prepared data set, one pack a category."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tqdm import tqdm

from gsclip.data.sample import Sample
from gsclip.params import RenderParams
from gsclip.storage import Pack, write_pack
from gsclip.views.renderer import render_views


def write_views(index: pd.DataFrame, prepared: Path, folder: Path, config: RenderParams) -> None:
    """Write ``<category>.h5`` with the :class:`~gsclip.views.views.Views` of every sample of an index.

    Args:
        index: accepted samples.
        prepared: folder of the packs of samples.
        folder: where the packs of views go.
        config: of the views.
    """
    with tqdm(total=len(index), desc="render", mininterval=5) as progress:
        for category, rows in index.groupby("category", sort=True):
            file, members = f"{category}.h5", set(rows["name"])
            with Pack(prepared / file, Sample) as samples, write_pack(folder / file) as pack:
                for name in samples.names:
                    if name not in members:
                        continue
                    views = render_views(
                        samples[name], image_size=config.image_size, cameras=config.cameras, views=config.views
                    )
                    pack.add(name, views)
                    progress.update()
