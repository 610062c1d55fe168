"""Compares what two revisions of the project predict for the same test samples, with bounds of the differences."""

from __future__ import annotations

import tempfile
from pathlib import Path

from gsclip.data.datasets import TEST
from gsclip.errors import InputError
from gsclip.promotion.champion import fetch
from gsclip.promotion.gate import Change, compare
from gsclip.promotion.pairs import paired_scores
from gsclip.promotion.registry import GitError, Version, git
from gsclip.report.bundle import read_samples

PREDICTIONS, PREPARED = "outputs/predictions", "data/prepared"


def compare_revisions(
    project: Path, first: str, second: str, *, confidence: float = 0.9, repeats: int = 1000, seed: int = 0
) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """Differences of the second revision to the first one.

    Args:
        project: folder of the project, in git and DVC.
        first: experiment, branch, tag or commit; it stands as the champion.
        second: likewise, as the challenger.
        confidence: of each bound.
        repeats: resamples of the paired bootstrap.
        seed: of the draws.

    Returns:
        Means over the categories, and the categories with the greatest loss first; see
        :func:`gsclip.promotion.gate.compare`.

    Raises:
        InputError: what a revision predicted cannot be fetched, or the test samples differ.
    """
    with tempfile.TemporaryDirectory(prefix="gsclip-compare-") as cache:
        versions = [Version(revision, resolve(project, revision)) for revision in (first, second)]
        predictions = [fetch(str(project), version, Path(cache), PREDICTIONS) for version in versions]
        prepared = [fetch(str(project), version, Path(cache), PREPARED) for version in versions]
        if prepared[0] != prepared[1]:  # folders are named by their content
            raise InputError(second, f"has other prepared samples than {first}", "compare runs on the same data")
        samples = read_samples(predictions[1] / "samples.csv")
        tested = samples[samples["role"] == TEST].sort_values("name")
        means, categories = compare(
            paired_scores(tested, prepared[0], *predictions), confidence, repeats=repeats, seed=seed
        )
    return means, tuple(sorted(categories, key=lambda change: change.difference))


def resolve(project: Path, revision: str) -> str:
    """Commit of an experiment, a branch, a tag or a commit.

    Raises:
        InputError: there is none of this name.
    """
    try:
        experiments = git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps", cwd=project).splitlines()
        named = [line.split()[0] for line in experiments if line.rpartition("/")[2] == revision]
        return named[0] if named else git("rev-parse", "--verify", f"{revision}^{{commit}}", cwd=project).strip()
    except GitError as error:
        remedy = "name an experiment of `dvc exp show`, a branch, a tag or a commit"
        raise InputError(revision, "is no revision of this project", remedy) from error


def changes_text(changes: tuple[Change, ...]) -> str:
    """Changes as text, one a line, in per cent and points."""
    lines = []
    for change in changes:
        bounds = (
            "" if change.low is None or change.high is None
            else f"  bounds {100 * change.low:+.1f} to {100 * change.high:+.1f}"
        )  # fmt: skip
        name = "mean" if change.name == change.metric else change.name
        lines.append(
            f"{name:<20} {change.metric:<12} {100 * change.champion:6.1f} {100 * change.challenger:6.1f} "
            f"{100 * change.difference:+6.1f}{bounds}"
        )
    return "\n".join(lines)
