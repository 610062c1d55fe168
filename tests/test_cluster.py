"""A real Dask scheduler and its worker processes: bytes as on one machine, death without loss, strangers refused."""

import contextlib
import functools
import json
import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from distributed import Client

from gsclip import cluster
from gsclip.cluster import cluster_map
from gsclip.data.preparation import prepare_sample
from gsclip.data.procedural.dataset import generate_scan
from gsclip.detector import Detector, DetectorConfig
from gsclip.errors import GsclipError, InputError
from gsclip.features.backbone import load_backbone
from gsclip.features.packing import write_features
from gsclip.packs import PackFolders
from gsclip.parallel import SCHEDULER, ordered_map
from gsclip.params import load_params
from gsclip.predicting import write_predictions
from gsclip.prompts.geometry_prompts import build_prompts
from gsclip.storage import sha256, write_pack
from gsclip.streams.streams import build_streams
from gsclip.views.packing import write_views

pytestmark = [
    pytest.mark.slow,
    # Left open by Dask where a worker was killed under it.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).parents[1]
START = 300  # seconds, where the machine has much else to do
NAMES = ("castle_nut/test/good/000", "castle_nut/test/good/001", "elbow/test/good/000")


@contextlib.contextmanager
def dask(*arguments):
    """Run one of Dask's commands, on this machine alone, with this tree's package."""
    search = os.pathsep.join([str(ROOT / "src"), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments],
        env=os.environ | {"PYTHONPATH": search, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def scheduler(folder):
    """Give the address of a fresh scheduler without workers."""
    place = folder / "scheduler.json"
    with dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(place)):
        end = time.monotonic() + START
        while not place.is_file() or not place.read_text():
            assert time.monotonic() < end
            time.sleep(0.05)
        yield json.loads(place.read_text())["address"]


def workers(address, number=2, threads=1):
    return dask(
        "worker", address, "--host", "127.0.0.1", "--nworkers", str(number), "--nthreads", str(threads),
        "--no-dashboard", "--death-timeout", str(START),
    )  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with scheduler(tmp_path_factory.mktemp("scheduler")) as place, workers(place):
        with Client(place, timeout=START, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=START)
        yield place


def place_of(number):
    return number, os.getpid(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()


def test_results_come_in_order_from_other_processes_of_one_thread(address):
    found = list(ordered_map(place_of, iter(range(30)), scheduler=address))
    assert [number for number, *_ in found] == list(range(30))
    assert os.getpid() not in {process for _, process, *_ in found}
    assert {settings for _, _, *settings in found for settings in [tuple(settings)]} == {(1, True)}


def test_items_are_read_only_a_little_ahead_and_no_item_needs_no_scheduler(address):
    read = []

    def items():
        for number in range(100):
            read.append(number)
            yield number

    results = cluster_map(place_of, items(), address)
    next(results)
    assert len(read) <= 2 * cluster.AHEAD + 1
    results.close()
    assert list(cluster_map(place_of, [], "tcp://127.0.0.1:9")) == []


def twice(array):
    assert array.flags.writeable  # torch warns of others
    return 2 * array


def test_arrays_travel_both_ways_as_they_are(address):
    array = np.arange(1 << 20, dtype=np.float32)
    for result in cluster_map(twice, [array, array], address):
        np.testing.assert_array_equal(result, 2 * array)
        assert result.flags.writeable


def fail(number):
    raise InputError(f"scan {number}", "is broken", "scan it again")


def test_errors_reach_the_caller_whole(address):
    with pytest.raises(InputError, match="scan 3: is broken; scan it again"):
        list(cluster_map(fail, [3], address))


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """Three small samples in packs, their index, and an untrained detector of two views."""
    folder = tmp_path_factory.mktemp("packs")
    params = load_params(ROOT / "params.yaml")
    render = params.render.model_copy(update={"views": 2})
    features = params.features.model_copy(update={"cloud_points": 512})
    index = pd.DataFrame({"name": NAMES, "category": [name.split("/")[0] for name in NAMES], "label": 0})
    for category, rows in index.groupby("category"):
        with write_pack(folder / "prepared" / f"{category}.h5") as pack:
            for number, name in enumerate(rows["name"]):
                pack.add(name, prepare_sample(generate_scan(category, number, None, 0, grid=(120, 120))))
    torch.manual_seed(0)
    backbone = load_backbone()
    config = DetectorConfig(
        scan=params.prepare.scan, render=render, features=features, stage1=params.stage1, stage2=params.stage2,
        predict=params.predict, threshold=0.5,
    )  # fmt: skip
    prompts = build_prompts(backbone, params.stage1)
    return folder / "prepared", index, Detector(config, backbone, prompts, *build_streams(backbone, params.stage2))


def outputs(packs, folder):
    """Write views, features and predictions; their digests, and the rows of samples.csv."""
    prepared, index, detector = packs
    folders = PackFolders(prepared, folder / "views", folder / "features")
    write_views(index, prepared, folders.views, detector.config.render)
    write_features(index, prepared, folders.views, folders.features, detector.backbone, detector.config.features)
    rows = write_predictions(detector, index, folders, folder / "predictions")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) == 8
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}, rows


def test_views_features_and_predictions_have_the_bytes_of_one_machine(packs, address, tmp_path, monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(3)  # of the process itself
    local = outputs(packs, tmp_path / "local")
    torch.set_num_threads(before)
    monkeypatch.setenv(SCHEDULER, address)
    assert outputs(packs, tmp_path / "cluster") == local
    monkeypatch.delenv(SCHEDULER)
    prepared, index, detector = packs
    folders = PackFolders(prepared, tmp_path / "local/views", tmp_path / "local/features")
    monkeypatch.setattr("gsclip.predicting.FEW", 0)  # by local processes, too
    monkeypatch.setattr("gsclip.parallel.os.sched_getaffinity", lambda _: {0})
    write_predictions(detector, index, folders, tmp_path / "processes")
    for path in sorted((tmp_path / "processes").iterdir()):
        assert sha256(path) == local[0][f"predictions/{path.name}"]


def kill_once(folder, number):
    if number == 3:
        with contextlib.suppress(FileExistsError):
            (folder / "killed").mkdir()
            os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return number, os.getpid()


def test_a_killed_worker_loses_nothing(address, tmp_path):
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    found = list(cluster_map(functools.partial(kill_once, tmp_path), range(12), address))
    assert (tmp_path / "killed").is_dir()
    assert [number for number, _ in found] == list(range(12))


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_item_that_kills_every_worker_is_named(address):
    with pytest.raises(GsclipError, match="workers died again and again at 7, most likely for lack of memory"):
        list(cluster_map(die, [7], address))


def test_other_versions_are_refused_before_and_in_the_work(monkeypatch):
    ours = cluster.facts()
    with pytest.raises(GsclipError, match="another version: torch is"):
        cluster._call("run", ours | {"torch": "0.1"}, None)
    monkeypatch.setattr(cluster, "facts", lambda: ours | {"torch": "0.1", "code of gsclip": "0" * 16})
    refusal = r"worker tcp://worker: another version: code of gsclip is \w{16} and not 0{16}, torch is .* and not 0.1"
    with pytest.raises(InputError, match=refusal):
        cluster._check(FakeClient(), "tcp://here")


class FakeClient:
    """A scheduler with one worker of this very code."""

    def nthreads(self):
        return {"tcp://worker": 1}

    def submit(self, function, workers, pure):
        future = Future()
        future.set_result(REAL_FACTS())
        return future


REAL_FACTS = cluster.facts


def test_workers_of_many_threads_are_refused(tmp_path):
    refused = pytest.raises(InputError, match="runs 2 threads; start it with --nthreads 1")
    with scheduler(tmp_path) as place, workers(place, number=1, threads=2), refused:
        list(cluster_map(place_of, [1], place))


def test_no_scheduler_and_no_workers_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT", 0.5)
    monkeypatch.setattr(cluster, "WAIT", 0.5)
    with pytest.raises(InputError, match=r"tcp://127.0.0.1:9: no Dask scheduler answers .* unset GSCLIP_SCHEDULER"):
        list(cluster_map(place_of, [1], "tcp://127.0.0.1:9"))
    with scheduler(tmp_path) as place, pytest.raises(InputError, match="has no workers; start some: `dask worker"):
        list(cluster_map(place_of, [1], place))
