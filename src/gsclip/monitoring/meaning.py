"""What an alarm means, and what retraining can do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gsclip.monitoring.columns import EMBEDDING, SCORE_COLUMNS

REJECTED = "rejected_share"  # as a column: share of the scans that could not be scored


@dataclass(frozen=True)
class Meaning:
    """One kind of drift.

    Attributes:
        name: short.
        columns: any of these beyond its threshold is a sign of it.
        look_at: what to look at first.
        retraining: what retraining can and cannot do about it.
    """

    name: str
    columns: tuple[str, ...]
    look_at: str
    retraining: str


MEANINGS = (
    Meaning(
        "scans cannot be read",
        (REJECTED,),
        "the reasons in the log, or in `rejected.csv` of the batch: sensor, export, transport",
        "cannot help: the model never saw these scans",
    ),
    Meaning(
        "sensor noise",
        ("roughness", "normal_consistency"),
        "exposure, dirt on the optics, vibration, filters of the sensor's software",
        "cannot repair a sensor. Where the noise is here to stay, it helps if scans with this noise are among the "
        "training data; the procedural generator has the noise of one sensor and does not know another",
    ),
    Meaning(
        "missing points",
        ("gap_ratio", "points", "visible_share"),
        "reflections, shadows, a covered or misaligned projector, thinning on the way",
        "cannot bring points back, and defects in gaps stay unseen",
    ),
    Meaning(
        "size or sampling",
        ("extent_x", "extent_y", "extent_z", "spacing"),
        "unit of length, distance of the sensor, its resolution, crop of the scan; other parts",
        "cannot help with a wrong unit or distance: mend the source. Other parts: see there",
    ),
    Meaning(
        "other parts or another pose",
        (EMBEDDING, "rendered_mean", "rendered_std", "depth_mean", "depth_std"),
        "which parts were scanned and how they lay",
        "is not needed to score a new kind of part, for which the model is made, but its threshold has to be looked "
        "at. It helps where scans of the new parts, good and with defects, join the training data; without "
        "new data it gives the same model again",
    ),
    Meaning(
        "scores",
        SCORE_COLUMNS,
        "the parts with the highest scores: are they defective? Then the process has changed, and the model is right",
        "would teach the model to overlook defects if scans of defective parts went into the training data as good",
    ),
)
NO_ACCURACY = (
    "Drift says that scans or scores differ from the reference, not that decisions are wrong: without labels the "
    "accuracy is unknown. A retrained model takes over only if the gate finds it better on labelled samples."
)


def meanings(columns: Sequence[str]) -> tuple[Meaning, ...]:
    """Kinds of drift that the drifted columns are signs of, in the order of :data:`MEANINGS`."""
    return tuple(meaning for meaning in MEANINGS if set(meaning.columns) & set(columns))
