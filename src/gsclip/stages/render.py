"""Stage render: samples become nine rendered and depth views, one pack a category."""

from __future__ import annotations

from gsclip.params import Params
from gsclip.reuse import Store
from gsclip.stages import common
from gsclip.storage import atomic_directory
from gsclip.views.packing import write_views


def render(params: Params) -> None:
    """Write ``data/views``."""
    store = Store(common.PACKS / "render")
    with atomic_directory(common.VIEWS) as folder:
        write_views(common.index(), common.PREPARED, folder, params.render, store)
    store.keep(common.VIEWS)


if __name__ == "__main__":
    common.run(render)
