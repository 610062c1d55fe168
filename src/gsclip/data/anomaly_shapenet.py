"""Anomaly-ShapeNet (Li et al., CVPR 2024) in its official layout.

``<root>/<category>/{train,test}/<category>_<kind>N.pcd`` and ``<root>/<category>/GT/<category>_<kind>N.txt``,
x,y,z,label separated by commas. ``positive`` in the name: normal; else the kind: ``bulge``, ``concavity``, ``hole`` and
others.

In the archive the categories lie in ``dataset/pcd``. All clouds are closed surfaces, seen from everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gsclip.data.labelled_clouds import CloudLayout, clouds_index, read_row

__all__ = ["DATASET", "OFFICIAL_CATEGORIES", "anomaly_shapenet_index", "read_row"]

DATASET = "anomaly_shapenet"
OFFICIAL_CATEGORIES = (
    "ashtray0",
    "bag0",
    *(f"bottle{number}" for number in (0, 1, 3)),
    *(f"bowl{number}" for number in range(6)),
    *(f"bucket{number}" for number in range(2)),
    *(f"cap{number}" for number in (0, 3, 4, 5)),
    *(f"cup{number}" for number in range(2)),
    "eraser0",
    *(f"headset{number}" for number in range(2)),
    *(f"helmet{number}" for number in range(4)),
    "jar0",
    "microphone0",
    "shelf0",
    *(f"tap{number}" for number in range(2)),
    *(f"vase{number}" for number in (0, 1, 2, 3, 4, 5, 7, 8, 9)),
)
_CLOUDS = CloudLayout(
    DATASET,
    OFFICIAL_CATEGORIES,
    normal=("positive", "good"),
    templates=("template",),
    manner=(),
    expected="expected <root>/<category>/{train,test}/*.pcd and <root>/<category>/GT/*.txt",
)


def anomaly_shapenet_index(
    root: str | Path, categories: Sequence[str] | None = None, splits: Sequence[str] = ("test",)
) -> pd.DataFrame:
    """List the samples of Anomaly-ShapeNet; see :func:`gsclip.data.labelled_clouds.clouds_index`."""
    return clouds_index(_CLOUDS, root, categories, splits)
