import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from gsclip.data.own_parts import own_parts_index
from gsclip.errors import InputError
from gsclip.marks import Mark, Marks, export_labels, latest, marks_csv, marks_table, right_label

START = datetime(2026, 1, 1, tzinfo=UTC)


def mark(sample, verdict, minute=0, **values):
    return Mark(sample=sample, run="current", verdict=verdict, time=START + timedelta(minutes=minute), **values)


def write_many(folder, author):
    store = Marks(folder)
    for number in range(40):
        store.add(Mark(sample=f"part {number}", verdict="ok", author=author))


def test_marks_are_read_as_they_were_written(tmp_path):
    written = mark("a", "relabel", defect="cut", note="beside\nthe thread", author="Ada", object_score=0.4, decision=1)
    Marks(tmp_path).add(written)
    assert Marks(tmp_path).all() == [written]


def test_two_people_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    people = [context.Process(target=write_many, args=(tmp_path, name)) for name in ("Ada", "Bob")]
    for person in people:
        person.start()
    for person in people:
        person.join()
    found = Marks(tmp_path).all()
    assert len(found) == 80
    assert {entry.author for entry in found} == {"Ada", "Bob"}


def test_a_kill_while_marks_are_written_leaves_whole_ones(tmp_path):
    code = (
        "import sys; from gsclip.marks import Mark, Marks\n"
        "while True: Marks(sys.argv[1]).add(Mark(sample='x', verdict='ok', note='n' * 2000))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=os.environ)
    while len(list(tmp_path.glob("[!.]*.json"))) < 20:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    visible = list(tmp_path.glob("[!.]*.json"))
    assert len(Marks(tmp_path).all()) == len(visible) >= 20


def test_files_that_are_no_marks_are_left_out(tmp_path, caplog):
    Marks(tmp_path).add(mark("a", "ok"))
    (tmp_path / "20260101-broken.json").write_text('{"sample": ')
    (tmp_path / "other.json").write_text("{}")
    assert [entry.sample for entry in Marks(tmp_path).all()] == ["a"]
    assert "broken.json: is no mark" in caplog.text
    assert Marks(tmp_path / "absent").all() == []


def test_the_latest_mark_counts_and_can_be_withdrawn():
    marks = [mark("a", "ok"), mark("a", "missed", 1), mark("b", "ok", 2), mark("b", "withdrawn", 3)]
    assert {key: entry.verdict for key, entry in latest(marks).items()} == {("current", "a"): "missed"}


def test_the_stamp_changes_with_every_mark(tmp_path):
    store = Marks(tmp_path)
    stamps = {store.stamp()}
    for number in range(3):
        store.add(mark("a", "ok", number))
        stamps.add(store.stamp())
    assert len(stamps) == 4


@pytest.mark.parametrize("values", [{"verdict": "perhaps"}, {"defect": "a/b"}, {"note": "n" * 3000}, {"sample": ""}])
def test_marks_in_another_form_are_refused(values):
    with pytest.raises(ValidationError):
        Mark(**{"sample": "a", "verdict": "ok", **values})


def test_the_table_has_the_newest_first_and_formulas_stay_text():
    marks = [mark("a", "ok"), mark("b", "ok", 1, note="=HYPERLINK(1)", author="@me")]
    assert list(marks_table(marks)["sample"]) == ["b", "a"]
    read = pd.read_csv(io.StringIO(marks_csv(marks)))
    assert read["note"].iloc[0] == "'=HYPERLINK(1)"
    assert read["author"].iloc[0] == "'@me"


@pytest.mark.parametrize(
    ("verdict", "decision", "defect", "label", "expected"),
    [
        ("false_alarm", 1, "", "cut", "good"),
        ("missed", 0, "", "good", "defect"),
        ("missed", 0, "hole", "good", "hole"),
        ("missed", 0, "", "cut", "cut"),
        ("relabel", 1, "good", "cut", "good"),
        ("ok", 0, "", "", "good"),
        ("ok", 1, "", "", "defect"),
        ("ok", None, "", "", ""),
    ],
)
def test_a_mark_says_a_label(verdict, decision, defect, label, expected):
    assert right_label(verdict, decision, defect, label) == expected


@pytest.fixture
def parts(tmp_path):
    root = tmp_path / "parts"
    cloud = np.random.default_rng(0).random((50, 3))
    for place in ("bolt/test/good/000", "bolt/test/good/001", "bolt/test/cut/000", "bolt/train/good/002"):
        path = root / f"{place}.xyz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(path, cloud)
    return root


def test_marks_become_labels_of_own_parts(parts, tmp_path):
    index = own_parts_index(parts, None, ("train", "validation", "test"))
    names = dict(zip(index["scan_path"], index["name"], strict=True))
    store = Marks(tmp_path / "marks")
    store.add(mark(names["bolt/test/good/000.xyz"], "missed", defect="dent", decision=0))
    store.add(mark(names["bolt/test/cut/000.xyz"], "false_alarm", 1, decision=1))
    store.add(mark("bolt/test/good/gone", "ok", 2, decision=0))
    scan = store.keep_scan("line 3.xyz", (parts / "bolt/test/good/001.xyz").read_bytes() + b"\n")
    new = {"run": "", "sample": "line 3.xyz", "verdict": "ok", "decision": 1, "scan": scan}
    store.add(Mark(**new, category="bolt"))
    labelled, left_out = export_labels(store, parts, index=index)
    assert labelled == 3
    assert len(left_out) == 1
    assert left_out[0].startswith("bolt/test/good/gone: is not in the index of this run")
    after = own_parts_index(parts, None, ("train", "validation", "test")).set_index("scan_path")
    assert after.loc["bolt/test/good/000.xyz", ["split", "defect"]].tolist() == ["train", "dent"]
    assert after.loc["bolt/test/cut/000.xyz", ["split", "defect"]].tolist() == ["train", "good"]
    assert after.loc["bolt/test/good/001.xyz", ["split", "defect"]].tolist() == ["test", "good"]
    (added,) = [path for path in after.index if path.startswith("marked/")]
    assert after.loc[added, ["split", "defect"]].tolist() == ["train", "defect"]
    before = (parts / "labels.csv").read_bytes()
    assert export_labels(store, parts, index=index)[0] == 3
    assert (parts / "labels.csv").read_bytes() == before


def test_a_mark_cannot_name_a_file_elsewhere(parts, tmp_path):
    store = Marks(tmp_path / "marks")
    (tmp_path / "secret.xyz").write_text("1 2 3")
    for number, place in enumerate(("../secret.xyz", "scans/../../secret.xyz", "/etc/hostname")):
        store.add(Mark(sample=f"s{number}", verdict="ok", decision=0, category="bolt", scan=place))
    labelled, left_out = export_labels(store, parts)
    assert labelled == 0
    assert len(left_out) == 3
    assert not (parts / "marked").exists()


def test_an_unknown_split_is_refused(parts, tmp_path):
    with pytest.raises(InputError, match="no such split"):
        export_labels(Marks(tmp_path), parts, split="later")
