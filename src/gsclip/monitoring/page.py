"""The page of a comparison, drawn by Evidently: distributions, distances and thresholds of every column."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gsclip.monitoring.columns import EMBEDDING, EMBEDDING_COLUMNS, VALUE_COLUMNS
from gsclip.monitoring.distances import spread, value_distance
from gsclip.storage import write_text

DISTANCE_NAME = "wasserstein_in_spreads"
# Evidently maps embeddings to the plane by t-SNE at perplexity 30: up to 30 rows it raises, and where all rows are
# equal it ends the process. Densities of very few distinct rows are singular.
PERPLEXITY = 30
DISTINCT_ROWS = 10
# Evidently names the page's parts by version 7 UUIDs, and the page's data by a random number.
_IDENTIFIER = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b|metric_[0-9a-f]{32}")


def map_obstacle(reference: pd.DataFrame, current: pd.DataFrame) -> str | None:
    """Say why Evidently cannot draw the map of the embeddings; ``None`` where it can."""
    windows = [frame[list(EMBEDDING_COLUMNS)].drop_duplicates() for frame in (reference, current)]
    together = len(pd.concat(windows).drop_duplicates())
    if together <= PERPLEXITY:
        return f"no map of the embeddings: it needs more than {PERPLEXITY} distinct ones, there are {together}"
    fewest = min(len(window) for window in windows)
    if fewest < DISTINCT_ROWS:
        return f"no map of the embeddings: each window needs {DISTINCT_ROWS} distinct ones, one has {fewest}"
    return None


def write_page(
    reference: pd.DataFrame, current: pd.DataFrame, thresholds: Mapping[str, float], path: Path, *, embedding_map: bool
) -> None:
    """Write a self-contained HTML page.

    Args:
        reference: monitored columns, finite.
        current: the same columns.
        thresholds: distance above which a column has drifted, by the names of the columns to show; ``embedding`` for
            the embedding.
        path: the file.
        embedding_map: whether to show the embeddings, see :func:`map_obstacle`.
    """
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings(), _seeded():
        warnings.simplefilter("ignore")  # of Evidently and of what it imports, at import and at run time
        page = _report(reference, current, thresholds, embedding_map).get_html_str(as_iframe=False)
    write_text(path, _number_identifiers(page))


def _report(
    reference: pd.DataFrame, current: pd.DataFrame, thresholds: Mapping[str, float], embedding_map: bool
) -> Any:  # noqa: ANN401 - Evidently's snapshot
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import EmbeddingsDrift
    from evidently.metrics.embeddings import DistanceDriftMethod
    from evidently.presets import DataDriftPreset

    _register_distance()
    values = [column for column in VALUE_COLUMNS if column in thresholds]
    drift = DataDriftPreset(
        columns=values,
        num_method=DISTANCE_NAME,
        per_column_threshold={column: thresholds[column] for column in values},
        drift_share=1 / len(values),  # one column is enough, as in the result
    )
    method = DistanceDriftMethod(dist="euclidean", threshold=thresholds[EMBEDDING])
    embedding = [EmbeddingsDrift(embeddings_name=EMBEDDING, drift_method=method)] if embedding_map else []
    definition = DataDefinition(numerical_columns=values, embeddings={EMBEDDING: list(EMBEDDING_COLUMNS)})
    columns = list(EMBEDDING_COLUMNS)
    scale = spread(reference[columns].to_numpy(), current[columns].to_numpy()) or 1.0
    windows = [
        Dataset.from_pandas(frame.assign(**(frame[columns] / scale)), data_definition=definition)
        for frame in (current, reference)
    ]
    return Report([drift, *embedding]).run(*windows)


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Start numpy's global generator, from which Evidently's t-SNE draws, at a fixed state; restore it afterwards."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _number_identifiers(page: str) -> str:
    """Replace time-dependent identifiers by their rank in the page, so that equal windows give equal bytes."""
    numbers: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        return numbers.setdefault(found.group(), f"part_{len(numbers)}")

    return _IDENTIFIER.sub(number, page)


def _register_distance() -> None:
    """Make :func:`~gsclip.monitoring.distances.value_distance` known to Evidently."""
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    def compare(
        reference: pd.Series, current: pd.Series, feature_type: ColumnType, threshold: float
    ) -> tuple[float, bool]:
        distance = value_distance(reference.to_numpy(), current.to_numpy())
        return distance, distance > threshold

    display_name = "Wasserstein distance in standard deviations of the reference"
    register_stattest(StatTest(DISTANCE_NAME, display_name, [ColumnType.Numerical]), compare)
