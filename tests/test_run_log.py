"""Structured logs: one line of JSON an event, with the run, seconds and how it ended."""

import json
from pathlib import Path

import numpy as np
import pytest

from gsclip.run_log import RunLog


def test_events_of_a_run(tmp_path):
    log = RunLog(tmp_path / "new" / "runs.jsonl", run="r1")
    with log.timed("score", scans=3) as found:
        found |= {"scored": np.int64(2), "folder": Path("a/b")}
    with pytest.raises(ValueError, match="too cold"), log.timed("score", scans=1):
        raise ValueError("too cold")
    first, second = (json.loads(line) for line in (tmp_path / "new" / "runs.jsonl").read_text().splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first.pop("seconds") >= 0
    assert first == {"run": "r1", "event": "score", "scans": 3, "outcome": "done", "scored": 2, "folder": "a/b"}
    assert (second["outcome"], second["error"]) == ("failed", "ValueError: too cold")


def test_without_a_file_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with RunLog(None).timed("score"):
        pass
    assert not list(tmp_path.iterdir())
    assert RunLog(None).run != RunLog(None).run
