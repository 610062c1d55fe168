"""The monitoring flow on a real server: drift of real scans starts the retraining's deployment, and only drift does."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from benchmarks.drift import Drift, make_scan, score_batch
from flows.drift_report import markdown_report
from tests.detectors import untrained_detector
from tests.monitoring.windows import window

from gsclip.features.backbone import load_backbone
from gsclip.monitoring.log import LOG_FOLDER, LogWindow, read_window
from gsclip.monitoring.reference import make_reference, read_reference
from gsclip.monitoring.verdict import judge

pytestmark = pytest.mark.slow

GRID = (56, 56)
SCANS = 10
RETRAIN = """
from prefect import flow

@flow(name="retrain")
def retrain():
    return "trained"

if __name__ == "__main__":
    retrain.serve(name="retrain-weekly", limit=1, pause_on_shutdown=False)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A Prefect server on a free port of localhost, with a process that serves ``retrain/retrain-weekly``."""
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": address,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }
    script = home / "retraining.py"
    script.write_text(RETRAIN)
    start = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    processes = []
    with (home / "server.log").open("w") as log, (home / "worker.log").open("w") as worker_log:
        processes.append(subprocess.Popen(start, env=environment, stdout=log, stderr=log))
        try:
            wait_for(lambda: answers(f"{address}/health"), 120)
            command = [sys.executable, str(script)]
            processes.append(subprocess.Popen(command, env=environment, cwd=home, stdout=worker_log, stderr=worker_log))
            with temporary_settings({PREFECT_API_URL: address, PREFECT_HOME: home}):
                yield address
        finally:
            for process in reversed(processes):
                process.terminate()
            for process in processes:
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    process.kill()


def answers(address):
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:  # noqa: S310 - localhost
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def plant(tmp_path_factory):
    """A folder of the monitoring with a reference of scans of one kind of part; and how to score more of them."""
    folder = tmp_path_factory.mktemp("plant")
    tiny = {"render": {"views": 1}, "stage2": {"depth_stream": False}, "features": {"cloud_points": 256}}
    untrained_detector(load_backbone(), threshold=0.5, **tiny).save(folder / "model")
    first = 0

    def score(count, monitoring, drift=None):
        nonlocal first
        numbers = range(first, first + count)
        scans = {f"{number}": make_scan(["elbow"], number, drift or Drift("none"), grid=GRID) for number in numbers}
        score_batch(scans, folder / "model", folder / monitoring)
        first += count

    score(2 * SCANS, "commissioning")
    rows = read_window(folder / "commissioning" / LOG_FOLDER, 100).rows
    make_reference(rows, folder / "line" / "reference", model=rows["model"][0])
    return folder / "line", lambda drift=None: score(SCANS, "line", drift)


def runs_of_retraining():
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    with get_client(sync_client=True) as client:
        name = DeploymentFilter(name=DeploymentFilterName(any_=["retrain-weekly"]))
        return client.read_flow_runs(deployment_filter=name)


def completed_retrainings(count):
    return lambda: sum(run.state is not None and run.state.is_completed() for run in runs_of_retraining()) == count


def artifacts(key):
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return [artifact for artifact in client.read_artifacts() if artifact.key == key]


def test_drift_starts_the_retraining_once_and_its_absence_does_not(server, plant):
    from flows.monitor import PAGE_KEY, REPORT_KEY, connect, monitor, pass_on
    from prefect.client.orchestration import get_client

    folder, score = plant
    run = {"folder": str(folder), "window": SCANS}
    score()
    steady = monitor(**run, return_state=True)
    assert steady.name == "NoDrift", steady.message
    assert "# Monitoring: no drift" in steady.result()

    unheard = pass_on.fn(judge_newest(folder), folder, folder, 24)
    assert "no automation listens" in unheard
    with get_client(sync_client=True) as client:
        wait_for(lambda: client.read_deployments())
    for _ in range(2):  # the second call replaces the connection of the first
        connect("retrain/retrain-weekly")

    score(Drift("noise", noise=6.0))
    noisy = monitor(**run, return_state=True)
    assert noisy.name == "Drift", noisy.message
    report = noisy.result()
    assert "roughness" in noisy.message
    assert "Passed on as event gsclip.drift.detected to gsclip-retrain-on-drift." in report
    assert "**Sensor noise.**" in report
    wait_for(completed_retrainings(1))

    score(Drift("other part", other=True))
    other = monitor(**run, return_state=True)
    assert other.name == "Drift", other.message
    assert "embedding" in other.message
    assert "Not passed on: the last alarm was" in other.result()
    assert "Passed on as event" in pass_on.fn(judge_newest(folder), folder, folder, 0)
    wait_for(completed_retrainings(2))
    assert len(runs_of_retraining()) == 2, "neither the steady batch nor the one within the pause started a run"

    assert report in [artifact.data for artifact in artifacts(REPORT_KEY)]
    assert len(artifacts(PAGE_KEY)) == 3
    pages = sorted((folder / "reports").glob("*/drift.html"))
    assert pages
    events = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["score", "monitor"] * 3
    assert [event["outcome"] for event in events if event["event"] == "monitor"] == ["no drift", "drift", "drift"]
    assert all(event["seconds"] > 0 and event["run"] for event in events)


def judge_newest(folder):
    return judge(read_window(folder / LOG_FOLDER, SCANS), read_reference(folder / "reference"))


def test_unknown_deployments_and_references_are_told(server, tmp_path):
    from flows.monitor import connect, monitor

    from gsclip.errors import InputError

    with pytest.raises(InputError, match="deployment retrain/nightly: is not known"):
        connect("retrain/nightly")
    failed = monitor(str(tmp_path), str(tmp_path / "nothing"), return_state=True)
    assert failed.is_failed()
    assert "holds no reference" in failed.message
    assert json.loads((tmp_path / "runs.jsonl").read_text())["outcome"] == "failed"


def test_report_of_too_few_scans(tmp_path):
    make_reference(window(40, seed=0), tmp_path / "reference", model="m1", splits=100)
    frame = window(4, seed=1).assign(model="m1", batch="b1")
    found = LogWindow(frame, 1, ("left out of the log: 1 torn or incomplete lines",))
    verdict = judge(found, read_reference(tmp_path / "reference"))
    report = markdown_report(verdict, page=tmp_path / "none.html", reference=tmp_path / "reference", action="")
    assert report.startswith("# Monitoring: too few scans\n\nToo few scans: 4 scans, 1 rejected.\n")
    assert "- left out of the log: 1 torn or incomplete lines" in report
    assert "## Columns" not in report
    assert "## Where to look" not in report
