"""Everything on one machine: Prefect's server, a worker and the dashboard, until Ctrl-C.

``python -m flows.serve`` starts them on 127.0.0.1, deploys what ``prefect.yaml`` names, and watches: when one of the
three ends, the others are ended, too. All of them end with this process, however that ends. Their output goes to
``.gsclip/logs``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType

from flows.locks import exclusive
from gsclip.errors import GsclipError, InputError

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
POOL = "gsclip"
SERVER_PORT, DASHBOARD_PORT = 4200, 8501
START_SECONDS = 900.0  # the first start of the server creates its data base: minutes where the machine is busy
STOP_SECONDS = 20.0
LOG_BYTES = 10_000_000
HEARTBEAT_SECONDS = 30
ZOMBIES = "gsclip: runs that show no sign of life"
_SUPERVISOR = Path(__file__).with_name("supervisor.py")


@dataclass
class Service:
    """One program that runs.

    Attributes:
        name: for messages.
        process: its supervisor.
        log: where its output goes.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> None:
        """End it and all it started."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_lines(self, number: int = 10) -> str:
        """End of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-number:])


def environment(port: int, home: Path) -> dict[str, str]:
    """Environment of the programs: all state in ``home``, nothing sent anywhere."""
    tools = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join([tools, os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
    }


def start(name: str, command: Sequence[str], variables: Mapping[str, str], logs: Path, folder: Path = ROOT) -> Service:
    """Start a program; it and everything it starts end with this process."""
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name}.log"
    if log.is_file() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, str(_SUPERVISOR), *command],
            cwd=folder,
            env=dict(variables),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Service(name, process, log)


def start_server(port: int, home: Path, logs: Path) -> Service:
    """Start Prefect's server and wait until it answers.

    Raises:
        InputError: the port is in use.
        GsclipError: it does not start.
    """
    check_port(port)
    command = ["prefect", "server", "start", "--host", HOST, "--port", str(port)]
    service = start("server", command, environment(port, home), logs)
    deadline = time.monotonic() + START_SECONDS
    while not answers(f"http://{HOST}:{port}/api/health"):
        if service.process.poll() is not None or time.monotonic() > deadline:
            service.stop()
            raise GsclipError(f"the server does not start; the end of {service.log}:\n{service.last_lines()}")
        time.sleep(0.2)
    return service


def start_worker(port: int, home: Path, logs: Path) -> Service:
    """Start the worker that runs what is due."""
    return start("worker", ["prefect", "worker", "start", "--pool", POOL], environment(port, home), logs)


def deploy(port: int, home: Path, prefect_file: Path = ROOT / "prefect.yaml") -> None:
    """Create the work pool and the deployments, or bring them up to date; and the watch for dead runs.

    Raises:
        GsclipError: one of the steps fails.
    """
    pool = ["prefect", "work-pool", "create", POOL, "--type", "process", "--overwrite"]
    every = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(prefect_file)]
    for command in (pool, every, [sys.executable, "-m", "flows.serve", "--watch"]):
        done = subprocess.run(
            command, cwd=ROOT, env=environment(port, home), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise GsclipError(f"{' '.join(command[:3])} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def watch_for_zombies(within: timedelta = timedelta(seconds=6 * HEARTBEAT_SECONDS)) -> None:
    """Have the server call runs crashed that end without a word, such as those of a machine that lost its power."""
    from prefect.automations import Automation, EventTrigger, Posture
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState

    with contextlib.suppress(ValueError):  # raised where there is none
        Automation.read(name=ZOMBIES)  # type: ignore[unused-coroutine]  # it blocks outside of an event loop
        return
    ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    Automation(
        name=ZOMBIES,
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *ends},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[
            ChangeFlowRunState(
                name="Crashed",
                state=StateType.CRASHED,
                message="No sign of life: its process or machine is gone.",
                force=False,
            )
        ],
    ).create()


def check_port(port: int) -> None:
    """See that nobody listens on a port.

    Raises:
        InputError: somebody does.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InputError(f"port {port}", "is in use", "stop what uses it, or choose another one") from error


def answers(address: str) -> bool:
    """Whether a server answers at an address."""
    try:
        with urllib.request.urlopen(address, timeout=5) as reply:  # noqa: S310 - http, on this machine
            return bool(reply.status == 200)
    except OSError:
        return False


@contextlib.contextmanager
def running(port: int, dashboard: int | None, home: Path, logs: Path) -> Iterator[list[Service]]:
    """Start everything; end it, the worker first, when the block ends."""
    services: list[Service] = []
    try:
        services.append(start_server(port, home, logs))
        deploy(port, home)
        if dashboard is not None:
            check_port(dashboard)
            command = [sys.executable, "-m", "dashboards", "--server.address", HOST, "--server.port"]
            command += [str(dashboard), "--server.headless", "true"]
            services.append(start("dashboard", command, environment(port, home), logs))
        services.append(start_worker(port, home, logs))
        yield services
    finally:
        for service in reversed(services):
            service.stop()


def main() -> int:
    """Run until Ctrl-C, SIGTERM, or the end of one of the programs."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description="Server, worker and dashboard, here.")
    parser.add_argument("--port", type=int, default=SERVER_PORT, help="of Prefect's server and page")
    parser.add_argument("--dashboard-port", type=int, default=DASHBOARD_PORT)
    parser.add_argument("--no-dashboard", action="store_true")
    parser.add_argument("--watch", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        watch_for_zombies()
        return 0

    def stop(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)  # a job in the background of a shell is born deaf to it
    state = ROOT / ".gsclip"
    home = Path(os.environ.get("PREFECT_HOME") or ROOT / ".prefect")
    dashboard = None if options.no_dashboard else options.dashboard_port
    try:
        with (
            exclusive(state / "serve", patience=0),
            running(options.port, dashboard, home, state / "logs") as services,
        ):
            print(f"Runs, schedules, reports: http://{HOST}:{options.port}", flush=True)
            if dashboard is not None:
                print(f"Dashboard: http://{HOST}:{dashboard}", flush=True)
            print(f"Logs: {state / 'logs'}. Ctrl-C ends all of it.", flush=True)
            while True:
                for service in services:
                    if service.process.poll() is not None:
                        ending = f"the end of {service.log}:\n{service.last_lines()}"
                        raise GsclipError(f"the {service.name} has ended; {ending}")
                time.sleep(1)
    except GsclipError as error:
        print(f"gsclip: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", flush=True)
        return 0


if __name__ == "__main__":
    sys.exit(main())
