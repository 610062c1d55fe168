"""Stage render: samples become nine rendered and depth views, one pack a category."""

from __future__ import annotations

from tqdm import tqdm

from gsclip.data.sample import Sample
from gsclip.params import Params
from gsclip.stages import common
from gsclip.storage import Pack, atomic_directory, write_pack
from gsclip.views.renderer import render_views


def render(params: Params) -> None:
    """Write ``data/views``."""
    index = common.index()
    config = params.render
    with atomic_directory(common.VIEWS) as folder, tqdm(total=len(index), desc="render", mininterval=5) as progress:
        for category in sorted(set(index["category"])):
            file = f"{category}.h5"
            with Pack(common.PREPARED / file, Sample) as samples, write_pack(folder / file) as pack:
                for name, sample in samples:
                    views = render_views(
                        sample, image_size=config.image_size, cameras=config.cameras, views=config.views
                    )
                    pack.add(name, views)
                    progress.update()


if __name__ == "__main__":
    common.run(render)
