"""The retraining flow's parts: what depends on what, how a stage is run and ended, the report."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flows import pipeline
from flows.pipeline import FULL_DISK, Outcome, Stage, StageError, locked_parameters, read_stages, run_command, run_stage
from flows.run_report import Registered, changes_table, markdown_report, read_metrics

from gsclip.errors import InputError
from gsclip.promotion.gate import Change, Costs, Verdict

REPOSITORY = Path(__file__).parents[2]
PIPELINE = """
stages:
  # Written in reverse: the order must come from the dependencies.
  count:
    cmd: python -c "open('count.txt', 'w').write(str(len(open('words/all.txt').read().split())))"
    deps:
      - words/all.txt
    params:
      - count
    metrics:
      - count.txt:
          cache: false
  split:
    cmd: python -c "import os; os.mkdir('words'); open('words/all.txt', 'w').write(open('copy.txt').read())"
    deps:
      - copy.txt
    outs:
      - words
  copy:
    cmd: python -c "print('copying'); open('copy.txt', 'w').write(open('text.txt').read())"
    deps:
      - text.txt
    outs:
      - copy.txt
"""


def write(folder, text):
    path = folder / "dvc.yaml"
    path.write_text(text)
    return path


def test_stages_follow_their_dependencies(tmp_path):
    assert read_stages(write(tmp_path, PIPELINE)) == (
        Stage("copy", ()),
        Stage("split", ("copy",)),
        Stage("count", ("split",)),
    )


def test_a_folder_and_a_file_in_it_depend_on_each_other_both_ways(tmp_path):
    path = write(
        tmp_path,
        """
stages:
  reads_folder: {cmd: x, deps: [out]}
  writes_file: {cmd: x, outs: [out/a.csv]}
  writes_plot: {cmd: x, plots: [{out/b.csv: {x: n, cache: false}}]}
  other: {cmd: x, deps: [output], wdir: .}
  inside: {cmd: x, deps: [a.csv], wdir: sub/../out}
""",
    )
    upstream = {stage.name: stage.upstream for stage in read_stages(path)}
    assert upstream["reads_folder"] == ("writes_file", "writes_plot")
    assert upstream["inside"] == ("writes_file",)
    assert upstream["other"] == ()


def test_own_pipeline_is_read_in_the_order_of_its_steps():
    stages = {stage.name: stage.upstream for stage in read_stages(REPOSITORY / "dvc.yaml")}
    steps = ["prepare", "render", "features", "stage1", "stage2", "predict", "evaluate", "report"]
    assert [name for name in stages if name in steps] == steps
    assert stages["prepare"] == ()
    for before, after in [*itertools.pairwise(steps[:5]), ("predict", "evaluate"), ("evaluate", "report")]:
        assert before in stages[after], f"{after} should read what {before} writes"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("stages: {a: {cmd: x, deps: [b], outs: [a]}, b: {cmd: x, deps: [a], outs: [b]}}", "depend on each other"),
        ("stages: {a: {foreach: [1], do: {cmd: x}}}", "no plain cmd"),
        ("stages: {a: {cmd: x, deps: ['${folder}/b']}}", "templates are not read"),
        ("stages: [", "cannot be read"),
        ("a text", "is no mapping"),
    ],
)
def test_pipelines_that_cannot_be_read_are_refused(tmp_path, text, problem):
    with pytest.raises(InputError, match=problem):
        read_stages(write(tmp_path, text))


def test_parameters_are_read_from_the_lock(tmp_path):
    assert locked_parameters(tmp_path) == {}
    (tmp_path / "dvc.lock").write_text(
        """
schema: '2.0'
stages:
  prepare: {cmd: x, params: {params.yaml: {prepare: {seed: 0, categories: [a, b]}}}}
  stage1: {cmd: x, params: {params.yaml: {stage1.epochs: 3}}}
  report: {cmd: x}
"""
    )
    assert locked_parameters(tmp_path) == {"prepare.seed": 0, "prepare.categories": ["a", "b"], "stage1.epochs": 3}


def figures(value):
    return {"ours": value, "random": 0.5, "oracle": 1.0}


VERDICT = Verdict(
    True,
    ("o_auroc is better: +5.0 points, at least +1.0 points.",),
    (Change("o_auroc", "o_auroc", 0.80, 0.85, 0.01, 0.09),),
    (Change("gear", "o_auroc", 0.88, 0.86),),
    Costs(3.25, 0.5),
)


def test_report_tells_results_outcomes_and_changes(tmp_path):
    metrics = {
        "mean": {"o_auroc": figures(0.9049), "pixel_pro": dict.fromkeys(("ours", "random", "oracle"))},
        "o_auroc_interval": [0.85, 0.95],
        "categories": {"gear": {"samples": 24, "o_auroc": figures(0.88), "pixel_pro": figures(None)}},
    }
    (tmp_path / "outputs" / "report").mkdir(parents=True)
    (tmp_path / "outputs" / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "outputs" / "report" / "index.html").touch()
    report = markdown_report(
        run="20261125T030000Z-abcd1234, weekly",
        commit="abc1234",
        workspace=tmp_path,
        outcomes={"prepare": Outcome.UNCHANGED, "render": Outcome.RAN},
        seconds={"prepare": 0.94, "render": 61.0},
        scans={"accepted": 20, "rejected": 1},
        metrics=read_metrics(tmp_path),
        verdict=VERDICT,
        registered=Registered("v0.2.0", new=True, champion="v0.1.0"),
        before={"render.views": 5, "render.cameras": "front", "old.gone": 1},
        after={"render.views": 9, "render.cameras": "front", "new.list": [1, 2]},
        log=tmp_path / "run.jsonl",
    )
    for line in (
        "Run: 20261125T030000Z-abcd1234, weekly",
        "Commit: abc1234",
        "**v0.2.0 is the champion**, after v0.1.0.",
        "- o_auroc is better: +5.0 points, at least +1.0 points.",
        "| mean | Object AUROC | 80.0 | 85.0 | +5.0 | +1.0 to +9.0 |",
        "| gear | Object AUROC | 88.0 | 86.0 | -2.0 |  |",
        "Costs: 3.2 MB, 0.50 seconds a part.",
        "| prepare | unchanged | 0.9 |",
        "| render | ran | 61.0 |",
        "20 accepted, 1 rejected",
        "| Object AUROC | 90.5 | 50.0 | 100.0 |",
        "| Pixel PRO | – | – | – |",
        "95 % interval of the mean object AUROC: 85.0 to 95.0.",
        "| Category | Samples | Object AUROC | Pixel PRO |",
        "| gear | 24 | 88.0 | – |",
        "| render.views | 5 | 9 |",
        "| old.gone | 1 | – |",
        "| new.list | – | [1, 2] |",
        f"- Report: {(tmp_path / 'outputs/report/index.html').as_uri()}",
        f"- Workspace: {tmp_path}",
        f"- Log: {tmp_path / 'run.jsonl'}",
    ):
        assert line in report.splitlines(), line
    assert "render.cameras" not in report
    assert [row["Difference"] for row in changes_table(VERDICT)] == ["+5.0", "-2.0"]


@pytest.mark.parametrize(
    ("verdict", "registered", "line"),
    [
        (Verdict(True, ("x",)), Registered("v0.1.0", True, None), "**v0.1.0 is the champion**."),
        (
            Verdict(False, ("x",)),
            Registered("v0.2.0", True, "v0.1.0"),
            "**v0.2.0 is refused**, it is kept as challenger. Champion: v0.1.0.",
        ),
        (
            Verdict(False, ("x",)),
            Registered("v0.1.0", False, "v0.1.0"),
            "No new model: v0.1.0 has it. Champion: v0.1.0.",
        ),
    ],
)
def test_report_without_metrics_tells_the_decision(tmp_path, verdict, registered, line):
    report = markdown_report(
        run="1, by hand", commit="unknown", workspace=tmp_path, outcomes={}, seconds={}, scans={},
        metrics=read_metrics(tmp_path), verdict=verdict, registered=registered, before={}, after={"a.b": 1},
        log=tmp_path / "run.jsonl",
    )  # fmt: skip
    assert line in report.splitlines()
    assert "No metrics: the project has no outputs/metrics.json" in report
    assert "There was no run before." in report
    assert "Report:" not in report


def alive(process_id):
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or before it was read
        return False


def wait_for(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_supervisor_passes_exit_codes_and_output_on():
    command = [sys.executable, str(REPOSITORY / "flows" / "supervisor.py"), sys.executable, "-c"]
    with subprocess.Popen(
        [*command, "print('hello'); raise SystemExit(3)"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.read() == "hello\n"
        assert process.wait() == 3


def test_supervisor_ends_descendants_when_its_starter_closes_the_pipe(tmp_path):
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    command = [sys.executable, str(REPOSITORY / "flows" / "supervisor.py"), sys.executable, "-c", parent]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        child_id = int((tmp_path / "pid").read_text())
        assert alive(child_id)
        process.stdin.close()
        process.wait(timeout=30)
        assert not alive(child_id)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A DVC project of three small stages, in git, all state within the test's folder."""
    for name in ("DVC_SITE_CACHE_DIR", "DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    folder = tmp_path / "project"
    folder.mkdir()
    write(folder, PIPELINE)
    (folder / "text.txt").write_text("one two three")
    (folder / "params.yaml").write_text("count:\n  language: en\n")
    git = ["git", "-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    for command in (
        [*git, "init", "--quiet"],
        ["dvc", "init", "--quiet"],
        [*git, "add", "--all"],
        [*git, "commit", "--quiet", "--message", "start"],
    ):
        subprocess.run(command, cwd=folder, check=True)
    return folder


@pytest.mark.slow
def test_dvc_s_three_outcomes_are_told_apart(project):
    lines = []
    assert run_stage("copy", project, lines.append) is Outcome.RAN
    assert "copying" in lines
    assert run_stage("copy", project, lines.append) is Outcome.UNCHANGED
    (project / "text.txt").write_text("four five")
    assert run_stage("copy", project, lines.append) is Outcome.RAN
    (project / "text.txt").write_text("one two three")
    assert run_stage("copy", project, lines.append) is Outcome.RESTORED
    assert (project / "copy.txt").read_text() == "one two three"


@pytest.mark.slow
def test_a_failing_stage_shows_its_last_lines(project):
    write(project, PIPELINE.replace("print('copying')", "raise SystemExit('the scanner is cold')"))
    with pytest.raises(StageError, match=r"stage copy failed \(dvc repro ended with exit code 255\)") as caught:
        run_stage("copy", project, lambda line: None)
    assert "the scanner is cold" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stage_ends_with_the_process_that_runs_it(project, number):
    write(project, PIPELINE.replace("print('copying')", "import os, time; print(os.getpid()); time.sleep(600)"))
    run = f"""
import signal, sys
from pathlib import Path
from flows.pipeline import run_stage
signal.signal(signal.SIGINT, signal.default_int_handler)
run_stage("copy", Path({str(project)!r}), lambda line: print(line, flush=True))
"""
    with subprocess.Popen(
        [sys.executable, "-c", run], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        stage_id = next(int(line) for line in process.stdout if line.strip().isdigit())
        assert alive(stage_id)
        process.send_signal(number)
        process.wait(timeout=30)
    wait_for(lambda: not alive(stage_id))


@pytest.mark.slow
def test_a_full_disk_is_named(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('OSError: [Errno 28] No space left on device')"]
    with pytest.raises(StageError, match="pushing failed") as caught:
        run_command(command, tmp_path, lambda line: None, "pushing")
    assert str(caught.value).endswith(FULL_DISK)


@pytest.mark.slow
def test_a_command_is_over_when_it_has_ended_whatever_it_left_running(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "GRACE_SECONDS", 1.0)
    leave = "import subprocess; print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid)"
    lines = []
    start = time.monotonic()
    run_command([sys.executable, "-c", leave], tmp_path, lines.append, "leaving")
    assert time.monotonic() - start < 30
    os.kill(int(lines[0]), signal.SIGKILL)  # it has been there all the time


@pytest.mark.slow
def test_what_a_silent_command_waits_for_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "QUIET_SECONDS", 1.0)
    lines = []
    wait = "import subprocess; subprocess.run(['sleep', '6']); print('a', end=chr(13)); print('b')"
    run_command([sys.executable, "-c", wait], tmp_path, lines.append, "the pull")
    assert re.match(r"the pull: nothing heard for 0 minutes; .*sleeping.*: sleep 6", lines[0])
    assert lines[-2:] == ["a", "b"]
