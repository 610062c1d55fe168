"""The registry: read from tags, written by gto, gone back in; the champion's files, fetched and checked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from gto.api import find_versions_in_stage
from typer.testing import CliRunner

from gsclip.cli import app
from gsclip.errors import InputError
from gsclip.promotion.champion import VARIABLE, champion_model, fetch, folder_md5
from gsclip.promotion.registry import (
    Registry,
    assign,
    describe,
    git,
    parse_tags,
    promote,
    read_registry,
    register,
    rollback,
    table,
    without_credentials,
)

TAGS = """
1a refs/tags/gsclip@v0.1.0
c1 refs/tags/gsclip@v0.1.0^{}
2a refs/tags/gsclip@v0.10.0
c3 refs/tags/gsclip@v0.10.0^{}
3a refs/tags/gsclip@v0.2.0
c2 refs/tags/gsclip@v0.2.0^{}
c3 refs/tags/gsclip#champion#10
c1 refs/tags/gsclip#champion#1
c2 refs/tags/gsclip#challenger#2
c9 refs/tags/v7
c9 refs/tags/other@v1.0.0
"""


def test_tags_are_read_by_their_numbers():
    registry = parse_tags(TAGS.split("\n"))
    assert [version.version for version in registry.versions] == ["v0.1.0", "v0.2.0", "v0.10.0"]
    assert registry.champion == ("v0.10.0", "c3")
    assert registry.challenger == ("v0.2.0", "c2")
    assert registry.next_version == "v0.11.0"
    assert [line.split() for line in table(registry).splitlines()] == [
        ["v0.10.0", "c3", "champion"], ["v0.2.0", "c2", "challenger"], ["v0.1.0", "c1", "next", "rollback"],
    ]  # fmt: skip


def test_withdrawn_versions_are_left_out():
    registry = parse_tags([*TAGS.split("\n"), "c3 refs/tags/gsclip@v0.10.0!"])
    assert registry.champion == ("v0.1.0", "c1")


def test_going_back_forgets_what_came_after():
    versions = "".join(f"c{n} refs/tags/gsclip@v0.{n}.0\n" for n in (1, 2, 3))

    def champions(*order):
        tags = "".join(f"c{n} refs/tags/gsclip#champion#{number}\n" for number, n in enumerate(order, 1))
        return [version.commit for version in parse_tags((versions + tags).splitlines()).champions]

    assert champions(1, 2, 3) == ["c1", "c2", "c3"]
    assert champions(1, 2, 3, 2) == ["c1", "c2"]
    assert champions(1, 2, 3, 2, 1, 3) == ["c1", "c3"]


def test_an_empty_registry():
    assert Registry().champion is None
    assert Registry().next_version == "v0.1.0"
    assert table(Registry()) == "No version is registered."


def test_credentials_do_not_show():
    assert without_credentials("push to https://me:secret@host/x failed") == "push to https://***@host/x failed"


@pytest.fixture
def repository(tmp_path):
    """Two registered versions, the second one the champion."""
    folder = tmp_path / "repository"
    git("init", "--quiet", "--initial-branch", "main", folder)
    for number in (1, 2):
        git("commit", "--quiet", "--allow-empty", "--message", f"model {number}", cwd=folder)
        register(folder, f"v0.{number}.0", f"version {number}")
        assign(folder, f"v0.{number}.0", "champion", "gate")
    return folder


def test_rollback_and_promotion(repository):
    first, second = read_registry(repository).versions
    head = git("rev-parse", "HEAD", cwd=repository)
    assert read_registry(repository).champion == second
    assert rollback(repository) == (second, first)
    assert read_registry(repository).champion == first
    with pytest.raises(InputError, match="no earlier champion; promote another version"):
        rollback(repository)
    assert promote(repository, "v0.2.0") == second
    assert read_registry(repository).champions == (first, second)
    with pytest.raises(InputError, match="is the champion already"):
        promote(repository, "v0.2.0")
    with pytest.raises(InputError, match=r"v0\.9\.0: is not registered; name one of: v0\.1\.0, v0\.2\.0"):
        promote(repository, "v0.9.0")
    assert "rollback from v0.2.0" in describe(repository, "v0.1.0")
    assert (git("rev-parse", "HEAD", cwd=repository), git("status", "--porcelain", cwd=repository)) == (head, "")


def test_gto_itself_reads_the_same(repository):
    assert find_versions_in_stage(str(repository), "gsclip", "champion")[0].version == "v0.2.0"


def test_a_clock_that_goes_back_does_not_change_the_order(repository, monkeypatch):
    import time

    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 400 * 86400)
    git("commit", "--quiet", "--allow-empty", "--message", "model 3", cwd=repository)
    register(repository, "v0.3.0", "version 3")
    assign(repository, "v0.3.0", "champion", "gate")
    assert read_registry(repository).champion.version == "v0.3.0"


def test_commands(repository):
    run = CliRunner(env={VARIABLE: str(repository)})
    assert run.invoke(app, ["registry", "rollback"]).output == "champion: v0.1.0 (was v0.2.0)\n"
    assert "v0.1.0" in run.invoke(app, ["registry", "list"]).output
    assert run.invoke(app, ["registry", "promote", "v0.2.0"]).output == "champion: v0.2.0\n"
    assert "version 2" in run.invoke(app, ["registry", "show", "v0.2.0"]).output
    failed = run.invoke(app, ["registry", "list", "--repository", str(repository / "missing")])
    assert failed.exit_code == 2


def test_scoring_without_model_and_registry_asks_for_one(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert champion_model() is None
    done = CliRunner().invoke(app, ["score", "x.ply", "--output", str(tmp_path)])
    assert done.exit_code == 2


def test_a_registry_without_champion_is_told(tmp_path):
    git("init", "--quiet", tmp_path)
    with pytest.raises(InputError, match="the registry has no champion; promote a version"):
        champion_model(str(tmp_path))


def dvc(folder, *arguments):
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": tools, "DVC_NO_ANALYTICS": "1"}
    subprocess.run(["dvc", *arguments], cwd=folder, env=environment, check=True, capture_output=True)


@pytest.mark.slow
def test_the_champion_is_fetched_checked_and_mended(tmp_path, monkeypatch):
    for name in ("DVC_SITE_CACHE_DIR", "DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "project"
    git("init", "--quiet", folder)
    dvc(folder, "init", "--quiet")
    dvc(folder, "remote", "add", "--quiet", "--default", "store", str(tmp_path / "store"))
    (folder / "dvc.yaml").write_text(
        "stages:\n  train:\n    cmd: mkdir -p models/gsclip/sub && cd models/gsclip && echo 1 > a && echo 2 > sub/b\n"
        "    outs: [models/gsclip]\nartifacts:\n  gsclip: {path: models/gsclip, type: model}\n"
    )
    dvc(folder, "repro", "--quiet")
    git("add", "--all", cwd=folder)
    git("commit", "--quiet", "--message", "model", cwd=folder)
    register(folder, "v0.1.0", "first")
    assign(folder, "v0.1.0", "champion", "gate")
    dvc(folder, "push", "--quiet")
    monkeypatch.setenv(VARIABLE, str(folder))
    model = champion_model()
    assert (model / "sub" / "b").read_text() == "2\n"
    assert folder_md5(model) == folder_md5(folder / "models" / "gsclip")
    (model / "a").write_text("rotten")
    assert (champion_model() / "a").read_text() == "1\n"

    for store in (tmp_path / "store", folder / ".dvc" / "cache"):
        store.rename(tmp_path / f"{store.name}-gone")
    version = read_registry(folder).champion
    with pytest.raises(InputError, match=r"v0\.1\.0 of .*: its files cannot be fetched .*--model"):
        fetch(str(folder), version, tmp_path / "other")
    assert champion_model() == model  # it is here, and whole
