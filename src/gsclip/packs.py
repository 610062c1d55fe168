"""The packs of the steps up to the features: one of each kind per category."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from gsclip.data.sample import Sample
from gsclip.features.encode import ViewTokens
from gsclip.prompts.grouping import Grouping
from gsclip.storage import Pack
from gsclip.views.views import Views


class PackedSample(NamedTuple):
    """Everything about one sample that does not depend on what was learned."""

    sample: Sample
    views: Views
    tokens: ViewTokens
    grouping: Grouping


class IndexedSample(NamedTuple):
    """A packed sample and its row of the index."""

    row: dict[str, Any]
    packed: PackedSample

    @property
    def name(self) -> str:
        """Of the sample."""
        return str(self.row["name"])


@dataclass(frozen=True)
class CategoryPacks:
    """The opened packs of one category."""

    samples: Pack[Sample]
    views: Pack[Views]
    tokens: Pack[ViewTokens]
    groupings: Pack[Grouping]

    def read(self, name: str) -> PackedSample:
        """Read one sample whole."""
        return PackedSample(self.samples[name], self.views[name], self.tokens[name], self.groupings[name])


@dataclass(frozen=True)
class PackFolders:
    """Where the packs of the steps lie.

    Attributes:
        prepared: folder of ``<category>.h5``, packs of samples.
        views: folder of ``<category>.h5``, packs of views.
        features: folder of ``<category>.tokens.h5`` and ``<category>.grouping.h5``.
    """

    prepared: Path
    views: Path
    features: Path

    def paths(self, category: str) -> tuple[Path, Path, Path, Path]:
        """Files of one category: samples, views, tokens, groupings."""
        return (
            self.prepared / f"{category}.h5",
            self.views / f"{category}.h5",
            self.features / f"{category}.tokens.h5",
            self.features / f"{category}.grouping.h5",
        )

    def files(self, categories: Sequence[str]) -> list[Path]:
        """Files of some categories."""
        return [path for category in categories for path in self.paths(category)]

    @contextlib.contextmanager
    def open(self, category: str) -> Iterator[CategoryPacks]:
        """Open the packs of one category.

        Raises:
            InputError: when one is missing.
        """
        samples, views, tokens, groupings = self.paths(category)
        with (
            Pack(samples, Sample) as opened_samples,
            Pack(views, Views) as opened_views,
            Pack(tokens, ViewTokens) as opened_tokens,
            Pack(groupings, Grouping) as opened_groupings,
        ):
            yield CategoryPacks(opened_samples, opened_views, opened_tokens, opened_groupings)

    def read_all(self, index: pd.DataFrame) -> Iterator[IndexedSample]:
        """Read the samples of an index, one at a time, category by category.

        Raises:
            InputError: when a pack is missing.
        """
        for category, rows in index.groupby("category", sort=True):
            with self.open(str(category)) as packs:
                for row in rows.to_dict("records"):
                    named = {str(column): value for column, value in row.items()}
                    yield IndexedSample(named, packs.read(row["name"]))
