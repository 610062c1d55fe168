"""Faults during a retraining, and what comes of them: kills at random moments, and everything else that goes wrong.

    python -m benchmarks.faults --kills 20 --output benchmarks/results/faults          # --resume: goes on there
    python -m benchmarks.faults --project toy --kills 3 --only kills       # a project of four quick stages

Every kill: a fresh copy of the project, a retraining in it, SIGKILL at a moment drawn evenly from the time that an
undisturbed one takes (in turn to the flow alone, and to all of its processes at once, as in a power cut), then another
retraining to its end. What it leaves must be that of the undisturbed run: the bytes of all outputs, the tree of the
published commit, versions and stages in the registry, the objects in the DVC remote.

The retrainings report to a Prefect server that the script starts. The project ``tiny`` is this repository's last commit
with parameters as small as they go.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from flows.serve import Service, environment, start_server

from benchmarks.browser import free_port
from benchmarks.full_size import machine
from benchmarks.shared import write_results
from benchmarks.tiny import shrink
from gsclip.promotion.registry import git, read_registry
from gsclip.storage import sha256

ROOT = Path(__file__).parents[1]
SECRET = "s3cr3t-v4lue-of-the-plant"  # noqa: S105 - looked for in logs, where it must not be
TOO_LATE = "nothing: it had ended"  # at a moment of a kill


@dataclass
class Bench:
    """Where runs happen.

    Attributes:
        folder: all of it.
        pristine: the project before any run; copied to ``project`` for each of them.
        port: of the server.
        server: Prefect's.
        seconds: that an undisturbed run takes.
        reference: its fingerprint.
    """

    folder: Path
    pristine: Path
    port: int
    server: Service
    seconds: float = 0.0
    reference: dict[str, Any] | None = None

    @property
    def project(self) -> Path:
        """The project of the present run; always at the same path."""
        return self.folder / "project"

    @property
    def work(self) -> Path:
        """The retraining's folder in it."""
        return self.project / ".gsclip" / "retrain"

    def fresh(self) -> None:
        """Put a fresh copy of the project in place."""
        shutil.rmtree(self.project, ignore_errors=True)
        shutil.copytree(self.pristine, self.project, symlinks=True)

    def start(self, log: str = "run.log", **variables: str) -> subprocess.Popen[str]:
        """Start a retraining; its output goes to the file ``log``."""
        output = open(self.folder / log, "w", encoding="utf-8")  # noqa: SIM115 - the child's
        code = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        known = environment(self.port, self.folder / "prefect")
        known |= {"PYTHONPATH": code, "OMP_NUM_THREADS": "1", "PLANT_SECRET_TOKEN": SECRET, **variables}
        command = [sys.executable, "-m", "flows.retrain", "--source", str(self.project), "--retry-seconds", "1"]
        with output:
            return subprocess.Popen(
                command, cwd=ROOT, env=known, stdout=output, stderr=subprocess.STDOUT, text=True, start_new_session=True
            )

    def run(self, log: str = "run.log", **variables: str) -> tuple[int, str]:
        """Retrain to the end; return exit code and message (from the last line on that begins with ``gsclip:``)."""
        with self.start(log, **variables) as process:
            code = process.wait()
        return code, self.message(log)

    def message(self, log: str = "run.log") -> str:
        """What a run said at its end."""
        text = (self.folder / log).read_text(encoding="utf-8", errors="replace")
        found = text.rpartition("\ngsclip: ")[2] if "\ngsclip: " in text else text[-1500:]
        found = found.partition("\nRuns, logs and reports:")[0]
        lines = [line.strip() for line in found.strip().splitlines() if line.strip()]
        return " / ".join(lines if len(lines) < 5 else [lines[0], "…", *lines[-3:]])

    def step(self) -> str:
        """What the last run was doing when it ended."""
        logs = sorted((self.work / "logs").glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
        if not logs:
            return "start"
        events = [json.loads(line) for line in logs[-1].read_text().splitlines()]
        last = events[-1]
        if last["event"] == "ended":
            return "end"
        return str(last["step"]) if last["event"] == "started" else f"after {last.get('step', 'start')}"

    def recovers(self) -> bool:
        """Whether another run ends well and leaves what an undisturbed one does."""
        code, _ = self.run()
        return code == 0 and fingerprint(self.project) == self.reference


def make_project(kind: str, folder: Path) -> None:
    """Make a project in git and DVC, with a remote and nothing run yet."""
    if kind == "toy":
        from tests.flows.projects import make_toy

        make_toy(folder)
        return
    git("clone", "--quiet", ROOT, folder)
    samples = {"auxiliary_samples": 2, "calibration_samples": 2, "test_samples": 2}
    shrink(folder / "params.yaml", {"prepare": samples, "gate": {"timed_samples": 0}})
    git("rm", "--quiet", "dvc.lock", cwd=folder)
    git("commit", "--quiet", "--all", "--message", "tiny", cwd=folder)


def fingerprint(project: Path) -> dict[str, Any]:
    """All that a retraining leaves, by content: outputs, published tree, registry, remote."""
    clone = project / ".gsclip" / "retrain" / "clone"
    files = {
        path.relative_to(clone).as_posix(): sha256(path)
        for folder in ("data", "models", "outputs")
        for path in sorted((clone / folder).rglob("*"))
        if path.is_file() and "outputs/live" not in path.as_posix()
    }
    registry = read_registry(project)
    names = {version.commit: version.version for version in registry.versions}
    return {
        "files": files,
        "tree": git("rev-parse", "refs/heads/retraining^{tree}", cwd=project).strip(),
        "versions": [version.version for version in registry.versions],
        "assignments": [(number, stage, names[commit]) for number, stage, commit in registry.assignments],
        "remote": sorted(
            path.relative_to(project).as_posix() for path in (project / ".dvc" / "remote").rglob("*") if path.is_file()
        ),
    }


def half_written(project: Path) -> list[str]:
    """Temporary files that a run left among its outputs."""
    clone = project / ".gsclip" / "retrain" / "clone"
    found = [path for folder in ("data", "models", "outputs") for path in (clone / folder).glob(".*")]
    return [path.name for path in found if path.name != ".gitignore"]


@contextlib.contextmanager
def bench(kind: str, folder: Path) -> Iterator[Bench]:
    """Set all up, with an undisturbed run as reference."""
    pristine = folder / "pristine"
    make_project(kind, pristine)
    port = free_port()
    made = Bench(folder, pristine, port, start_server(port, folder / "prefect", folder / "logs"))
    try:
        made.fresh()
        start = time.monotonic()
        code, message = made.run()
        if code != 0:
            raise SystemExit(f"the undisturbed run failed: {message}")
        made.seconds = time.monotonic() - start
        made.reference = fingerprint(made.project)
        yield made
    finally:
        made.server.stop()


def kill(process: subprocess.Popen[str], *, everything: bool) -> None:
    """SIGKILL to the flow, or to it and all of its descendants at once."""
    members = psutil.Process(process.pid).children(recursive=True) if everything else []
    process.kill()
    for member in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


def kill_once(made: Bench, moment: float, *, everything: bool) -> dict[str, Any]:
    """One kill, ``moment`` seconds after the start, and the run after it."""
    made.fresh()
    with made.start() as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        ended = process.poll() is not None
        if not ended:
            kill(process, everything=everything)
    step = made.step()
    recovered = made.recovers()
    return {
        "second": round(moment, 1),
        "killed": TOO_LATE if ended else "all processes" if everything else "the flow",
        "step": step,
        "identical": recovered,
        "left": half_written(made.project),
    }


def kills(made: Bench, number: int, seed: int = 0, done: int = 0) -> Iterator[dict[str, Any]]:
    """Kill at random moments; one row a kill, without the first ``done``."""
    rng = random.Random(seed)  # noqa: S311 - moments
    shares = [rng.uniform(0, 1) for _ in range(number)]
    for turn in range(done, number):
        yield kill_once(made, shares[turn] * made.seconds, everything=turn % 2 == 1)


def wait_for_step(made: Bench, process: subprocess.Popen[str], patience: float = 600) -> None:
    """Wait until the first stage has begun."""
    deadline = time.monotonic() + patience
    while made.step() in ("start", "fetch", "after fetch", "pull", "after pull", "after start"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"no stage begins: {made.message()}")
        time.sleep(0.1)


def remote_unreachable(made: Bench) -> dict[str, Any]:
    """The DVC remote refuses connections when the results are pushed."""
    made.fresh()
    local = made.project / ".dvc" / "config.local"
    local.write_text("['remote \"local\"']\n    url = http://127.0.0.1:9/dvc\n    password = " + SECRET + "\n")
    code, message = made.run()
    tags = read_registry(made.project).versions
    local.unlink()
    return _row(code, message, made, published=bool(tags))


def source_unreachable(made: Bench) -> dict[str, Any]:
    """The source's repository cannot be fetched."""
    made.fresh()
    made.run()
    hidden = made.project / ".git" / "hidden"
    refs = made.project / ".git" / "HEAD"
    refs.replace(hidden)
    code, message = made.run()
    hidden.replace(refs)
    return _row(code, message, made)


def disk_full(made: Bench) -> dict[str, Any]:
    """The disk of the work folder fills up while a stage runs."""
    made.fresh()
    made.work.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1200m", "tmpfs", str(made.work)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        return {"state": "not tried: no file system can be mounted here", "recovered": None}
    try:
        with made.start() as process:
            wait_for_step(made, process)
            ballast = made.work / "ballast"
            with contextlib.suppress(OSError), open(ballast, "wb") as file:
                while True:
                    file.write(bytes(1 << 20))
            code = process.wait()
        message = made.message()
        ballast.unlink(missing_ok=True)
        return _row(code, message, made)
    finally:
        subprocess.run(["umount", "--lazy", str(made.work)], check=False)


def server_restarted(made: Bench) -> dict[str, Any]:
    """Prefect's server is gone for ten seconds while a stage runs."""
    made.fresh()
    with made.start() as process:
        wait_for_step(made, process)
        made.server.stop()
        time.sleep(10)
        made.server = start_server(made.port, made.folder / "prefect", made.folder / "logs")
        code = process.wait()
    return _row(code, made.message() if code else "the run went on", made)


def two_at_once(made: Bench) -> dict[str, Any]:
    """A second run starts in the same folder while one is at work."""
    made.fresh()
    with made.start() as first:
        wait_for_step(made, first)
        code, message = made.run("second.log")
        first_code = first.wait()
    row = _row(code, message, made)
    return {**row, "first": "completed" if first_code == 0 else "failed"}


def clock_jump(made: Bench) -> dict[str, Any]:
    """The clock goes back by 400 days between two runs; the second model is promoted by hand."""
    made.fresh()
    made.run()
    folder = made.folder / "clock"
    folder.mkdir(exist_ok=True)
    jump = "import time\n_now = time.time\ntime.time = lambda: _now() - 400 * 86400\n"
    (folder / "sitecustomize.py").write_text(jump)
    from gsclip.promotion.registry import assign, register

    clone = made.work / "clone"
    git("commit", "--quiet", "--allow-empty", "--message", "another", cwd=clone)
    moment, time.time = time.time, lambda: moment() - 400 * 86400  # gto writes the tags in this process
    try:
        tags = [register(clone, "v0.2.0", "by hand"), assign(clone, "v0.2.0", "champion", "by hand")]
    finally:
        time.time = moment
    git("push", "--quiet", "origin", *(f"refs/tags/{tag}" for tag in tags), cwd=clone)
    champion = read_registry(made.project).champion
    code, message = made.run(PYTHONPATH=os.pathsep.join([str(folder), str(ROOT / "src"), str(ROOT)]))
    after = read_registry(made.project)
    right = champion == after.champion and champion is not None and champion.version == "v0.2.0"
    return {
        "state": "completed" if code == 0 else "failed",
        "message": f"champion: {champion.version if champion else None}, the later decision" if right else message,
        "recovered": code == 0 and right,
    }


def corrupted_cache(made: Bench) -> dict[str, Any]:
    """Bytes of the model and of the predictions rot in DVC's cache and in the clone, unnoticed by their times."""
    made.fresh()
    made.run()
    clone = made.work / "clone"
    for folder in ("models/gsclip", "outputs/predictions"):
        path = next(path for path in sorted((clone / folder).iterdir()) if path.is_file())
        content = path.read_bytes()
        for copy in (path, *(made.project / ".dvc" / "cache" / "files").rglob("*")):
            if copy.is_file() and copy.read_bytes() == content:
                _rot(copy)
    code, message = made.run()
    log = (made.folder / "run.log").read_text()
    found = [line.partition(" - ")[2] for line in log.splitlines() if "damaged" in line]
    return _row(code, " / ".join(found) or message, made)


def secrets_in_logs(made: Bench) -> dict[str, Any]:
    """Looks for a token of the environment and a password of the DVC remote in all that was written."""
    made.server.stop()  # its data base is whole on the disk now
    searched = [made.folder / "run.log", *made.work.rglob("*.jsonl"), *(made.folder / "prefect").rglob("*")]
    found = [str(path) for path in searched if path.is_file() and SECRET.encode() in path.read_bytes()]
    made.server = start_server(made.port, made.folder / "prefect", made.folder / "logs")
    return {"state": f"{len(found)} of {len(searched)} files", "message": " ".join(found), "recovered": not found}


FAULTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "remote unreachable": remote_unreachable,
    "source unreachable": source_unreachable,
    "disk full": disk_full,
    "server restarted": server_restarted,
    "two runs at once": two_at_once,
    "clock jump": clock_jump,
    "corrupted cache entry": corrupted_cache,
    "secrets in logs": secrets_in_logs,
}


def markdown(result: dict[str, Any]) -> str:
    """The table."""
    rows = result["kills"]
    late = sum(row["killed"] == TOO_LATE for row in rows)
    undisturbed = " and, in another call, ".join(f"{seconds:.0f}" for seconds in result["seconds"])
    lines = [
        "# Faults during a retraining",
        "",
        f"Project: {result['project']}; an undisturbed run took {undisturbed} seconds. {result['machine']}; "
        f"load {result['load']:.1f} at the start. `python -m benchmarks.faults`.",
        "",
        f"{len(rows) - late} kills (at {late} more of the moments it had ended). "
        f"{sum(row['identical'] for row in rows)} of {len(rows)} times the next run left what an undisturbed one "
        "leaves, byte for byte.",
        "",
        "| second | killed | while | next run identical | half-written files |",
        "|---:|---|---|---|---|",
        *(
            f"| {row['second']} | {row['killed']} | {row['step']} | {_yes(row['identical'])} "
            f"| {', '.join(row['left']) or 'none'} |"
            for row in rows
        ),
        "",
        "| fault | state of the run | what it said | recovered |",
        "|---|---|---|---|",
        *(
            f"| {name} | {row['state']} | {str(row.get('message', '')).replace('|', '/')[-400:]} "
            f"| {_yes(row['recovered'])} |"
            for name, row in result["faults"].items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _row(code: int, message: str, made: Bench, **facts: Any) -> dict[str, Any]:  # noqa: ANN401 - any facts
    state = "completed" if code == 0 else "failed"
    message = message.replace(str(made.folder), "…")
    return {"state": state, "message": message, **facts, "recovered": made.recovers()}


def _rot(path: Path) -> None:
    content, times, mode = bytearray(path.read_bytes()), path.stat(), path.stat().st_mode
    content[len(content) // 2] ^= 0xFF
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.write(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    path.chmod(mode)


def _yes(value: bool | None) -> str:
    return "–" if value is None else "yes" if value else "**no**"


def main() -> int:
    """Run all of it, or a part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--project", choices=["tiny", "toy"], default="tiny")
    parts = ["kills", *FAULTS]
    parser.add_argument("--only", nargs="*", choices=parts, default=parts, help="kills, or names of faults in quotes")
    parser.add_argument("--output", type=Path, help="written as .json and .md")
    parser.add_argument("--resume", action="store_true", help="keep what the output's .json holds, and add what lacks")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    result: dict[str, Any] = {"project": options.project, "machine": machine(), "load": os.getloadavg()[0]}
    result |= {"kills": [], "faults": {}, "seconds": []}
    written = options.output.with_suffix(".json") if options.output else None
    if options.resume and written and written.is_file():
        earlier = json.loads(written.read_text(encoding="utf-8"))
        if earlier["project"] != options.project:
            parser.error(f"{written} is of the project {earlier['project']}")
        result |= {name: earlier[name] for name in ("kills", "faults", "seconds")}

    def save() -> None:  # after each of them: an end of this script loses nothing
        if options.output:
            write_results(options.output, result, markdown(result))

    with tempfile.TemporaryDirectory(prefix="gsclip-faults-") as folder, bench(options.project, Path(folder)) as made:
        print(f"undisturbed: {made.seconds:.0f} s", flush=True)
        result["seconds"] = [*result["seconds"], made.seconds]
        if "kills" in options.only:
            for row in kills(made, options.kills, options.seed, len(result["kills"])):
                result["kills"].append(row)
                print(f"kill {len(result['kills'])} of {options.kills}: {row}", flush=True)
                save()
        for name in (name for name in FAULTS if name in options.only and name not in result["faults"]):
            result["faults"][name] = FAULTS[name](made)
            print(f"{name}: {result['faults'][name]}", flush=True)
            save()
    rows = [*(row["identical"] for row in result["kills"]), *(row["recovered"] for row in result["faults"].values())]
    return 0 if all(row is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
