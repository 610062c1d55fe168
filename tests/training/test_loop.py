import signal
import subprocess
import sys
import threading

import pandas as pd
import pytest
import torch
from torch import nn

import gsclip.parallel
from gsclip.errors import GsclipError
from gsclip.training.checkpoints import Checkpoint, run_key
from gsclip.training.loop import train, trained_state

NAMES = [f"sample-{number}" for number in range(8)]


class Interrupted(Exception):
    pass


def make():
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 1))
    module[0].bias.requires_grad_(False)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return module, torch.optim.Adam(trained, lr=0.05)


def run(folder, *, epochs=4, stop_after=None, seen=None):
    module, optimizer = make()
    data = {name: torch.randn(4, generator=torch.Generator().manual_seed(len(name) + ord(name[-1]))) for name in NAMES}
    steps = 0

    def step(names):
        nonlocal steps
        if stop_after is not None and steps == stop_after:
            raise Interrupted
        steps += 1
        if seen is not None:
            seen.append(names)
        inputs = torch.stack([data[name] for name in names])
        loss = (module(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        return {"loss": loss, "twice": 2 * loss}

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda number: 1 / (1 + number))
    curve = train(
        {"module": module.train()}, optimizer, NAMES, step,
        epochs=epochs, batch_size=3, seed=5, checkpoint=Checkpoint(folder, "test", "key"), scheduler=scheduler,
    )  # fmt: skip
    return module, curve


def test_every_epoch_visits_every_sample_once_in_its_own_order(tmp_path):
    seen = []
    run(tmp_path, epochs=2, seen=seen)
    assert [len(names) for names in seen] == [3, 3, 2, 3, 3, 2]
    first, second = ([name for batch in seen[start : start + 3] for name in batch] for start in (0, 3))
    assert sorted(first) == sorted(second) == NAMES
    assert first != second


def test_killed_run_resumes_to_identical_bits(tmp_path):
    whole, expected = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "killed", stop_after=8)  # in the third epoch
    resumed_steps = []
    resumed, curve = run(tmp_path / "killed", seen=resumed_steps)
    assert len(resumed_steps) == 6  # the third and the fourth epoch, three steps each
    assert curve.equals(expected)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_curve_holds_means_over_samples(tmp_path):
    _, curve = run(tmp_path)
    assert curve["epoch"].tolist() == [1, 2, 3, 4]
    assert curve["twice"].to_numpy() == pytest.approx(2 * curve["loss"].to_numpy())
    assert curve["loss"].iloc[-1] < curve["loss"].iloc[0]


def test_frozen_parameters_stay_and_are_not_saved(tmp_path):
    module, _ = make()
    before = module[0].bias.clone()
    trained, _ = run(tmp_path)
    assert torch.equal(trained[0].bias, before)
    assert "0.bias" not in trained_state(trained)
    assert "2.running_mean" in trained_state(trained)


def test_loss_that_is_not_finite_names_samples_and_remedy(tmp_path):
    module, optimizer = make()

    def step(names):
        return {"loss": module(torch.full((len(names), 4), torch.nan)).mean()}

    with pytest.raises(GsclipError, match=r"not finite in epoch 1, at sample-.*lower the learning rate"):
        train({"module": module}, optimizer, NAMES, step, epochs=1, batch_size=2, seed=0,
              checkpoint=Checkpoint(tmp_path, "test", "key"))  # fmt: skip


def test_key_stands_for_parameters_and_inputs(tmp_path):
    file = tmp_path / "data"
    file.write_text("one")
    key = run_key({"rate": 0.1}, [file])
    assert run_key({"rate": 0.1}, [file]) == key
    assert run_key({"rate": 0.2}, [file]) != key
    file.write_text("two")
    assert run_key({"rate": 0.1}, [file]) != key


def test_checkpoint_of_another_run_is_not_resumed_and_goes_when_done(tmp_path):
    old, new = Checkpoint(tmp_path, "stage", "old"), Checkpoint(tmp_path, "stage", "new")
    old.save({"curve": []})
    assert new.load() is None
    new.save({"curve": [{"epoch": 1}]})
    assert new.load() == {"curve": [{"epoch": 1}]}
    new.remove()
    assert not any(tmp_path.iterdir())


def linear_run(folder, micro_batch_size, **options):
    """Losses that are means over samples, no batch norm: what gradient accumulation must not change."""
    torch.manual_seed(1)
    module = nn.Linear(4, 1)
    data = {name: torch.randn(4, generator=torch.Generator().manual_seed(ord(name[-1]))) for name in NAMES}
    sizes = []

    def step(names):
        sizes.append(len(names))
        inputs = torch.stack([data[name] for name in names])
        return {"loss": (module(inputs) - inputs.sum(1, keepdim=True)).square().mean()}

    curve = train(
        {"module": module}, torch.optim.SGD(module.parameters(), lr=0.05), NAMES, step,
        epochs=3, batch_size=3, seed=5, checkpoint=Checkpoint(folder, "test", "key"),
        micro_batch_size=micro_batch_size, **options,
    )  # fmt: skip
    return module, curve, sizes


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path):
    whole, expected, _ = linear_run(tmp_path / "whole", None)
    for size in (1, 2):
        parts, curve, sizes = linear_run(tmp_path / str(size), size)
        assert max(sizes) == size
        assert curve["loss"].to_numpy() == pytest.approx(expected["loss"].to_numpy(), rel=1e-5)
        torch.testing.assert_close(parts.weight, whole.weight, rtol=1e-5, atol=1e-6)


def test_micro_batches_side_by_side_give_the_same_bits_for_any_number_of_threads(tmp_path):
    def run_with(threads):
        torch.manual_seed(1)
        module = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 1))
        lock, at_work, all_at_work = threading.Lock(), [], threading.Event()

        def step(names):
            with lock:
                at_work.append(names)
                if len(at_work) == threads:
                    all_at_work.set()
            assert all_at_work.wait(60)
            inputs = torch.stack([torch.full((4,), float(name[-1])) for name in names])
            loss = module(inputs).square().mean()
            with lock:
                at_work.remove(names)
            return {"loss": loss}

        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            curve = train(
                {"module": module.train()}, torch.optim.SGD(module.parameters(), lr=1e-3), NAMES, step,
                epochs=2, batch_size=4, seed=5, checkpoint=Checkpoint(tmp_path / str(threads), "test", "key"),
                micro_batch_size=1,
            )  # fmt: skip
        finally:
            torch.set_num_threads(before)
        return module, curve

    alone, expected = run_with(1)
    for threads in (2, 3):
        module, curve = run_with(threads)
        assert curve.equals(expected)
        for name, value in module.state_dict().items():
            assert torch.equal(value, alone.state_dict()[name]), name


def test_every_micro_batch_of_every_epoch_draws_its_own_dropout(tmp_path):
    module = nn.Sequential(nn.Linear(1, 64), nn.Dropout(0.5))
    nn.init.ones_(module[0].weight)
    seen = []

    def step(names):
        result = module(torch.ones(1, 1))
        seen.append(tuple((result == 0).flatten().tolist()))
        return {"loss": result.mean()}

    train(
        {"module": module.train()}, torch.optim.SGD(module.parameters(), lr=0.0), NAMES, step, epochs=3, batch_size=4,
        micro_batch_size=1, seed=5, checkpoint=Checkpoint(tmp_path, "test", "key"),
    )  # fmt: skip
    assert len(set(seen)) == len(seen) == 3 * len(NAMES)


def test_gradients_that_share_memory_are_added_once(tmp_path):
    """The gradient of a sum is the same tensor for both parameters."""
    found = []
    for size in (None, 1):
        first, second = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        module = nn.ParameterList([first, second])
        train(
            {"module": module}, torch.optim.SGD(module.parameters(), lr=0.1), NAMES,
            lambda names, first=first, second=second: {"loss": (first + second).square().sum() + first.sum()},
            epochs=1, batch_size=4, micro_batch_size=size, seed=5, clip_norm=10.0,
            checkpoint=Checkpoint(tmp_path / str(size), "test", "key"),
        )  # fmt: skip
        found.append(torch.stack([first, second]).detach())
    torch.testing.assert_close(*found)


def test_nothing_goes_on_after_an_error(tmp_path):
    module = nn.Linear(1, 1)
    started, lock = [], threading.Lock()

    def step(names):
        with lock:
            started.append(names)
        if names == started[0]:
            raise Interrupted
        return {"loss": module(torch.ones(1, 1)).sum()}

    with pytest.raises(Interrupted):
        train(
            {"module": module}, torch.optim.SGD(module.parameters(), lr=0.1), NAMES, step, epochs=5, batch_size=8,
            micro_batch_size=1, seed=5, checkpoint=Checkpoint(tmp_path, "test", "key"),
        )  # fmt: skip
    before = len(started)
    gsclip.parallel.beside(lambda: None).result()  # behind what would still wait
    assert len(started) == before


def test_micro_batches_that_a_batch_norm_sees_come_in_turn(tmp_path):
    module, optimizer = make()
    threads = set()

    def step(names):
        threads.add(threading.current_thread())
        return {"loss": module(torch.ones(len(names), 4)).square().mean()}

    train({"module": module.train()}, optimizer, NAMES, step, epochs=1, batch_size=4, micro_batch_size=2, seed=0,
          checkpoint=Checkpoint(tmp_path, "test", "key"))  # fmt: skip
    assert threads == {threading.current_thread()}


def test_batches_without_a_defective_sample_are_warned_of(tmp_path, caplog):
    linear_run(tmp_path / "one", None, defective={NAMES[0]})
    assert [record.message.split(" hold")[0] for record in caplog.records] == [
        f"test, epoch {epoch}: 2 of 3 batches" for epoch in (1, 2, 3)
    ]
    caplog.clear()
    linear_run(tmp_path / "all", None, defective=set(NAMES))
    assert not caplog.records


def test_processes_that_have_nothing_to_do_are_warned_of(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("gsclip.training.loop.processes", lambda: 2)
    linear_run(tmp_path / "two", 2)
    assert not caplog.records
    linear_run(tmp_path / "one", 1)
    assert [record.message for record in caplog.records] == [
        "test: of 2 processes only 1 have something to do; raise micro_batch_size"
    ]


def test_the_curve_can_be_watched_while_it_grows(tmp_path):
    live = tmp_path / "live"
    seen = []

    class Watching(Checkpoint):
        def save(self, state):
            super().save(state)
            seen.append((live / "metrics.json").is_file())

    torch.manual_seed(0)
    module = nn.Linear(1, 1)
    curve = train(
        {"module": module}, torch.optim.SGD(module.parameters(), lr=0.01), ["a", "b"],
        lambda names: {"loss": module(torch.ones(len(names), 1)).square().mean()},
        epochs=3, batch_size=2, seed=0, checkpoint=Watching(tmp_path / "checkpoint", "test", "key"), live=live,
    )  # fmt: skip
    assert seen == [False, True, True]  # after each epoch but the last, whose row comes right behind
    written = pd.read_csv(live / "plots/metrics/loss.tsv", sep="\t")
    assert written["step"].tolist() == [1, 2, 3]
    assert written["loss"].to_numpy() == pytest.approx(curve["loss"].to_numpy())


KILLED_TRAINING = """
import os, signal, sys
from pathlib import Path
import torch
from torch import nn
from gsclip.training.checkpoints import Checkpoint
from gsclip.training.loop import train

folder, kill_after = Path(sys.argv[1]), int(sys.argv[2])
torch.manual_seed(3)
module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 1))
names = [str(number) for number in range(8)]
steps = 0

def step(batch):
    global steps
    steps += 1
    if steps > kill_after:
        os.kill(os.getpid(), signal.SIGKILL)
    inputs = torch.tensor([[float(name), 1, 2, 3] for name in batch])
    return {"loss": module(inputs).square().mean()}

train({"module": module}, torch.optim.Adam(module.parameters(), lr=0.05), names, step,
      epochs=4, batch_size=3, seed=5, checkpoint=Checkpoint(folder, "test", "key"))
torch.save(module.state_dict(), folder / "result.pt")
"""


def test_processes_killed_at_any_step_resume_to_identical_bits(tmp_path):
    def run_script(folder, kill_after):
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", KILLED_TRAINING, str(folder), str(kill_after)]
        return subprocess.run(command, check=False, capture_output=True).returncode

    assert run_script(tmp_path / "whole", 1000) == 0
    expected = torch.load(tmp_path / "whole/result.pt", weights_only=True)
    assert run_script(tmp_path / "killed", 4) == -signal.SIGKILL  # in the second epoch
    assert run_script(tmp_path / "killed", 5) == -signal.SIGKILL  # in the third, resumed after the first
    assert run_script(tmp_path / "killed", 1000) == 0
    result = torch.load(tmp_path / "killed/result.pt", weights_only=True)
    assert all(torch.equal(value, expected[name]) for name, value in result.items())
