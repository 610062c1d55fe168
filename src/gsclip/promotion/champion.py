"""The champion's files on this machine: fetched once, checked against the registry at every use.

The environment variable ``GSCLIP_REGISTRY`` names the registry: a folder or an address of the git repository whose tags
say which version is the champion (:mod:`gsclip.promotion.registry`). Its commit says which files, by ``dvc.lock``; DVC
fetches them from that repository's remote. They are kept in ``$XDG_CACHE_HOME/gsclip/models`` (``~/.cache`` by default)
under the checksum of the whole folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml

from gsclip.errors import InputError, one_line
from gsclip.promotion.registry import NAME, Version, read_registry, without_credentials
from gsclip.storage import atomic_directory

VARIABLE = "GSCLIP_REGISTRY"
MODEL = "model"
REMEDY = "see that it is reachable, or name a model's folder by --model"

_log = logging.getLogger(__name__)


def champion_model(repository: str | None = None) -> Path | None:
    """Folder of the champion's files, fetched where they are not here yet.

    Args:
        repository: of the registry; by default what ``GSCLIP_REGISTRY`` names.

    Returns:
        The folder; ``None`` where no registry is named.

    Raises:
        InputError: the registry cannot be read, has no champion, or its files cannot be fetched whole.
    """
    repository = repository or os.environ.get(VARIABLE)
    if not repository:
        return None
    champion = read_registry(repository).champion
    if champion is None:
        where = without_credentials(repository)
        raise InputError(where, "the registry has no champion", "promote a version, or name a model by --model")
    folder = fetch(repository, champion)
    _log.info("champion %s (%s)", champion.version, champion.commit[:10])
    return folder


def fetch(repository: str, version: Version, cache: Path | None = None, path: str | None = None) -> Path:
    """Folder of the files of a version, from the cache or fetched into it.

    Args:
        repository: of the registry.
        version: which.
        cache: where fetched folders are kept; by default :func:`cache_folder`.
        path: of another folder in the repository that DVC tracks; by default that of the model.

    Raises:
        InputError: they cannot be fetched, or are not those that ``dvc.lock`` names.
    """
    where = f"{version.version} of {without_credentials(repository)}"
    with _reading(where):
        from dvc.api import DVCFileSystem

        project = DVCFileSystem(repository, rev=version.commit)
        if path is None:
            path = str(yaml.safe_load(project.read_text("dvc.yaml", "utf-8"))["artifacts"][NAME]["path"])
        checksum = recorded_md5(yaml.safe_load(project.read_text("dvc.lock", "utf-8")), path)
    folder = (cache or cache_folder()) / checksum.removesuffix(".dir")
    if folder.is_dir():
        if folder_md5(folder / MODEL) == checksum:
            return folder / MODEL
        _log.warning("%s: damaged, fetched again", folder)
        shutil.rmtree(folder)
    with atomic_directory(folder) as temporary:
        with _reading(where):
            project.get(path, str(temporary / MODEL), recursive=True)
        found = folder_md5(temporary / MODEL)
        if found != checksum:
            raise InputError(where, f"has other files than dvc.lock names (md5 {found}, not {checksum})", REMEDY)
    return folder / MODEL


def cache_folder() -> Path:
    """Where fetched models lie."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gsclip" / "models"


def folder_md5(folder: Path) -> str:
    """Checksum of a folder as DVC computes it: the MD5 of the list of its files with theirs, and ``.dir``."""
    files = [
        {"md5": file_md5(path), "relpath": path.relative_to(folder).as_posix()}
        for path in folder.rglob("*")
        if path.is_file()
    ]
    content = json.dumps(sorted(files, key=itemgetter("relpath")), sort_keys=True)
    return hashlib.md5(content.encode(), usedforsecurity=False).hexdigest() + ".dir"


def file_md5(path: Path) -> str:
    """Hexadecimal MD5 of a file, DVC's checksum."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def recorded_md5(lock: Mapping[str, Any], path: str) -> str:
    """Checksum of an output in the content of ``dvc.lock``.

    Raises:
        LookupError: no stage has it.
    """
    for stage in lock["stages"].values():
        for out in stage.get("outs", []):
            if out["path"] == path:
                return str(out["md5"])
    raise LookupError(f"dvc.lock has no {path}")


@contextlib.contextmanager
def _reading(where: str) -> Iterator[None]:
    """Turn whatever DVC, git or a broken file raises into one line."""
    try:
        yield
    except Exception as error:
        problem = f"its files cannot be fetched ({without_credentials(one_line(error) or type(error).__name__)})"
        raise InputError(where, problem, REMEDY) from error
