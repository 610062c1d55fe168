"""The stages of a DVC project: what depends on what, and how one of them is run."""

from __future__ import annotations

import contextlib
import enum
import graphlib
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import psutil
import yaml

from flows.locks import held_locks
from flows.secrets import without_secrets
from gsclip.errors import GsclipError, InputError, one_line
from gsclip.parallel import SCHEDULER

DVC_FILE = "dvc.yaml"
LOCK_FILE = "dvc.lock"
LAST_LINES = 20
QUIET_SECONDS = 600.0  # so long without output is worth a line that tells what runs
GRACE_SECONDS = 5.0  # for the output of a command that has ended; what it left running may keep the pipe open for good
FULL_DISK = "The disk is full: free some space and run again. What is finished is kept."
_SUPERVISOR = Path(__file__).with_name("supervisor.py")


class Outcome(enum.StrEnum):
    """What ``dvc repro`` did about a stage."""

    RAN = "ran"
    UNCHANGED = "unchanged"
    RESTORED = "restored"  # its outputs came from the cache: it ran before with the same dependencies


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: as in ``dvc.yaml``.
        upstream: names of the stages whose outputs it reads.
    """

    name: str
    upstream: tuple[str, ...]


class StageError(GsclipError):
    """A stage failed; the message names it and ends with the last lines of its output."""


def read_stages(path: str | Path) -> tuple[Stage, ...]:
    """Read the stages of a ``dvc.yaml`` in an order in which each comes after those it depends on.

    A stage depends on another when a dependency of the one is an output of the other, or one of the two lies in the
    other, as DVC sees it. Outputs are those under ``outs``, ``metrics`` and ``plots``.

    Raises:
        InputError: the file is no ``dvc.yaml``, or has templates, ``foreach`` or ``matrix``, or stages in a circle.
    """
    stages = _load(path).get("stages") or {}
    reads: dict[str, list[PurePosixPath]] = {}
    writes: dict[str, list[PurePosixPath]] = {}
    for name, stage in stages.items():
        if not isinstance(stage, dict) or "cmd" not in stage:
            raise InputError(path, f"stage {name} has no plain cmd (foreach and matrix are not read)", "write it out")
        reads[name] = _paths(path, stage, ("deps",))
        writes[name] = _paths(path, stage, ("outs", "metrics", "plots"))
    upstream = {
        name: tuple(
            other
            for other in stages
            if other != name and any(_overlap(read, written) for read in reads[name] for written in writes[other])
        )
        for name in stages
    }
    try:
        order = tuple(graphlib.TopologicalSorter(upstream).static_order())
    except graphlib.CycleError as error:
        raise InputError(path, f"stages depend on each other: {', '.join(error.args[1])}", "cut the circle") from error
    return tuple(Stage(name, upstream[name]) for name in order)


def run_stage(stage: str, workspace: Path, log: Callable[[str], None], scheduler: str = "") -> Outcome:
    """Bring a stage up to date by ``dvc repro``; stages it depends on are checked, too.

    DVC and everything it starts end with this process, however that ends.

    Args:
        stage: its name.
        workspace: folder of the DVC project.
        log: takes each line of the output as it appears.
        scheduler: address of a Dask scheduler whose workers compute (:mod:`gsclip.parallel`); empty: as the
            environment says, else the cores of this machine.

    Raises:
        StageError: DVC or the stage failed.
    """
    outcome = Outcome.UNCHANGED

    def read(line: str) -> None:
        nonlocal outcome
        log(line)
        outcome = _announced(line, stage) or outcome

    command = ["dvc", "--wait-for-lock", "repro", stage]
    run_command(command, workspace, read, f"stage {stage}", "dvc repro", scheduler)
    return outcome


def run_command(
    command: Sequence[str],
    workspace: Path,
    log: Callable[[str], None],
    label: str,
    program: str | None = None,
    scheduler: str = "",
) -> None:
    """Run a command; it and everything it starts end with this process, however that ends.

    It is over when the command has ended, whatever of it still runs. While it is silent, a line every ten minutes
    tells which processes there are, so that a wait for ever is seen and known.

    Args:
        command: its words; ``python`` and ``dvc`` are those of this environment.
        workspace: folder it runs in; its ``src`` is imported first.
        log: takes each line of the output as it appears, without secrets.
        label: what fails when it fails.
        program: what the message calls the command; by default its first word.
        scheduler: see :func:`run_stage`.

    Raises:
        StageError: it ended with another exit code than 0.
    """
    last: deque[str] = deque(maxlen=LAST_LINES)
    with subprocess.Popen(
        [sys.executable, str(_SUPERVISOR), *command],
        cwd=workspace,
        env=_environment(workspace, scheduler),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=held_locks(),
    ) as process:
        for line in map(without_secrets, _lines(process, label)):
            log(line)
            last.append(line)
        code = process.wait()
    if code != 0:
        lines = "\n".join(last)
        message = f"{label} failed ({program or command[0]} ended with exit code {code}):\n{lines}"
        raise StageError("\n".join([message, *_remedies(lines)]))


def locked_parameters(workspace: Path) -> dict[str, Any]:
    """Parameters of the last completed run of each stage, by full name such as ``stage1.epochs``.

    Source: ``dvc.lock``; empty where nothing has run.
    """
    path = workspace / LOCK_FILE
    if not path.is_file():
        return {}
    found: dict[str, Any] = {}
    for stage in (_load(path).get("stages") or {}).values():
        for values in stage.get("params", {}).values():
            found.update(_flat(values))
    return found


def _load(path: str | Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(path, f"cannot be read ({one_line(error, None)})", "restore it from git") from error
    if not isinstance(content, dict):
        raise InputError(path, "is no mapping", "restore it from git")
    return content


def _paths(path: str | Path, stage: Mapping[str, Any], groups: tuple[str, ...]) -> list[PurePosixPath]:
    """Paths of a stage's entries, seen from the project's folder; an entry is a path or a path with options."""
    folder = PurePosixPath(stage.get("wdir", "."))
    entries = [entry for group in groups for entry in stage.get(group) or []]
    names = [next(iter(entry)) if isinstance(entry, dict) else str(entry) for entry in entries]
    for name in names:
        if "${" in name:
            raise InputError(path, f"templates are not read: {name}", "write the path out")
    return [PurePosixPath(os.path.normpath(folder / name)) for name in names]


def _overlap(first: PurePosixPath, second: PurePosixPath) -> bool:
    return first.is_relative_to(second) or second.is_relative_to(first)


def _environment(workspace: Path, scheduler: str) -> dict[str, str]:
    """Environment of DVC: `dvc` and `python` are those beside this interpreter, the package is the workspace's."""
    tools = str(Path(sys.executable).parent)
    packages = [str(workspace / "src"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        **({SCHEDULER: scheduler} if scheduler else {}),
        "PATH": os.pathsep.join([tools, os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(filter(None, packages)),
        "PYTHONUNBUFFERED": "1",
        "DVC_NO_ANALYTICS": "1",
        "TQDM_MININTERVAL": "10",  # each refresh of a progress bar is a line of the log
    }


def _lines(process: subprocess.Popen[bytes], label: str) -> Iterator[str]:
    """Lines of the output that are not empty (a carriage return ends one, too), until it or the process has ended."""
    if (pipe := process.stdout) is None:
        raise ValueError("the output is no pipe")
    rest, heard, told, ended = b"", time.monotonic(), 0, float("inf")
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while time.monotonic() - ended < 10 * GRACE_SECONDS:
            if ended == float("inf") and process.poll() is not None:
                ended = time.monotonic()
            if selector.select(1.0 if ended == float("inf") else GRACE_SECONDS):
                if not (content := os.read(pipe.fileno(), 1 << 16)):
                    break
                *lines, rest = (rest + content).replace(b"\r", b"\n").split(b"\n")
                yield from _texts(lines)
                heard, told = time.monotonic(), 0
            elif ended < float("inf"):
                break
            elif time.monotonic() - heard > (told + 1) * QUIET_SECONDS:
                told += 1
                yield f"{label}: nothing heard for {told * QUIET_SECONDS / 60:.0f} minutes; {_family(process.pid)}"
    yield from _texts([rest])


def _texts(lines: Sequence[bytes]) -> Iterator[str]:
    for line in lines:
        if text := line.decode("utf-8", errors="replace").rstrip():
            yield text


def _family(process: int) -> str:
    """What a process has started: number, state, seconds of processor and words of each."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for member in psutil.Process(process).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = member.cpu_times()
                words = " ".join(member.cmdline())[:120]
                found.append(f"{member.pid} {member.status()}, {times.user + times.system:.0f} s: {words}")
    return "; ".join(found) or "no process"


def _remedies(lines: str) -> list[str]:
    """What a person can do about an output, as far as it is known."""
    full = ("No space left on device", "Disk quota exceeded")
    return [FULL_DISK] if any(sign in lines for sign in full) else []


def _announced(line: str, stage: str) -> Outcome | None:
    """Read DVC's announcement about a stage; ``None`` for any other line."""
    if line.startswith(f"Running stage '{stage}'"):
        return Outcome.RAN
    if line.startswith(f"Stage '{stage}' is cached"):
        return Outcome.RESTORED
    return None


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
