"""Runs that can be shown: the files of the pipeline, folders below ``runs``, and what git and DVC keep of earlier ones.

Of an earlier revision git has metrics and parameters; the scores of its samples come from DVC's cache or remote.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
import yaml

from dashboards.data import METRICS_FILE, SAMPLES_FILE
from gsclip.errors import InputError
from gsclip.promotion.registry import NAME, parse_tags

CURRENT = "current"
RUNS_FOLDER = "runs"
PARAMS_FILE = "params.yaml"
PATIENCE = 20  # seconds for one call of git
SHOWN_REVISIONS = 15


@dataclass(frozen=True)
class Run:
    """A run with all its files.

    Attributes:
        key: in links.
        root: folder that holds ``data`` and ``outputs``.
    """

    key: str
    root: Path

    @property
    def name(self) -> str:
        """What a reader calls it."""
        return self.key.removeprefix(f"{RUNS_FOLDER}/")


@dataclass(frozen=True)
class Revision:
    """An earlier run in git.

    Attributes:
        commit: hexadecimal.
        date: of the commit, ISO 8601.
        subject: first line of the commit's message.
        version: tag of the model's version, such as ``gsclip@v1.2.0``; empty for none.
        champion: whether the model of this commit is the champion.
    """

    commit: str
    date: str
    subject: str
    version: str = ""
    champion: bool = False


def find_runs(workspace: Path) -> list[Run]:
    """Runs with files: those of the pipeline first, then the folders below ``runs`` by name."""
    found = [Run(CURRENT, workspace)]
    try:
        folders = sorted(path for path in (workspace / RUNS_FOLDER).iterdir() if not path.name.startswith("."))
    except OSError:
        folders = []
    found += [Run(f"{RUNS_FOLDER}/{path.name}", path) for path in folders if _holds_run(path)]
    if len(found) > 1 and not _holds_run(workspace):
        found = [*found[1:], found[0]]
    return found


def _holds_run(root: Path) -> bool:
    return (root / METRICS_FILE).is_file() or (root / SAMPLES_FILE).is_file()


def revisions(workspace: Path) -> list[Revision]:
    """Commits that changed the metrics, the champion's first, then the newest; none outside of a git repository."""
    return _revisions(str(workspace), _head(workspace))


@st.cache_data(max_entries=4, show_spinner=False)
def _revisions(workspace: str, head: str) -> list[Revision]:
    root = Path(workspace)
    if not head:
        return []
    champion, versions = _tags(root)
    form = "--format=%H%x1f%cs%x1f%s"
    listed = _git(root, "log", f"-n{SHOWN_REVISIONS}", form, "HEAD", "--", METRICS_FILE) or ""
    lines = listed.splitlines()
    if champion and not any(line.startswith(champion) for line in lines):
        lines += (_git(root, "log", "-n1", form, champion) or "").splitlines()
    found = []
    for line in lines:
        commit, date, subject = [*line.split("\x1f"), "", ""][:3]
        found.append(Revision(commit, date, subject, versions.get(commit, ""), commit == champion))
    return sorted(found, key=lambda revision: not revision.champion)


def metrics_at(workspace: Path, commit: str) -> dict[str, Any]:
    """Metrics of a commit; empty where it has none."""
    text = _show(str(workspace), commit, METRICS_FILE)
    try:
        content = json.loads(text) if text else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("mean"), dict) else {}


def params_at(workspace: Path, commit: str | None) -> dict[str, Any]:
    """Parameters of a commit, of the folder itself for ``None``: values by ``group.name``."""
    if commit is None:
        try:
            text: str | None = (workspace / PARAMS_FILE).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return {}
    else:
        text = _show(str(workspace), commit, PARAMS_FILE)
    try:
        content = yaml.safe_load(text or "")
    except yaml.YAMLError:
        return {}
    groups = content if isinstance(content, dict) else {}
    return {
        f"{group}.{name}": value
        for group, values in groups.items()
        for name, value in (values.items() if isinstance(values, dict) else [("", values)])
    }


@st.cache_data(max_entries=4, show_spinner=False)
def samples_at(workspace: str, commit: str) -> pd.DataFrame:
    """Scores of the samples at a commit, from DVC's cache or remote.

    Raises:
        InputError: when DVC does not have them.
    """
    import tempfile

    import dvc.api

    from gsclip.report.bundle import read_samples

    place = f"{SAMPLES_FILE} of {commit[:8]}"
    try:
        with dvc.api.open(SAMPLES_FILE, repo=workspace, rev=commit, mode="rb") as file:
            content = file.read()
    except Exception as error:  # of DVC, git, the remote: whatever they raise, the scores are not there
        remedy = "run `dvc fetch --all-commits`, or choose another revision"
        raise InputError(place, "the scores of its parts are not in DVC's cache", remedy) from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.csv"
        path.write_bytes(content)
        return read_samples(path)


def _tags(root: Path) -> tuple[str, dict[str, str]]:
    """Commit of the champion, empty for none, and versions by commit, as the registry has them."""
    registry = parse_tags((_git(root, "show-ref", "--tags", "--dereference") or "").splitlines())
    versions = {member.commit: f"{NAME}@{member.version}" for member in registry.versions}
    return (registry.champion.commit if registry.champion else ""), versions


@st.cache_data(max_entries=64, show_spinner=False)
def _show(workspace: str, commit: str, path: str) -> str | None:
    return _git(Path(workspace), "show", f"{commit}:./{path}")


def _head(root: Path) -> str:
    return (_git(root, "rev-parse", "HEAD") or "").strip()


def _git(root: Path, *arguments: str) -> str | None:
    """Output of git; ``None`` where it fails, is missing, or the folder is in no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, timeout=PATIENCE, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout
