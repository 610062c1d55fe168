"""Stage cross: cross-data-set evaluation, of the model on another data set than the one it was trained on."""

from __future__ import annotations

from pathlib import Path

from gsclip.commands import evaluate_dataset
from gsclip.params import Params
from gsclip.stages import common
from gsclip.storage import write_json


def cross(params: Params) -> None:
    """Write ``outputs/cross.json``: metrics as in ``metrics.json``, or why there are none."""
    if not params.cross.root:
        write_json(common.CROSS, {"skipped": "cross.root is empty: it names the folder of another data set"})
        return
    categories = params.cross.categories or None
    evaluate_dataset(params.cross.dataset, Path(params.cross.root), categories, common.MODEL, common.CROSS)


if __name__ == "__main__":
    common.run(cross)
