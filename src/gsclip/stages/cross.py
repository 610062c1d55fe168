"""Stage cross: cross-data-set evaluation, of the model on another data set than the one it was trained on."""

from __future__ import annotations

import logging
from pathlib import Path

from gsclip.commands.evaluate import evaluate_dataset
from gsclip.params import Params
from gsclip.stages import common
from gsclip.storage import write_json


def cross(params: Params) -> None:
    """Write ``outputs/cross.json``: metrics as in ``metrics.json``, or why there are none."""
    if not params.cross.root:
        write_json(common.CROSS, {"skipped": "cross.root is empty: it names the folder of another data set"})
        return
    _, rejected = evaluate_dataset(
        params.cross.dataset,
        Path(params.cross.root),
        params.cross.categories or None,
        common.MODEL,
        common.CROSS,
        settings=params.evaluate,
    )
    for error in rejected:
        logging.getLogger(__name__).warning("rejected: %s", error)


if __name__ == "__main__":
    common.run(cross)
