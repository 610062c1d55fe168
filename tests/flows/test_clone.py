"""What surrounds a retraining: its lock, its journal, secrets, its clone, files that have rotted."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flows import clone as clones
from flows.journal import Journal
from flows.locks import exclusive, held_locks
from flows.secrets import MASK, know_secrets, without_secrets

from gsclip.errors import InputError
from gsclip.promotion.champion import file_md5, folder_md5
from gsclip.promotion.registry import git

REPOSITORY = Path(__file__).parents[2]


def test_one_run_at_a_time_in_a_folder(tmp_path):
    with exclusive(tmp_path):
        assert len(held_locks()) == 1
        with (
            pytest.raises(InputError, match=rf"another run is at work there \(process {os.getpid()}\); wait until"),
            exclusive(tmp_path, patience=0),
        ):
            pass
    assert held_locks() == ()
    with exclusive(tmp_path, patience=0):
        pass


def test_a_lock_lasts_until_the_last_of_a_killed_run_is_gone(tmp_path):
    """The holder is killed; its child still works in the folder."""
    code = f"""
import subprocess, sys, time
from pathlib import Path
from flows.locks import exclusive, held_locks
with exclusive(Path({str(tmp_path)!r})):
    child = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    subprocess.Popen(child, stdin=sys.stdin, stdout=subprocess.DEVNULL, pass_fds=held_locks())
    print("held", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.wait()
        with pytest.raises(InputError, match="another run is at work"), exclusive(tmp_path, patience=0):
            pass
        holder.stdin.close()  # ends the child
        with exclusive(tmp_path, patience=30):
            pass


def test_the_journal_has_a_line_an_event(tmp_path, monkeypatch):
    monkeypatch.setenv("PLANT_API_TOKEN", "abcdef-secret")
    journal = Journal(tmp_path, "0123456789")
    with journal.step("pull") as facts:
        facts["files"] = 3
    with pytest.raises(RuntimeError), journal.step("push"):
        raise RuntimeError("no way to abcdef-secret\nand so on")
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert [(line["event"], line["step"]) for line in lines] == [
        ("started", "pull"), ("finished", "pull"), ("started", "push"), ("failed", "push"),
    ]  # fmt: skip
    assert {line["run"] for line in lines} == {"0123456789"}
    assert lines[1]["files"] == 3
    assert lines[1]["seconds"] >= 0
    assert lines[3]["error"] == f"RuntimeError: no way to {MASK}"


def test_durations_do_not_follow_the_clock(tmp_path, monkeypatch):
    journal = Journal(tmp_path, "run")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 86400)
    assert 0 <= journal.seconds() < 60


def test_secrets_are_masked(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("GSCLIP_PLAIN", "harmless-value")
    config = tmp_path / "config.local"
    config.write_text("['remote \"team\"']\n    url = s3://bucket\n    password = hunter2hunter2\n")
    know_secrets(config)
    text = "wJalrXUtnFEMI hunter2hunter2 https://me:pw@host/x s3://bucket harmless-value"
    assert without_secrets(text) == f"{MASK} {MASK} https://{MASK}@host/x s3://bucket harmless-value"


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    git("init", "--quiet", "--initial-branch", "main", folder)
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text("[core]\n    remote = local\n['remote \"local\"']\n    url = remote\n")
    (folder / ".gitignore").write_text("/data/.*/\n/.dvc/config.local\n/.gsclip/\n")
    (folder / "file.txt").write_text("committed")
    git("add", "--all", cwd=folder)
    git("commit", "--quiet", "--message", "one", cwd=folder)
    return folder


def prepare(source, work, branch=None):
    work.mkdir(exist_ok=True)
    return clones.prepare_clone(work, str(source), branch, lambda line: None)


def test_the_clone_is_brought_to_the_newest_commit_whatever_was_left_there(source, tmp_path):
    work = tmp_path / "work"
    clone = work / "clone"
    prepare(source, work)
    git("tag", "gsclip@v9.9.9", cwd=clone)  # made by a run that did not come to publish it
    (clone / "file.txt").write_text("half")
    (clone / "untracked").touch()
    (clone / "data" / ".prepared.x1y2").mkdir(parents=True)
    (clone / ".git" / "index.lock").touch()
    (work / ".clone.123").mkdir()
    (source / "file.txt").write_text("newer")
    git("commit", "--quiet", "--all", "--message", "two", cwd=source)
    (source / "file.txt").write_text("not committed")

    revision = prepare(source, work)
    assert revision == git("rev-parse", "HEAD", cwd=source).strip()
    assert (clone / "file.txt").read_text() == "newer"
    assert git("status", "--porcelain", "--ignored", cwd=clone).split() == ["!!", ".dvc/config.local"]
    assert git("tag", cwd=clone) == ""
    assert git("branch", "--show-current", cwd=clone).strip() == "retraining"
    assert not (work / ".clone.123").exists()


def test_the_clone_uses_the_remote_and_the_cache_of_a_folder_and_keeps_its_password_to_itself(source, tmp_path):
    (source / ".dvc" / "config.local").write_text("['remote \"local\"']\n    password = hunter3hunter3\n")
    prepare(source, tmp_path / "work")
    local = tmp_path / "work" / "clone" / ".dvc" / "config.local"
    text = local.read_text()
    assert f"url = {source}/.dvc/remote" in text
    assert f"dir = {source}/.dvc/cache" in text
    assert "hunter3hunter3" in text
    assert stat.S_IMODE(local.stat().st_mode) == 0o600
    assert without_secrets("hunter3hunter3") == MASK


def test_sources_that_cannot_be_used(source, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="has no branch other; name a branch"):
        prepare(source, tmp_path / "work", "other")
    other = tmp_path / "other"
    subprocess.run(["cp", "-r", source, other], check=True)
    with pytest.raises(InputError, match=r"holds a clone of .*; name another folder"):
        prepare(other, tmp_path / "work")
    with pytest.raises(InputError, match="is no git repository"):
        clones.find_source(str(tmp_path))
    with pytest.raises(InputError, match="use a git credential helper"):
        clones.find_source("https://me:secret@host/project")
    assert clones.find_source(None) == str(REPOSITORY)
    monkeypatch.setattr(clones, "FREE_BYTES", 1 << 60)
    with pytest.raises(InputError, match=r"MiB of the disk are free; free at least 1 GiB"):
        prepare(source, tmp_path / "work")


@pytest.fixture
def stage_output(tmp_path):
    """A project with one stage whose output is a folder of two files, here and in the cache."""
    folder = tmp_path / "clone"
    cache = folder / ".dvc" / "cache" / "files" / "md5"
    output = folder / "out"
    output.mkdir(parents=True)
    (folder / "dvc.yaml").write_text("stages: {make: {cmd: x, outs: [out]}}")
    rows = []
    for name in ("a", "b"):
        (output / name).write_text(f"content of {name}")
        rows.append({"md5": file_md5(output / name), "relpath": name})
    checksum = folder_md5(output)
    for md5, content in [(row["md5"], (output / row["relpath"]).read_text()) for row in rows] + [
        (checksum, json.dumps(rows, sort_keys=True))
    ]:
        path = cache / md5[:2] / md5[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o444)
    lock = {"stages": {"make": {"cmd": "x", "outs": [{"path": "out", "md5": checksum}]}}}
    (folder / "dvc.lock").write_text(json.dumps(lock))
    cached = {row["relpath"]: cache / row["md5"][:2] / row["md5"][2:] for row in rows}
    return folder, output, cached


def rot(path):
    path.chmod(0o644)
    path.write_text("rotten")


@pytest.mark.parametrize("place", ["here", "cache"])
def test_a_damaged_file_is_mended_from_the_other_copy(stage_output, place):
    folder, output, cached = stage_output
    rot(output / "a" if place == "here" else cached["a"])
    lines = []
    assert clones.restore_damaged(folder, lines.append, "make") == []
    assert lines == ["damaged here: a" if place == "here" else "damaged in the cache: a"]
    assert (output / "a").read_text() == cached["a"].read_text() == "content of a"
    assert clones.restore_damaged(folder, lines.append, "make") == []
    assert len(lines) == 1


def test_what_is_damaged_in_both_places_is_removed_from_both(stage_output):
    folder, output, cached = stage_output
    rot(output / "a")
    rot(cached["a"])
    assert clones.restore_damaged(folder, lambda line: None, "make") == ["out"]
    assert not (output / "a").exists()
    assert not cached["a"].exists()
    assert (output / "b").exists()
