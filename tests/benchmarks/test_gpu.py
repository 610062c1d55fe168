"""The GPU benchmark: its CPU path at a tiny size."""

import json

import pytest
import torch
from benchmarks import gpu

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def work():
    return gpu.Workload(gpu.parameters(tiny=True), 2, CPU)


@pytest.mark.parametrize("task", gpu.TASKS)
def test_a_task_is_measured(work, task):
    found = gpu.measure(work, task, gpu.Variant("float32", checkpointing=True), 1)
    assert "failed" not in found
    assert found["objects_per_second"] == pytest.approx(2 / found["seconds"])


def test_operations_are_counted(work):
    # Of both stages of tokens alone, the second encodes twice as much.
    frozen, scoring = (gpu.operations(work, task) for task in ("frozen tokens", "scoring"))
    assert scoring > 2 * frozen > 1e9


def test_steps_train(work):
    for task, module in (("stage 1, a step", work.prompts), ("stage 2, a step", work.depth_stream)):
        before = {name: value.clone() for name, value in module.named_parameters() if value.requires_grad}
        step = work.task(task, gpu.Variant("float32"))
        step()
        step()
        after = dict(module.named_parameters())
        assert [name for name, value in before.items() if torch.equal(value, after[name])] == []


def test_what_fails_is_told(work, monkeypatch):
    def no_memory(_variant):
        raise torch.OutOfMemoryError("out of memory\nlong story")

    monkeypatch.setattr(work, "frozen", no_memory)
    assert gpu.measure(work, "frozen tokens", gpu.Variant("float32"), 1)["failed"] == "out of memory"


def test_without_a_gpu_it_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "variants", lambda _device: [gpu.Variant("float32")])
    sizes = ["--objects", "2", "--repeats", "1", "--tasks", "scoring"]
    gpu.main(["--device", "cpu", *sizes, "--output", str(tmp_path / "r")])
    assert "no GPU" in capsys.readouterr().err
    text = (tmp_path / "r.md").read_text()
    assert "No GPU" in text
    assert "| scoring | float32 |" in text
    (run,) = json.loads((tmp_path / "r.json").read_text())["runs"]
    assert run["tflops"] > 0
    assert run["share_of_peak"] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error():
    with pytest.raises(SystemExit, match="finds no GPU"):
        gpu.main(["--device", "cuda"])
