"""What a run's metrics are held against: the champion's, or those of an earlier commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dashboards import runs
from dashboards.text import _


@dataclass(frozen=True)
class Baseline:
    """Metrics of another run.

    Attributes:
        key: commit, or key of a run.
        name: what a reader calls it.
        metrics: as in ``metrics.json``.
    """

    key: str
    name: str
    metrics: Mapping[str, Any]


def baselines(workspace: Path, metrics: Mapping[str, Any]) -> list[Baseline]:
    """Earlier metrics that may be compared with these: of the same data set and the same categories.

    The champion's first; then those of commits, the newest first. Of commits in a row with equal metrics the newest
    counts, and metrics equal to these are left out unless they are the champion's.
    """
    found: list[Baseline] = []
    last: Mapping[str, Any] | None = metrics
    for revision in runs.revisions(workspace):
        other = runs.metrics_at(workspace, revision.commit)
        if not other or not comparable(metrics, other):
            continue
        if revision.champion:
            name = _("champion {version}").format(version=revision.version or revision.commit[:8])
        elif last is not None and other["mean"] == last["mean"]:
            continue
        else:
            name = f"{revision.version or revision.commit[:8]} · {revision.date} · {revision.subject[:48]}"
            last = other
        found.append(Baseline(revision.commit, name, other))
    return found


def comparable(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two metrics are about the same data set, categories and number of samples."""
    facts = [metrics.get("data", {}) for metrics in (first, second)]
    one, two = ([fact.get(key) for key in ("dataset", "test_categories", "samples")] for fact in facts)
    return one == two


def difference(metrics: Mapping[str, Any], baseline: Baseline | None, name: str) -> float | None:
    """Difference of one mean metric to a baseline's; ``None`` where either is missing."""
    if baseline is None:
        return None
    ours, other = (mean.get(name, {}).get("ours") for mean in (metrics["mean"], baseline.metrics["mean"]))
    return None if ours is None or other is None else float(ours) - float(other)
