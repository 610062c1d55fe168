"""The registry of models: tags of a git repository, as gto makes them.

===========================  =======================================================================================
``gsclip@v0.3.0``            version 0.3.0 is the model at this commit; its bytes are in the DVC remote
``gsclip#champion#7``        the version at this commit became the champion, by the 7th decision of this registry
``gsclip#challenger#8``      it was refused by the gate and is kept for comparison
===========================  =======================================================================================

Tags are only ever added, so the history stays and nothing is half changed. The order of decisions is that of their
numbers, not of their times: a clock that was wrong changes nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gsclip.errors import GsclipError, InputError, one_line

NAME = "gsclip"
CHAMPION, CHALLENGER = "champion", "challenger"
FIRST_VERSION = "v0.1.0"
AUTHOR, AUTHOR_EMAIL = "gsclip", "gsclip@localhost"
_REGISTERED = re.compile(rf"{NAME}@(v\d+\.\d+\.\d+)(!?)")
_ASSIGNED = re.compile(rf"{NAME}#(\w+)(!?)#(\d+)")
_CREDENTIALS = re.compile(r"(\w+://)[^/@\s]+@")


class Version(NamedTuple):
    """A registered model: its version and its commit."""

    version: str
    commit: str


class Assignment(NamedTuple):
    """One decision: its number, the stage, and the commit of the version that has it from then on."""

    number: int
    stage: str
    commit: str


@dataclass(frozen=True)
class Registry:
    """What the tags say.

    Attributes:
        versions: oldest first.
        assignments: by number.
    """

    versions: tuple[Version, ...] = ()
    assignments: tuple[Assignment, ...] = ()

    @property
    def champions(self) -> tuple[Version, ...]:
        """The champion, last, after those that a rollback leads to, nearest last.

        Going back to an earlier champion forgets those after it.
        """
        stack: list[Version] = []
        for assignment in self.assignments:
            version = self._at(assignment.commit)
            if assignment.stage != CHAMPION or version is None:
                continue
            stack = [*(stack[: stack.index(version)] if version in stack else stack), version]
        return tuple(stack)

    @property
    def champion(self) -> Version | None:
        """The model in use."""
        return self.champions[-1] if self.champions else None

    @property
    def challenger(self) -> Version | None:
        """The model that was refused last; ``None`` where it has become the champion since."""
        refused = [assignment.commit for assignment in self.assignments if assignment.stage == CHALLENGER]
        found = self._at(refused[-1]) if refused else None
        return None if found == self.champion else found

    @property
    def next_version(self) -> str:
        """The version of the next model: the minor number counts."""
        if not self.versions:
            return FIRST_VERSION
        major, minor, *_ = _numbers(self.versions[-1].version)
        return f"v{major}.{minor + 1}.0"

    def find(self, version: str) -> Version:
        """One version.

        Raises:
            InputError: there is none of this name.
        """
        for member in self.versions:
            if member.version == version:
                return member
        known = ", ".join(member.version for member in self.versions) or "none"
        raise InputError(version, "is not registered", f"name one of: {known}")

    def _at(self, commit: str) -> Version | None:
        return next((version for version in self.versions if version.commit == commit), None)


class GitError(GsclipError):
    """A git command failed."""


def without_credentials(text: object) -> str:
    """Replace user names and passwords in the addresses of a text."""
    return _CREDENTIALS.sub(r"\1***@", str(text))


def git(*arguments: str | Path, cwd: Path | None = None) -> str:
    """Run git; return its standard output. It never asks anything.

    Raises:
        GitError: it failed; the message has its last line, without credentials.
    """
    command = ["git", "-c", f"user.name={AUTHOR}", "-c", f"user.email={AUTHOR_EMAIL}", *map(str, arguments)]
    environment = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=30"}
    try:
        done = subprocess.run(
            command, cwd=cwd, env={**environment, **os.environ}, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise GitError(f"git: cannot be started ({error}); install git") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("hint:")]
        problem = one_line(" / ".join(lines[-3:]) or f"exit code {done.returncode}", 400)
        raise GitError(without_credentials(f"git {arguments[0]}: {problem}"))
    return done.stdout


def parse_tags(lines: Iterable[str]) -> Registry:
    """Read the registry from lines ``<hash> refs/tags/<name>``; those ending in ``^{}`` hold commits of annotated tags.

    Other tags are passed over, and so are withdrawn versions (``gsclip@v0.1.0!``).
    """
    commits: dict[str, str] = {}
    for line in lines:
        commit, _, reference = line.strip().partition("\t" if "\t" in line else " ")
        name = reference.removeprefix("refs/tags/")
        if name.endswith("^{}"):
            commits[name.removesuffix("^{}")] = commit
        else:
            commits.setdefault(name, commit)
    versions, withdrawn, assignments = [], set(), []
    for name, commit in commits.items():
        if match := _REGISTERED.fullmatch(name):
            if match[2]:
                withdrawn.add(match[1])
            else:
                versions.append(Version(match[1], commit))
        elif (match := _ASSIGNED.fullmatch(name)) and not match[2]:
            assignments.append(Assignment(int(match[3]), match[1], commit))
    return Registry(
        tuple(sorted((v for v in versions if v.version not in withdrawn), key=lambda v: _numbers(v.version))),
        tuple(sorted(assignments)),
    )


def read_registry(repository: str | Path) -> Registry:
    """Read the registry of a repository: a folder, or an address that git can read.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return parse_tags(git("ls-remote", "--tags", repository).splitlines())
    except GitError as error:
        raise InputError(
            without_credentials(repository), f"no registry can be read ({error})", "name a reachable git repository"
        ) from error


def register(clone: Path, version: str, message: str) -> str:
    """Register the commit that is checked out as a version; return the new tag's name. Nothing is pushed."""
    from gto.api import register as gto_register

    gto_register(str(clone), NAME, "HEAD", version=version, message=message, author=AUTHOR, author_email=AUTHOR_EMAIL)
    return f"{NAME}@{version}"


def assign(clone: Path, version: str, stage: str, message: str) -> str:
    """Give a version a stage; return the new tag's name. Nothing is pushed."""
    from gto.api import assign as gto_assign

    before = set(git("tag", "--list", f"{NAME}#*", cwd=clone).split())
    gto_assign(
        str(clone),
        NAME,
        stage,
        version=version,
        message=message,
        force=True,  # a champion that comes back had the stage before
        skip_registration=True,
        author=AUTHOR,
        author_email=AUTHOR_EMAIL,
    )
    (made,) = set(git("tag", "--list", f"{NAME}#*", cwd=clone).split()) - before
    return made


def promote(repository: str | Path, version: str, message: str = "by hand") -> Version:
    """Make a registered version the champion.

    Raises:
        InputError: there is no such version, it is the champion already, or the repository cannot be written.
    """
    registry = read_registry(repository)
    target = registry.find(version)
    if registry.champion == target:
        raise InputError(version, "is the champion already", "nothing has to be done")
    with tempfile.TemporaryDirectory(prefix="gsclip-registry-") as folder:
        clone = Path(folder) / "clone"
        try:
            git("clone", "--quiet", "--no-checkout", repository, clone)
            tag = assign(clone, version, CHAMPION, message)
            git("push", "--quiet", "origin", f"refs/tags/{tag}", cwd=clone)
        except GitError as error:
            raise InputError(
                without_credentials(repository), f"the tag cannot be set ({error})", "see that it can be written"
            ) from error
    return target


def rollback(repository: str | Path) -> tuple[Version, Version]:
    """Make the champion before this one the champion again.

    Returns:
        The champion that is left, and the one that is back.

    Raises:
        InputError: there is no earlier champion, or see :func:`promote`.
    """
    champions = read_registry(repository).champions
    if len(champions) < 2:
        raise InputError(
            without_credentials(repository), "there is no earlier champion", "promote another version by its name"
        )
    promote(repository, champions[-2].version, f"rollback from {champions[-1].version}")
    return champions[-1], champions[-2]


def describe(repository: str | Path, version: str) -> str:
    """What is written at a version: the date and message of its tag, and its decisions.

    Raises:
        InputError: there is no such version, or the repository cannot be read.
    """
    target = read_registry(repository).find(version)
    form = "%(refname:short)%09%(creatordate:iso8601)%09%(contents:subject)"
    with tempfile.TemporaryDirectory(prefix="gsclip-registry-") as folder:
        git("clone", "--quiet", "--bare", "--filter=tree:0", repository, folder)
        lines = git("for-each-ref", f"--format={form}", "--points-at", target.commit, "refs/tags", cwd=Path(folder))
    rows = [f"  {line.expandtabs(4)}\n" for line in lines.splitlines()]
    return f"{target.version}  commit {target.commit}\n" + "".join(rows)


def table(registry: Registry) -> str:
    """The registry as text: one version a line, newest first."""
    if not registry.versions:
        return "No version is registered."
    stages: dict[Version | None, str] = {registry.challenger: CHALLENGER, registry.champion: CHAMPION}
    for number, version in enumerate(reversed(registry.champions[:-1]), 1):
        stages.setdefault(version, f"rollback {number}" if number > 1 else "next rollback")
    return "\n".join(
        f"{member.version:<10} {member.commit[:10]}  {stages.get(member, '')}".rstrip()
        for member in reversed(registry.versions)
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.removeprefix("v").split("."))
