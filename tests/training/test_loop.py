import pytest
import torch
from torch import nn

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
