"""What an ablation varies: each row changes a few parameters and leaves the others as they are (method, section 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gsclip.params import Params


@dataclass(frozen=True)
class Variant:
    """One row of an ablation.

    Attributes:
        name: the row's, in tables.
        changes: by group of parameters, what differs.
        seeded: whether another seed gives another result; rows that learn nothing run once.
        published: name of the same row in the paper's Table 4; ``None`` where it has none.
    """

    name: str
    changes: Mapping[str, Mapping[str, Any]]
    seeded: bool = True
    published: str | None = None

    def apply(self, params: Params, seed: int) -> Params:
        """Parameters of this row under a seed of the training."""
        values = params.model_dump()
        for group, changes in self.changes.items():
            values[group].update(changes)
        for stage in ("stage1", "stage2"):
            values[stage]["seed"] = seed
        return Params.model_validate(values)


PAPER_SCORES = {"self_similarity": 0.0, "map_weight": 0.5}


def _variant(
    name: str, *, shape: bool, defect: bool, streams: bool, consistency: bool, published: str | None
) -> Variant:
    stage2: dict[str, Any] = {"depth_stream": streams}
    if not consistency:
        stage2["consistency_weight"] = 0.0
    stage1 = {"prompts": "learned", "shape_prompt": shape, "defect_prompt": defect}
    changes = {"stage1": stage1, "stage2": stage2, "predict": PAPER_SCORES}
    return Variant(name, changes, published=published)


HAND_WRITTEN = {"prompts": "hand_written"}

ABLATION: tuple[Variant, ...] = (
    Variant(
        "hand-written prompts (CLIP baseline)",
        {"stage1": HAND_WRITTEN, "stage2": {"depth_stream": False}, "predict": PAPER_SCORES},
        seeded=False,
    ),
    Variant(
        "hand-written prompts, both streams untrained",
        {"stage1": HAND_WRITTEN, "stage2": {"depth_stream": True, "epochs": 0}, "predict": PAPER_SCORES},
        seeded=False,
    ),
    _variant(
        "learned prompts (PointAD-like)",
        shape=False, defect=False, streams=False, consistency=False, published="render + learnable prompt",
    ),
    _variant("+ SRM", shape=False, defect=False, streams=True, consistency=False, published="+ SRM"),
    _variant("+ SRM + shape", shape=True, defect=False, streams=True, consistency=False, published="+ SRM + shape"),
    _variant("+ SRM + defect", shape=False, defect=True, streams=True, consistency=False, published="+ SRM + defect"),
    _variant(
        "+ SRM + shape + defect",
        shape=True, defect=True, streams=True, consistency=False, published="+ SRM + shape + defect",
    ),
    _variant(
        "+ SRM + shape + defect + L_con (GS-CLIP)",
        shape=True, defect=True, streams=True, consistency=True, published="+ SRM + shape + defect + L_con",
    ),
)  # fmt: skip
"""The rows of the paper's Table 4, under the two baselines that learn nothing."""

SHIPPED = Variant("GS-CLIP and self-similarity, as it ships", {})
"""All parameters as they are given."""
