"""One row of ``samples.csv`` per scored scan: who it is, what was decided, and the monitored numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gsclip.data.sample import Sample
from gsclip.features.encode import ViewTokens
from gsclip.monitoring.columns import EMBEDDING_COLUMNS, INPUT_COLUMNS, SCORE_COLUMNS
from gsclip.monitoring.statistics import sample_statistics, score_statistics
from gsclip.scores.prediction import Prediction
from gsclip.views.views import Views

if TYPE_CHECKING:
    import pandas as pd

SAMPLES_FILE = "samples.csv"
IDENTITY_COLUMNS = ("name", "dataset", "category", "split", "defect", "label", "role")
DECISION_COLUMNS = ("object_score", "decision", "threshold")
SAMPLE_COLUMNS = (
    *IDENTITY_COLUMNS,
    *DECISION_COLUMNS,
    *(column for column in SCORE_COLUMNS if column not in DECISION_COLUMNS),
    *INPUT_COLUMNS,
    *EMBEDDING_COLUMNS,
)


def sample_row(
    identity: Mapping[str, Any],
    sample: Sample,
    views: Views,
    tokens: ViewTokens,
    prediction: Prediction,
    threshold: float | None,
) -> dict[str, Any]:
    """One row.

    Args:
        identity: values of :data:`IDENTITY_COLUMNS` as far as they are known, such as a row of the index.
        sample: the scan.
        views: its views.
        tokens: its rendered tokens.
        prediction: its scores.
        threshold: decision threshold of the object score; ``None``: no decision.
    """
    score = prediction.object_score
    return {
        **{column: identity.get(column) for column in IDENTITY_COLUMNS},
        "object_score": score,
        "decision": None if threshold is None else int(score >= threshold),
        "threshold": threshold,
        **score_statistics(prediction),
        **sample_statistics(sample, views, tokens),
    }


def samples_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Table of rows, columns in the order of :data:`SAMPLE_COLUMNS`."""
    import pandas as pd

    return pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS)).astype({"label": "Int64", "decision": "Int64"})
