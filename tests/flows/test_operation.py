"""A real server and a real worker: a schedule fires, models are promoted, refused and rolled back, runs are killed.

The project is a toy whose stages take no time (``toy/``); everything around them is what runs in a plant.
"""

import json
import random
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import yaml
from benchmarks.faults import Bench, fingerprint, half_written, kill
from flows.serve import environment, start_server, start_worker
from tests.flows.projects import call, git, make_toy, set_quality
from tests.monitoring.windows import fill_log, window

from gsclip.monitoring.log import BatchLog
from gsclip.monitoring.reference import make_reference
from gsclip.promotion.registry import read_registry, rollback

ROOT = Path(__file__).parents[2]
DEPLOYMENT = "retrain/retrain-weekly"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("plant")


@pytest.fixture(scope="module")
def server(port, folder):
    service = start_server(port, folder / "prefect", folder / "logs")
    yield service
    service.stop()


@pytest.fixture(scope="module")
def client(server, port):
    """Reads from the server's API."""
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(f"http://127.0.0.1:{port}/api") as opened:
        yield opened


@pytest.fixture(scope="module")
def project(folder):
    return make_toy(folder / "project", quality=0.3)


@pytest.fixture
def checkout(project):
    """See that a test leaves the developer's checkout alone."""

    def state():
        return git(project, "status", "--porcelain"), git(project, "symbolic-ref", "HEAD")

    before = state()
    assert before[0] == ""
    yield
    assert state() == before


def prefect(port, folder, *command):
    return call(ROOT, "prefect", "--no-prompt", *command, **environment(port, folder / "prefect"))


@pytest.fixture(scope="module")
def worker(server, port, folder, project):
    """Deploys the repository's own schedule, every minute and for the toy project, and starts a worker."""
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    weekly, daily = content["deployments"]
    weekly["schedules"][0]["cron"] = "* * * * *"
    weekly["parameters"].update(source=str(project), retry_seconds=1)
    daily["schedules"][0]["active"] = False
    daily["parameters"].update(folder=str(folder / "line"))
    # The working directory is where `deploy` was called; the schedule would be that of the repository.
    file = folder / "prefect.yaml"
    file.write_text(yaml.safe_dump(content))
    prefect(port, folder, "work-pool", "create", "gsclip", "--type", "process", "--overwrite")
    prefect(port, folder, "deploy", "--all", "--prefect-file", str(file))
    service = start_worker(port, folder / "prefect", folder / "logs")
    yield service
    service.stop()


@pytest.fixture(scope="module")
def ended(client, folder, worker):
    """Waits for the end of a run as long as it shows progress; tells all that is known when it does not."""

    def progress():
        logs = [worker.log, *(folder / "project" / ".gsclip" / "retrain" / "logs").glob("*.jsonl")]
        return {path: path.stat().st_size for path in logs}

    def wait(run_id, patience=600):
        seen, deadline = progress(), time.monotonic() + patience
        while True:
            run = client.read_flow_run(run_id)
            if run.state is not None and run.state.is_final():
                return run
            if (now := progress()) != seen:
                seen, deadline = now, time.monotonic() + patience
            assert time.monotonic() < deadline, f"still {run.state_name}, no progress\n{situation(worker)}"
            time.sleep(0.5)

    return wait


def situation(worker):
    """What the worker's descendants do; those that run flows write where they stand into its log."""
    members = psutil.Process(worker.process.pid).children(recursive=True)
    rows = [f"{one.pid} {one.status()} {one.cpu_times()[:2]} {' '.join(one.cmdline())}" for one in members]
    for one in members:
        if {"prefect.engine", "prefect.flow_engine"} & set(one.cmdline()):
            one.send_signal(signal.SIGUSR1)
    time.sleep(5)
    return "\n".join([*rows, worker.last_lines(60)])


def runs_of(client):
    return sorted(client.read_flow_runs(), key=lambda run: run.expected_start_time)


def events(project):
    path = max((project / ".gsclip" / "retrain" / "logs").glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_schedule_fires_and_the_first_model_becomes_the_champion(worker, client, project, checkout, ended):
    deadline = time.monotonic() + 300
    while not (started := [run for run in runs_of(client) if run.state_name in ("Running", "Completed", "Failed")]):
        assert time.monotonic() < deadline, "no scheduled run has started"
        time.sleep(0.5)
    deployment = client.read_deployment_by_name(DEPLOYMENT)
    for schedule in deployment.schedules:  # one run is enough
        client.update_deployment_schedule(deployment.id, schedule.id, active=False)
    run = ended(started[0].id)
    assert run.auto_scheduled
    assert run.state.is_completed(), run.state.message
    assert deployment.global_concurrency_limit.limit == 1
    assert [schedule.schedule.timezone for schedule in deployment.schedules] == ["Europe/Berlin"]

    found = read_registry(project)
    assert [version.version for version in found.versions] == ["v0.1.0"]
    assert found.champion == found.versions[0]
    assert found.champion.commit == git(project, "rev-parse", "refs/heads/retraining")
    reports = [artifact for artifact in client.read_artifacts() if artifact.key == "retraining-report"]
    assert "**v0.1.0 is the champion**." in reports[-1].data
    assert "24 accepted, 1 rejected" in reports[-1].data
    finished = [event["step"] for event in events(project) if event["event"] == "finished"]
    assert finished == [
        "fetch", "pull", "prepare", "train", "predict", "evaluate", "quarantine", "gate", "register", "push",
    ]  # fmt: skip
    assert events(project)[-1] | {"seconds": 0} == events(project)[-1] | {"outcome": "completed", "seconds": 0}
    assert {event["run"] for event in events(project)} == {str(run.id)}


@pytest.fixture
def deployed_run(client, ended):
    def run():
        deployment = client.read_deployment_by_name(DEPLOYMENT)
        return ended(client.create_flow_run_from_deployment(deployment.id).id)

    return run


def test_a_better_model_is_promoted_a_worse_one_refused_and_rollback_works(client, project, deployed_run):
    set_quality(project, 0.6)
    head = git(project, "rev-parse", "HEAD")
    assert deployed_run().state.is_completed()
    assert read_registry(project).champion.version == "v0.2.0"
    tables = [artifact for artifact in client.read_artifacts() if artifact.key == "retraining-metrics"]
    assert "+" in json.loads(tables[-1].data)[0]["Difference"]

    set_quality(project, 0.2)
    assert deployed_run().state.is_completed()
    found = read_registry(project)
    assert (found.champion.version, found.challenger.version) == ("v0.2.0", "v0.3.0")
    gate = next(event for event in events(project) if event["event"] == "finished" and event["step"] == "gate")
    assert not gate["promoted"]
    assert any("may be worse" in reason for reason in gate["reasons"])

    rollback(project)
    assert read_registry(project).champion.version == "v0.1.0"
    git(project, "reset", "--quiet", "--hard", head)  # the better model once more: its stages come from the cache
    assert deployed_run().state.is_completed()
    found = read_registry(project)
    assert len(found.versions) == 3
    assert found.champion.version == "v0.1.0", "nobody undoes a rollback but a person"
    outcomes = {event["step"]: event["outcome"] for event in events(project) if {"step", "outcome"} <= event.keys()}
    assert outcomes["train"] == "restored"
    assert git(project, "rev-parse", "HEAD") == head


def test_drift_starts_a_retraining_by_the_trigger_of_the_schedule(client, folder, ended):
    """From the log of scored scans to the end of the retraining, with the deployments of `prefect.yaml` alone."""
    line = folder / "line"
    make_reference(window(100, seed=0), line / "reference", model="m")
    fill_log(BatchLog(line / "log", "m", datetime.now(UTC)), window(30, seed=1, roughness=9), folder / "scans")
    monitoring = client.read_deployment_by_name("monitor/monitor-daily")
    monitored = ended(client.create_flow_run_from_deployment(monitoring.id).id)
    assert monitored.state.name == "Drift", monitored.state.message
    deadline = time.monotonic() + 120
    while not (started := [run for run in runs_of(client) if run.parameters.get("reason") == "drift"]):
        assert time.monotonic() < deadline, "the drift has started no retraining"
        time.sleep(0.5)
    retrained = ended(started[0].id)
    assert retrained.deployment_id == client.read_deployment_by_name(DEPLOYMENT).id
    assert retrained.state.is_completed(), retrained.state.message


def test_a_failing_stage_ends_the_run_with_its_last_lines_and_publishes_nothing(project, folder, deployed_run):
    before = read_registry(project)
    set_quality(project, "not a number")
    run = deployed_run()
    assert run.state.is_failed()
    assert "stage train failed" in run.state.message
    assert "could not convert string to float" in run.state.message
    assert read_registry(project) == before
    assert events(project)[-1]["outcome"] == "failed"
    stored = [json.loads(path.read_text()) for path in (folder / "prefect" / "storage").iterdir()]
    assert [result["__exc_type__"] for result in stored] == ["flows.pipeline.StageError"], "the failure only, no pickle"


@pytest.fixture(scope="module")
def bench(server, port, folder):
    """A project with one undisturbed run, as the fault script uses it."""
    pristine = make_toy(folder / "faults" / "pristine")
    (folder / "faults" / "prefect").symlink_to(folder / "prefect")
    made = Bench(folder / "faults", pristine, port, server)
    made.fresh()
    start = time.monotonic()
    code, message = made.run()
    assert code == 0, message
    made.seconds, made.reference = time.monotonic() - start, fingerprint(made.project)
    return made


@pytest.mark.parametrize(("everything", "step"), [(False, "predict"), (True, "push")])
def test_after_a_kill_the_next_run_leaves_what_an_undisturbed_one_does(bench, everything, step):
    bench.fresh()
    with bench.start() as process:
        while bench.step() != step:
            assert process.poll() is None, bench.message()
            time.sleep(0.05)
        time.sleep(random.Random(step).uniform(0, 2))
        kill(process, everything=everything)
    assert bench.recovers()
    assert half_written(bench.project) == []


def test_serve_refuses_a_port_in_use_and_stops_cleanly(server, port, tmp_path):
    command = [sys.executable, "-m", "flows.serve", "--no-dashboard", "--port", str(port)]
    known = environment(port, tmp_path / "prefect")
    done = subprocess.run(command, cwd=ROOT, env=known, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert f"gsclip: port {port}: is in use" in done.stderr


def test_services_end_with_whoever_started_them(folder):
    code = f"""
import os, time
from pathlib import Path
from flows.serve import start
start("sleeper", ["sleep", "600"], os.environ, Path({str(folder)!r}))
print("up", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout.readline() == "up\n"
        deadline = time.monotonic() + 30
        while not any("sleep" in child.name() for child in psutil.Process(starter.pid).children(recursive=True)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        members = psutil.Process(starter.pid).children(recursive=True)
        starter.send_signal(signal.SIGKILL)
        starter.wait()
    _, alive = psutil.wait_procs(members, timeout=30)
    assert not alive
