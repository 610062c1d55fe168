"""Real3D-AD (Liu et al., NeurIPS 2023) in its official layout.

``<root>/<category>/{train,test}/NNN_<kind>.pcd`` and ``<root>/<category>/gt/NNN_<kind>.txt``, x y z label separated by
spaces. ``good`` in the name: normal; else the kind: ``bulge`` or ``sink``. Further samples were made by copying and by
cutting edges (``_copy``, ``_cut``). Prototypes for training were scanned all around.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gsclip.data.labelled_clouds import CloudLayout, clouds_index, read_row

__all__ = ["DATASET", "OFFICIAL_CATEGORIES", "read_row", "real3d_ad_index"]

DATASET = "real3d_ad"
OFFICIAL_CATEGORIES = (
    "airplane",
    "candybar",
    "car",
    "chicken",
    "diamond",
    "duck",
    "fish",
    "gemstone",
    "seahorse",
    "shell",
    "starfish",
    "toffees",
)
_CLOUDS = CloudLayout(
    DATASET,
    OFFICIAL_CATEGORIES,
    normal=("good",),
    templates=("template", "prototype"),
    manner=("cut", "copy"),
    expected="expected <root>/<category>/{train,test}/*.pcd and <root>/<category>/gt/*.txt",
)


def real3d_ad_index(
    root: str | Path, categories: Sequence[str] | None = None, splits: Sequence[str] = ("test",)
) -> pd.DataFrame:
    """List the samples of Real3D-AD; see :func:`gsclip.data.labelled_clouds.clouds_index`."""
    return clouds_index(_CLOUDS, root, categories, splits)
