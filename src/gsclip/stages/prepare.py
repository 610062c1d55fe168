"""Stage prepare: scans of the data set become samples, background removed, one pack a category."""

from __future__ import annotations

from gsclip.data.datasets import warn_of_cameras
from gsclip.data.preparing import prepare_dataset
from gsclip.params import Params
from gsclip.reuse import Store
from gsclip.stages import common
from gsclip.storage import atomic_directory


def prepare(params: Params) -> None:
    """Write ``data/prepared``."""
    warn_of_cameras(params.prepare.dataset, params.render.cameras)
    store = Store(common.PACKS / "prepare")
    with atomic_directory(common.PREPARED) as folder:
        prepare_dataset(params.prepare, folder, store)
    store.keep(common.PREPARED)


if __name__ == "__main__":
    common.run(prepare)
