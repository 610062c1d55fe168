"""The clone in which the retraining works: made, brought to a commit, verified, published. No other folder is written.

::

    <work>/lock      held while a run works here
    <work>/clone/    git clone of the source, branch ``retraining``
    <work>/logs/     one file of JSON lines a run

Everything below ``<work>`` may be deleted while no run works there: it costs time, nothing else.

A clone of a folder of this machine shares the folder's DVC cache (by content, written atomically) and its remotes.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from configobj import ConfigObj

from flows.pipeline import LOCK_FILE, StageError, run_command
from flows.secrets import know_secrets
from gsclip.errors import InputError
from gsclip.promotion.champion import file_md5
from gsclip.promotion.registry import GitError, git
from gsclip.storage import atomic_path

BRANCH = "retraining"
FREE_BYTES = 1 << 30
HALF_WRITTEN = ("data/.*", "models/.*", "outputs/.*", "outputs/*/.*")
AGAIN = "See that it can be reached and written, then run again: what is finished is kept, nothing was published."
Log = Callable[[str], None]


def find_source(source: str | None) -> str:
    """The repository that is retrained: an address, or an absolute path; by default the one that holds this file.

    Raises:
        InputError: a folder that is no git repository, or an address with a password.
    """
    if source is not None and "://" in source:
        if "@" in source.split("://")[1].split("/")[0] and not source.startswith("ssh://"):
            raise InputError(
                "source", "an address with user name or password would stand in the logs", "use a git credential helper"
            )
        return source
    folder = Path(__file__).parents[1] if source is None else Path(source)
    try:
        return git("rev-parse", "--show-toplevel", cwd=folder).strip()
    except (GitError, OSError) as error:
        raise InputError(folder, "is no git repository", "name the folder of a clone of the project") from error


def prepare_clone(work: Path, source: str, branch: str | None, log: Log) -> str:
    """Bring the clone to the newest commit of the source, whatever an earlier run left there.

    Args:
        work: folder of the clone.
        source: see :func:`find_source`.
        branch: of the source; ``None``: the one that is checked out there (of a bare repository: its default).
        log: takes lines of output.

    Returns:
        The commit.

    Raises:
        InputError: no space, another source's clone, no such branch.
        StageError: the source cannot be fetched.
    """
    free = shutil.disk_usage(work).free
    if free < FREE_BYTES:
        raise InputError(work, f"only {free // 2**20} MiB of the disk are free", "free at least 1 GiB, then run again")
    clone = work / "clone"
    for leftover in work.glob(".clone.*"):
        shutil.rmtree(leftover)
    if not (clone / ".git").is_dir():
        temporary = work / f".clone.{os.getpid()}"
        _run(["git", "clone", "--quiet", "--no-checkout", source, str(temporary)], work, log, "the clone")
        temporary.replace(clone)
    # Of a git and a DVC that were killed: whoever holds the folder's lock is the only one here.
    _remove([*(clone / ".git").rglob("*.lock"), clone / ".dvc" / "tmp" / "rwlock"])
    if (origin := git("remote", "get-url", "origin", cwd=clone).strip()) != source:
        raise InputError(work, f"holds a clone of {origin}", "name another folder, or delete this one")
    # Tags and branches are the source's: what an earlier run made and did not publish is dropped and made again.
    refs = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
    _run(["git", "fetch", "--quiet", "--prune", "--force", "origin", *refs], clone, log, "the fetch")
    try:
        if branch is None:
            git("remote", "set-head", "origin", "--auto", cwd=clone)
        revision = git("rev-parse", "--verify", f"refs/remotes/origin/{branch or 'HEAD'}^{{commit}}", cwd=clone).strip()
    except GitError as error:
        raise InputError(source, f"has no branch {branch or 'that is checked out'}", "name a branch") from error
    git("checkout", "--quiet", "--force", "-B", BRANCH, revision, cwd=clone)
    git("clean", "--quiet", "-ffd", cwd=clone)
    _remove_half_written(clone)
    _configure_dvc(clone, source)
    return revision


def pull_data(clone: Path, log: Log) -> int:
    """Bring raw data (every ``.dvc`` file of the commit) here, and the results that the remote has.

    Raises:
        StageError: raw data cannot be fetched.
    """
    files = git("ls-files", "*.dvc", cwd=clone).split()
    if files:
        _run(["dvc", "--wait-for-lock", "pull", "--force", *files], clone, log, "pulling the data")
    if (clone / LOCK_FILE).is_file():
        # Results that nobody pushed are made again.
        _run(["dvc", "--wait-for-lock", "pull", "--force", "--allow-missing"], clone, log, "pulling results")
    return len(files)


def restore_damaged(clone: Path, log: Log, stage: str | None = None) -> list[str]:
    """Compare files with the checksums of ``dvc.lock``, here and in DVC's cache; mend what one of the two has whole.

    DVC itself trusts its cache: a file that rotted there would be used, and pushed.

    Args:
        clone: the DVC project.
        log: told about what was damaged.
        stage: whose outputs; ``None``: the raw data of all ``.dvc`` files.

    Returns:
        Outputs that are whole in neither place; they were removed from both, to be made or pulled again.
    """
    lost = []
    cache = _cache(clone)
    for out in _outs(clone, stage):
        place, checksum = clone / out["path"], str(out["md5"])
        files = [(place, checksum)]
        if checksum.endswith(".dir"):
            listing = _object(cache, checksum)
            if not listing.is_file() or file_md5(listing) != checksum.removesuffix(".dir"):
                log(f"damaged in the cache: list of files of {out['path']}")
                lost.append(out["path"])
                _remove([listing, place])
                continue
            files = [(place / row["relpath"], row["md5"]) for row in json.loads(listing.read_text(encoding="utf-8"))]
        for path, md5 in files:
            cached = _object(cache, md5)
            here = path.is_file() and file_md5(path) == md5
            there = cached.is_file() and file_md5(cached) == md5
            if here and there:
                continue
            if not out.get("cache", True) and here:
                continue
            log(f"damaged {'in the cache' if here else 'here' if there else 'here and in the cache'}: {path.name}")
            if here or there:
                _copy(path if here else cached, cached if here else path)
            else:
                _remove([path, cached])
                lost.append(out["path"])
    return sorted(set(lost))


def commit_results(clone: Path, message: str) -> str:
    """Commit what the pipeline changed; return the commit."""
    git("add", "--all", cwd=clone)
    if git("status", "--porcelain", cwd=clone).strip():
        git("commit", "--quiet", "--message", message, cwd=clone)
    return git("rev-parse", "HEAD", cwd=clone).strip()


def push_bytes(clone: Path, log: Log) -> None:
    """Push data and models to the DVC remote.

    Raises:
        StageError: it cannot be reached or written.
    """
    _run(["dvc", "--wait-for-lock", "push"], clone, log, "pushing data and models")


def push_commit(clone: Path, tags: Sequence[str], log: Log) -> None:
    """Publish the branch and new tags, all or none of them.

    Raises:
        StageError: the source cannot be reached, or something else was published meanwhile.
    """
    references = [f"HEAD:refs/heads/{BRANCH}", *(f"refs/tags/{tag}" for tag in tags)]
    expected = git("for-each-ref", "--format=%(objectname)", f"refs/remotes/origin/{BRANCH}", cwd=clone).strip()
    lease = f"--force-with-lease=refs/heads/{BRANCH}:{expected}"
    _run(["git", "push", "--quiet", "--atomic", lease, "origin", *references], clone, log, "publishing the version")


def _run(command: Sequence[str], folder: Path, log: Log, label: str) -> None:
    program = " ".join(word for word in command[:3] if not word.startswith("--"))
    try:
        run_command(command, folder, log, label, program)
    except StageError as error:
        raise StageError(f"{error}\n{AGAIN}") from error


def _remove_half_written(clone: Path) -> None:
    """Remove what a killed stage left beside its outputs (see :func:`gsclip.storage.atomic_path`)."""
    for pattern in HALF_WRITTEN:
        _remove([path for path in clone.glob(pattern) if path.name != ".gitignore"])


def _configure_dvc(clone: Path, source: str) -> None:
    """Settings of the source that are not in git: its remotes, their credentials, its cache; readable by us alone."""
    local = clone / ".dvc" / "config.local"
    dvc = Path(source) / ".dvc"
    if "://" in source or not dvc.is_dir():
        if local.is_file():
            know_secrets(local)
        return
    settings = _config(dvc / "config.local")
    both = _config(dvc / "config")
    both.merge(settings)
    for section, values in both.items():
        if section.startswith('remote "') and "://" not in values.get("url", "://"):
            settings.setdefault(section, {})["url"] = str((dvc / values["url"]).resolve())
    cache = both.get("cache", {}).get("dir", "cache")
    settings.setdefault("cache", {})["dir"] = str((dvc / cache).resolve())
    content = io.BytesIO()
    settings.write(content)
    temporary = local.with_name(".config.local")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content.getvalue())
    temporary.replace(local)
    know_secrets(local)


def _config(path: Path) -> ConfigObj:
    """Content of a configuration of DVC, without its file; empty where there is none."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return ConfigObj(lines, encoding="utf-8", interpolation=False)


def _cache(clone: Path) -> Path:
    folder = _config(clone / ".dvc" / "config.local").get("cache", {}).get("dir")
    folder = folder or _config(clone / ".dvc" / "config").get("cache", {}).get("dir", "cache")
    return Path(clone / ".dvc" / str(folder))


def _object(cache: Path, checksum: str) -> Path:
    return cache / "files" / "md5" / checksum[:2] / checksum[2:]


def _outs(clone: Path, stage: str | None) -> list[dict[str, Any]]:
    if stage is not None:
        content = yaml.safe_load((clone / LOCK_FILE).read_text(encoding="utf-8"))["stages"].get(stage, {})
        declared = yaml.safe_load((clone / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]
        uncached = {
            next(iter(entry))
            for group in ("outs", "metrics", "plots")
            for entry in declared.get(group) or []
            if isinstance(entry, dict) and next(iter(entry.values())).get("cache") is False
        }
        return [{**out, "cache": out["path"] not in uncached} for out in content.get("outs", [])]
    outs = []
    for name in git("ls-files", "*.dvc", cwd=clone).split():
        folder = Path(name).parent
        content = yaml.safe_load((clone / name).read_text(encoding="utf-8"))
        outs += [{**out, "path": str(folder / out["path"])} for out in content["outs"] if "md5" in out]
    return outs


def _copy(source: Path, target: Path) -> None:
    if target.exists():
        target.chmod(0o644)
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


__all__ = [
    "BRANCH", "StageError", "commit_results", "find_source", "prepare_clone", "pull_data", "push_bytes", "push_commit",
    "restore_damaged",
]  # fmt: skip
