"""The log of scored scans: what is written is read, torn and damaged lines are told, and a kill loses nothing."""

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from tests.monitoring.windows import fill_log, window

from gsclip.monitoring.log import BatchLog, read_window
from gsclip.storage import append_line

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def batch(tmp_path, rows, seed, hours=0, model="m1"):
    log = BatchLog(tmp_path / "log", model, NOON + timedelta(hours=hours))
    frame = window(rows, seed)
    fill_log(log, frame, tmp_path / "scans")
    return log, frame


def test_newest_scans_come_back_bit_for_bit_oldest_first(tmp_path):
    _, first = batch(tmp_path, 4, seed=0)
    newer, second = batch(tmp_path, 3, seed=1, hours=1)
    found = read_window(tmp_path / "log", 5, now=NOON + timedelta(hours=2))
    assert found.rows["spacing"].tolist() == [*first["spacing"][-2:], *second["spacing"]]
    assert found.rows["batch"].tolist()[-3:] == [newer.batch] * 3
    assert found.rows["time"].iloc[-1] == "2026-03-01T13:00:00.000+00:00"
    assert (found.rejected, found.notes) == (0, ())
    recent = read_window(tmp_path / "log", 5, since=NOON + timedelta(minutes=1), now=NOON + timedelta(hours=2))
    assert recent.rows["spacing"].tolist() == second["spacing"].tolist()


def test_no_log_holds_no_scans(tmp_path):
    assert len(read_window(tmp_path / "nothing", 5).rows) == 0


def test_a_scan_scored_again_counts_once_unless_by_another_model(tmp_path):
    scan = tmp_path / "scan.xyz"
    scan.write_text("1 2 3")
    frame = window(3, seed=0)
    for number, model in enumerate(("m1", "m1", "m2")):
        BatchLog(tmp_path / "log", model, NOON + timedelta(hours=number)).scored(scan, frame.iloc[number].to_dict())
    rows = read_window(tmp_path / "log", 5, now=NOON + timedelta(days=1)).rows
    assert rows["model"].tolist() == ["m1", "m2"]
    assert rows["spacing"].tolist() == frame["spacing"][1:].tolist()


def test_rejected_scans_are_counted_and_keep_their_reason(tmp_path):
    log, _ = batch(tmp_path, 2, seed=0)
    log.rejected(tmp_path / "bad.ply", "bad.ply: is empty; scan again")
    found = read_window(tmp_path / "log", 5, now=NOON)
    assert (len(found.rows), found.rejected) == (2, 1)
    last = json.loads(log.path.read_text().splitlines()[-1])
    assert last["rejected"] == "bad.ply: is empty; scan again"
    assert set(last) == {"time", "batch", "scan", "model", "rejected"}


def test_what_cannot_be_used_is_left_out_and_told(tmp_path):
    log, frame = batch(tmp_path, 2, seed=0)
    broken = frame.iloc[0].to_dict() | {"spacing": np.nan}
    log.scored(tmp_path / "scans" / f"{log.batch}-0.xyz", broken)
    with log.path.open("a") as file:
        file.write('{"time": "2026-03-01T12:00:00+00:00", "model": "m1", "batch": "b"}\n[]\n{"time": "2026-')
    log.scored(tmp_path / "scans" / f"{log.batch}-1.xyz", frame.iloc[1].to_dict())  # starts on a line of its own
    batch(tmp_path, 1, seed=3, hours=30)
    (tmp_path / "log" / "notes.jsonl").write_text("not a batch\n")
    found = read_window(tmp_path / "log", 5, now=NOON)
    assert len(found.rows) == 2
    assert found.notes == (
        "left out of the log: 3 torn or incomplete lines",
        "left out of the log: 1 scans without finite numbers",
        "left out of the log: 1 batches dated in the future",
    )


def test_a_killed_batch_keeps_every_scan_it_has_scored(tmp_path):
    program = f"""
from pathlib import Path
from tests.monitoring.windows import window
from gsclip.monitoring.log import BatchLog
log, row = BatchLog({str(tmp_path / "log")!r}, "m1"), window(1, 0).iloc[0].to_dict()
for number in range(10**9):
    scan = Path({str(tmp_path)!r}) / f"scan-{{number}}"
    scan.write_text(str(number))
    log.scored(scan, row)
    print(number, flush=True)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        told = [int(process.stdout.readline()) for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.stdout]
    found = read_window(tmp_path / "log", 10**6)
    assert len(found.rows) in (len(told), len(told) + 1)


def test_lines_of_threads_never_mix(tmp_path):
    path = tmp_path / "shared.jsonl"
    texts = [str(number) * 3000 for number in range(8)]

    def write(text):
        for _ in range(20):
            append_line(path, text)

    threads = [threading.Thread(target=write, args=[text]) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.read_text().split()) == sorted(texts * 20)


def test_no_space_is_an_error_that_names_the_file():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        append_line("/dev/full", "text")
