"""What the pages are made of and needs no page: lists, comparison, drift, runs in git, texts, uploads."""

import ast
import json
import subprocess

import numpy as np
import pandas as pd
import pytest
import yaml
from dashboards import compare, data, drift, runs, selection, text, uploads
from dashboards.baseline import baselines, difference
from tests.dashboards.spheres import ROOT

from gsclip.errors import InputError

CONTENT = b"0 0 0\n1 1 1\n"


# --- lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (selection.MISSED, ["ball/test/dent/003"]),
        (selection.FALSE_ALARMS, ["ball/test/good/001"]),
        (selection.AUXILIARY, ["pearl/test/dent/001", "pearl/test/good/000"]),
    ],
)
def test_groups_hold_their_samples(workspace, group, expected):
    assert sorted(selection.listed(data.load_samples(workspace), group)["name"]) == expected


def test_localisation_orders_both_ways_and_filters_apply(workspace):
    samples = data.load_samples(workspace)
    found = pd.Series({"ball/test/dent/002": 0.9, "ball/test/dent/003": 0.4, "marble/test/scratch/001": 0.7})
    worst = selection.listed(samples, selection.WORST_LOCALISED, localisation=found)
    assert list(worst["point_auroc"]) == [0.4, 0.7, 0.9]
    best = selection.listed(samples, selection.BEST_LOCALISED, localisation=found, category="ball")
    assert list(best["point_auroc"]) == [0.9, 0.4]
    assert selection.listed(samples, selection.WORST_LOCALISED).empty


@pytest.mark.parametrize(
    ("current", "expected"), [("a", (None, "b")), ("b", ("a", "c")), ("c", ("b", None)), ("x", (None, "a"))]
)
def test_neighbours_of_a_list(current, expected):
    assert selection.neighbours(["a", "b", "c"], current) == expected


# --- comparison -------------------------------------------------------------------------------------------------------


def test_changed_decisions_come_first_and_say_what_changed():
    first = pd.DataFrame({
        "name": list("abcde"), "category": "x", "defect": "", "label": [0, 1, 0, 1, np.nan],
        "object_score": [0.6, 0.7, 0.1, 0.8, 0.9], "decision": [1, 1, 0, 1, 1],
    })  # fmt: skip
    second = first.assign(object_score=[0.4, 0.2, 0.3, 0.75, 0.1], decision=[0, 0, 0, 1, 0])
    table = compare.joined(first, second.iloc[::-1])
    assert list(table["name"]) == ["a", "b", "e", "c", "d"]
    assert list(table["change"][:3]) == [compare.BROKEN, compare.FIXED, compare.CHANGED]
    assert table["difference"].iloc[1] == pytest.approx(0.5)
    figure = compare.scatter(table, names=("", ""), thresholds=(0.5, 0.5), labels=("good", "bad", "none"))
    assert sum(len(trace.x) for trace in figure.data) == 5
    lowest, highest = figure.layout.xaxis.range
    assert all(lowest <= score <= highest for trace in figure.data for score in (*trace.x, *trace.y))


def test_metrics_and_parameters_that_differ():
    table = compare.metric_differences(
        {"mean": {"o_auroc": {"ours": 0.8}, "new": {"ours": 1.0}}}, {"mean": {"o_auroc": {"ours": 0.7}}}
    )
    assert table["difference"].iloc[0] == pytest.approx(0.1)
    assert np.isnan(table["difference"].iloc[1])
    parameters = compare.parameter_differences({"a.b": 1, "a.c": [1, 2]}, {"a.b": 1, "a.d": True})
    assert parameters.to_numpy().tolist() == [["a.c", "1, 2", "–"], ["a.d", "–", "true"]]


# --- drift ------------------------------------------------------------------------------------------------------------


def verdict(folder, drifted, **content):
    folder.mkdir(parents=True)
    columns = [{"column": "spacing", "distance": 1.5 if drifted else 0.2, "threshold": 0.5, "drifted": drifted}]
    result = {"drifted": drifted, "verdict": "words", "columns": columns, **content}
    (folder / "drift.json").write_text(json.dumps(result))


def test_verdicts_and_events_come_by_time_whatever_else_lies_there(tmp_path):
    verdict(tmp_path / "monitoring/2026-02-01", True)
    verdict(tmp_path / "outputs/drift/batch", False, time="2026-01-05T10:00:00+01:00")
    (tmp_path / "monitoring/2026-02-01/drift.html").write_text("<html>")
    (tmp_path / "monitoring/broken.json").write_text("{")
    (tmp_path / "monitoring/other.json").write_text('{"drifted": "yes"}')
    lines = [
        '{"time": "2026-02-01T06:00:00", "run": 7, "event": "monitor", "columns": ["a", "b"], "outcome": "drift"}',
        "no json", '{"event": "untimed"}', '{"time": "2026-02-01T05:00:00", "name": "a scan, no event"}',
    ]  # fmt: skip
    (tmp_path / "monitoring/events.jsonl").write_text("\n".join(lines))
    found = drift.find_verdicts(tmp_path)
    assert [entry.drifted for entry in found] == [False, True]
    assert f"{found[0].time:%Y-%m-%d %H}" == "2026-01-05 10"
    assert f"{found[1].time:%Y-%m-%d}" == "2026-02-01"
    assert found[1].worst == pytest.approx(3)
    assert [entry.page is not None for entry in found] == [False, True]
    events = drift.find_events(tmp_path)
    assert [(event.kind, event.text) for event in events] == [("monitor", "drift · columns a, b · run 7")]
    figure = drift.timeline(found, events, title="t", limit="l")
    assert list(figure.data[0].y) == pytest.approx([0.4, 3.0])
    assert drift.stamp(tmp_path)[0] == 5


def test_of_many_events_the_last_ones_are_read_and_no_logs_of_scans(tmp_path, monkeypatch):
    monkeypatch.setattr(drift, "MOST_FILES", 2)
    monkeypatch.setattr(drift, "LARGEST", 200)
    scans = tmp_path / "monitoring/log"
    scans.mkdir(parents=True)
    for number in range(3):
        (scans / f"{number}.jsonl").write_text('{"time": "2026-02-01T05:00:00", "event": "not looked at"}')
    runs = [f'{{"time": "2026-02-01T05:00:{second}", "event": "score"}}' for second in range(10, 40)]
    (tmp_path / "monitoring/runs.jsonl").write_text("\n".join(runs))
    events = drift.find_events(tmp_path)
    assert {event.kind for event in events} == {"score"}
    assert [event.time.second for event in events] == [36, 37, 38, 39]
    assert drift.stamp(tmp_path)[0] == 1
    assert drift.find_verdicts(tmp_path) == []


def test_each_retraining_is_one_event(tmp_path):
    logs = tmp_path / drift.RETRAININGS
    logs.mkdir(parents=True)
    begun = '{"time": "2026-02-01T06:00:00", "run": "r", "event": "begun", "reason": "schedule"}'
    step = '{"time": "2026-02-01T06:00:01", "run": "r", "event": "started", "step": "fetch"}'
    ended = '{"time": "2026-02-01T07:00:00", "run": "r", "event": "ended", "outcome": "refused", "seconds": 9}'
    (logs / "1.jsonl").write_text("\n".join([begun, step, ended]))
    (logs / "2.jsonl").write_text("\n".join([begun, step, '{"time": "2026']))
    (logs / "3.jsonl").write_text("")
    events = drift.find_events(tmp_path)
    assert {event.kind for event in events} == {drift.RETRAINING}
    assert [event.text for event in events] == [
        "refused · reason schedule · seconds 9 · run r", "not ended · reason schedule · run r"
    ]  # fmt: skip


# --- runs -------------------------------------------------------------------------------------------------------------


def git(folder, *arguments):
    name = ("-c", "user.name=n", "-c", "user.email=e@x")
    subprocess.run(["git", *name, "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.fixture
def history(workspace):
    """Two commits of metrics under the run's own; the first one is the champion."""
    path = workspace / "outputs/metrics.json"
    current = json.loads(path.read_text())
    git(workspace, "init", "-q")
    for value, subject in ((0.5, "first"), (0.25, "second")):
        changed = json.loads(json.dumps(current))
        changed["mean"]["o_auroc"]["ours"] = value
        path.write_text(json.dumps(changed))
        (workspace / "params.yaml").write_text(yaml.safe_dump({"stage1": {"epochs": value}}))
        git(workspace, "add", "outputs/metrics.json", "params.yaml")
        git(workspace, "commit", "-qm", subject)
        if subject == "first":
            git(workspace, "tag", "-a", "gsclip@v1.2.0", "-m", "version")
            git(workspace, "tag", "-a", "gsclip#champion#1", "-m", "champion")
    path.write_text(json.dumps(current))
    return workspace


def test_the_champion_is_the_first_baseline(history):
    metrics = data.load_metrics(history).model_dump()
    found = baselines(history, metrics)
    assert found[0].name == "champion gsclip@v1.2.0"
    assert found[1].name.endswith("second")
    ours = metrics["mean"]["o_auroc"]["ours"]
    assert difference(metrics, found[0], "o_auroc") == pytest.approx(ours - 0.5)
    assert runs.params_at(history, found[1].key) == {"stage1.epochs": 0.25}


def test_metrics_of_other_data_are_no_baseline(history):
    metrics = data.load_metrics(history).model_dump()
    assert baselines(history, {**metrics, "data": {"dataset": "other"}}) == []


def test_outside_of_git_there_is_no_baseline(workspace):
    assert runs.revisions(workspace) == []


def test_scores_that_dvc_does_not_have_are_told(history):
    commit = runs.revisions(history)[1].commit
    with pytest.raises(InputError, match="are not in DVC's cache"):
        runs.samples_at(str(history), commit)


def test_folders_with_results_are_runs(workspace):
    (workspace / "runs/mvtec/outputs").mkdir(parents=True)
    (workspace / "runs/empty").mkdir()
    (workspace / "runs/mvtec/outputs/metrics.json").write_text("{}")
    assert [run.key for run in runs.find_runs(workspace)] == ["current", "runs/mvtec"]


# --- texts ------------------------------------------------------------------------------------------------------------


def test_every_sentence_of_the_pages_can_be_translated():
    """Arguments that readers see are no bare strings with words."""
    bare = []
    for path in sorted((ROOT / "dashboards").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            shown = node.func.attr in {
                "title", "markdown", "caption", "info", "warning", "error", "success", "button", "metric", "selectbox",
                "slider", "toggle", "subheader", "heading", "section", "download_button", "popover", "number_input",
                "text_input", "text_area", "radio", "segmented_control", "badge", "toast",
            }  # fmt: skip
            for argument in node.args[:2] if shown else ():
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and " " in argument.value:
                    bare.append(f"{path.name}:{node.lineno}: {argument.value}")
    assert bare == []


def test_the_template_for_translators_is_up_to_date():
    assert (ROOT / "dashboards/locales/dashboard.pot").read_text() == text.template()


def test_a_translation_is_used_where_there_is_one(tmp_path, monkeypatch):
    folder = tmp_path / "xx/LC_MESSAGES"
    folder.mkdir(parents=True)
    (folder / "dashboard.mo").write_bytes(compiled({"Overview": "Überblick"}))
    monkeypatch.setattr(text, "LOCALES", tmp_path)
    monkeypatch.setenv(text.LANGUAGE_VARIABLE, "xx")
    text._translation.cache_clear()
    assert text._("Overview") == "Überblick"
    assert text._("Other") == "Other"
    text._translation.cache_clear()


def compiled(messages):
    """Bytes of a .mo file."""
    entries = sorted({"": "Content-Type: text/plain; charset=UTF-8\n", **messages}.items())
    keys, values = ([text.encode() for text in column] for column in zip(*entries, strict=True))
    count, start = len(entries), 28 + 16 * len(entries)
    tables, offset = [], start
    for part in (keys, values):
        for content in part:
            tables += [len(content), offset]
            offset += len(content) + 1
    head = np.array([0x950412DE, 0, count, 28, 28 + 8 * count, 0, 0, *tables], dtype="<u4").tobytes()
    return head + b"".join(content + b"\0" for content in [*keys, *values])


# --- uploads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([], "holds no file"),
        ([("a.xyz", CONTENT)] * 5, "at most 4 are taken"),
        ([("a.xyz", CONTENT), ("x/a.xyz", CONTENT)], "comes twice"),
    ],
)
def test_too_much_is_refused_before_it_is_read(files, problem):
    with pytest.raises(InputError, match=problem):
        uploads.check([uploads.Upload(*file) for file in files])


def test_too_large_a_file_is_refused(monkeypatch):
    monkeypatch.setattr(uploads, "MAX_MEGABYTES", 1)
    with pytest.raises(InputError, match="2 MB, at most 1 MB are taken"):
        uploads.check([uploads.Upload("a.ply", b"0" * 2**21)])


@pytest.mark.parametrize(
    ("name", "safe"),
    [("../../etc/passwd", "passwd"), ("a b.ply", "a_b.ply"), ("C:\\x\\scan.tiff", "scan.tiff"), ("..", "scan")],
)
def test_names_of_uploads_cannot_lead_elsewhere(name, safe):
    assert uploads.safe_name(name) == safe
