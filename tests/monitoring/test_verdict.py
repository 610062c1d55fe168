"""Reference and verdict: thresholds that hold their rate, what alarms, what cannot be judged, and what it means."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from tests.monitoring.windows import fill_log, window

from gsclip.errors import InputError
from gsclip.monitoring.columns import SCORE_COLUMNS, VALUE_COLUMNS
from gsclip.monitoring.log import BatchLog, LogWindow
from gsclip.monitoring.meaning import MEANINGS, REJECTED, meanings
from gsclip.monitoring.reference import make_reference, read_reference
from gsclip.monitoring.verdict import Outcome, judge, judge_log


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reference of 120 scans, by model m1."""
    folder = tmp_path_factory.mktemp("monitoring") / "reference"
    assert make_reference(window(120, seed=0), folder, model="m1", splits=1000) == 120
    return folder


@pytest.fixture(scope="module")
def reference(folder):
    return read_reference(folder)


def logged(frame, rejected=0, model="m1"):
    return LogWindow(frame.assign(model=model, batch="b"), rejected, ())


def test_thresholds_are_kept_by_size_of_the_window(reference):
    assert sorted(reference.settings.thresholds) == [10, 15, 20, 30, 40, 50]
    assert reference.thresholds(9) is None
    assert reference.thresholds(29) == reference.settings.thresholds[20]
    assert reference.thresholds(1000) == reference.settings.thresholds[50]
    spacing = [reference.settings.thresholds[size]["spacing"] for size in (10, 20, 40)]
    assert spacing == sorted(spacing, reverse=True)


def test_false_alarms_are_as_rare_as_promised(reference):
    alarms = [judge(logged(window(20, seed)), reference).outcome is Outcome.DRIFT for seed in range(1, 101)]
    assert np.mean(alarms) <= 0.05, "the rate is 0.01; 100 windows exceed 0.05 by chance in 1 of 1,000 cases"


def test_same_rows_give_the_same_bytes_and_defective_ones_are_left_out(folder, tmp_path):
    rows = window(120, seed=0).assign(label=pd.array([0] * 120, dtype="Int64"))
    bad = window(5, seed=9, map_max=50).assign(label=pd.array([1] * 5, dtype="Int64"))
    assert make_reference(pd.concat([rows, bad]), tmp_path / "again", model="m1", splits=1000) == 120
    for name in ("reference.csv", "reference.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("column", ["roughness", "gap_ratio", "object_score", "embedding"])
def test_a_shift_raises_an_alarm_with_its_meaning(reference, column):
    verdict = judge(logged(window(20, seed=1, **{column: 2})), reference)
    assert verdict.outcome is Outcome.DRIFT
    assert verdict.drifted_columns == (column,)
    assert [column in meaning.columns for meaning in verdict.meanings] == [True]


def test_every_monitored_column_has_a_meaning_of_its_own():
    columns = [column for meaning in MEANINGS for column in meaning.columns]
    assert sorted(columns) == sorted([*VALUE_COLUMNS, "embedding", REJECTED])
    assert [meaning.name for meaning in meanings(["object_score", "roughness"])] == ["sensor noise", "scores"]


def test_few_scans_are_no_alarm_however_far_off(reference):
    verdict = judge(logged(window(9, seed=1, spacing=100)), reference)
    assert verdict.outcome is Outcome.TOO_FEW
    assert verdict.result is None
    assert judge(LogWindow(pd.DataFrame(), 0, ()), reference).outcome is Outcome.TOO_FEW


def test_many_rejected_scans_are_an_alarm_even_where_few_can_be_scored(reference):
    verdict = judge(logged(window(4, seed=1), rejected=8), reference)
    assert verdict.outcome is Outcome.DRIFT
    assert verdict.drifted_columns == (REJECTED,)
    assert judge(logged(window(4, seed=1), rejected=2), reference).outcome is Outcome.TOO_FEW
    assert judge(logged(window(20, seed=1), rejected=4), reference).outcome is Outcome.NO_DRIFT


def test_scores_of_another_model_are_not_compared(reference):
    shifted = window(20, seed=1, **dict.fromkeys(SCORE_COLUMNS, 5))
    verdict = judge(logged(shifted, model="m2"), reference)
    assert verdict.outcome is Outcome.NO_DRIFT
    assert not {column.column for column in verdict.result.columns} & set(SCORE_COLUMNS)
    assert verdict.notes == ("scores are not compared: the reference is of model m1, the window of m2",)
    assert judge(logged(shifted), reference).outcome is Outcome.DRIFT


def test_a_reference_of_few_scans_judges_nothing(tmp_path):
    make_reference(window(12, seed=0), tmp_path / "reference", model="m1", smallest=0)
    verdict = judge(logged(window(30, seed=1, spacing=9)), read_reference(tmp_path / "reference"))
    assert verdict.outcome is Outcome.TOO_FEW
    assert verdict.notes == ("the reference holds 12 scans, too few for thresholds",)
    with pytest.raises(InputError, match="holds 12 samples, a comparison needs 20"):
        make_reference(window(12, seed=0), tmp_path / "asked", model="m1")


def test_a_reference_that_was_changed_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no reference \(reference\.json not found\)"):
        read_reference(tmp_path)
    make_reference(window(20, seed=0), tmp_path / "r", model="m1", splits=50)
    rows = (tmp_path / "r" / "reference.csv").read_text()
    (tmp_path / "r" / "reference.csv").write_text(rows.replace("120", "121", 1) + rows.splitlines()[-1])
    with pytest.raises(InputError, match="SHA-256 differs"):
        read_reference(tmp_path / "r")
    (tmp_path / "r" / "reference.json").write_text('{"model": "m1"}')
    with pytest.raises(InputError, match="no reference of this version"):
        read_reference(tmp_path / "r")


def test_page_and_verdict_of_a_log(folder, tmp_path):
    start = datetime(2026, 3, 1, tzinfo=UTC)
    log = BatchLog(tmp_path / "log", "m2", start)
    fill_log(log, window(40, seed=1, roughness=3), tmp_path / "scans")
    now = start + timedelta(hours=1)
    for name in ("a", "b"):
        verdict = judge_log(tmp_path / "log", folder, tmp_path / name, scans=30, now=now)
    assert verdict.text == "drift: 30 scans, 0 rejected, roughness"
    written = json.loads((tmp_path / "a" / "drift.json").read_text())
    assert written["outcome"] == "drift"
    assert written["drifted_columns"] == ["roughness"]
    assert written["batches"] == [log.batch]
    assert written["meanings"][0]["name"] == "sensor noise"
    assert "does not know another" in written["meanings"][0]["retraining"]
    assert written["method"]["false_alarm_rate"] == 0.01
    page = (tmp_path / "a" / "drift.html").read_text()
    assert "roughness" in page
    assert "object_score" not in page
    for name in ("drift.json", "drift.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    judge_log(tmp_path / "log", folder, tmp_path / "a", scans=5, now=now)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["drift.json"]
