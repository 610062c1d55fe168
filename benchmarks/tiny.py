"""Parameters of the pipeline as small as they go: for tests of it and for faults in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

TINY: dict[str, dict[str, Any]] = {
    "prepare": {"auxiliary_categories": ["castle_nut"], "test_categories": ["elbow", "ring_cake"],
                "auxiliary_samples": 4, "calibration_samples": 4, "test_samples": 4},
    "render": {"views": 2},
    "features": {"cloud_points": 512},
    "stage1": {"epochs": 2},
    "stage2": {"epochs": 1},
    "evaluate": {"bootstrap_repeats": 50},
    "experiments": {"seeds": [0], "one_vs_rest": ["castle_nut"]},
    "report": {"gallery": 1},
}  # fmt: skip


def shrink(parameters: Path, further: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Put the values of :data:`TINY`, and further ones, into a ``params.yaml``."""
    params = yaml.safe_load(parameters.read_text(encoding="utf-8"))
    for groups in (TINY, further or {}):
        for group, values in groups.items():
            params[group].update(values)
    parameters.write_text(yaml.safe_dump(params), encoding="utf-8")
