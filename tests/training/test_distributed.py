"""Training by two processes, as torchrun starts them, against one."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import torch
from tests.learning import training_data
from tests.training.two_processes import NAMES, parameters, stage1, stage2
from torch import nn
from torch.utils.checkpoint import checkpoint

from gsclip.features.backbone import load_backbone
from gsclip.packs import PackFolders
from gsclip.training import distributed
from gsclip.training.distributed import Share, Shared, share

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_losses_of_two_processes_are_those_of_one(tmp_path):
    training_data(tmp_path, load_backbone(), parameters(), NAMES).close()
    folders = PackFolders(tmp_path / "prepared", tmp_path / "views", tmp_path / "features")
    stage2(folders, tmp_path / "half", epochs=1)  # leaves its checkpoint
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command += ["tests.training.two_processes", str(tmp_path), str(tmp_path / "half"), str(tmp_path / "two")]
    search = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1"}
    two = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    expected = {"stage1": stage1(folders, tmp_path / "one"), "stage2": stage2(folders, tmp_path / "one")}
    output = two.communicate(timeout=300)[0].decode()
    assert two.returncode == 0, output[-4000:]
    for name, of_one in (*expected.items(), ("resumed", expected["stage2"])):
        found = pd.read_csv(tmp_path / "two" / f"{name}.csv")
        assert len(found) == 2
        pd.testing.assert_frame_equal(found, of_one, check_exact=False, rtol=1e-5, atol=1e-5, check_dtype=False)


def test_one_process_has_the_whole_share_and_its_own_modules():
    assert share(["a", "b"]) == Share(["a", "b"], 0, 2, 2)
    norm = nn.BatchNorm1d(2)
    with Shared([norm]):
        assert "forward" not in vars(norm)


def test_every_sample_belongs_to_one_process(monkeypatch):
    monkeypatch.setattr(distributed, "processes", lambda: 3)
    for total in range(1, 8):
        names = [str(number) for number in range(total)]
        shares = []
        for rank in range(3):
            monkeypatch.setattr(distributed.dist, "get_rank", lambda rank=rank: rank)
            shares.append(share(names))
        assert [name for part in shares for name in part.names[: part.counted]] == names
        assert all(part.names and part.total == total for part in shares)
        assert all(names[part.start : part.start + len(part.names)] == part.names for part in shares)


@pytest.fixture
def alone(monkeypatch):
    """A group of one process: what is shared has to be what torch computes."""
    monkeypatch.setattr(distributed, "_all_reduce", lambda values: values)
    shared = Shared([])
    shared.begin(Share(["a", "b"], 0, 2, 2), seed=1)
    return shared


def test_shared_batch_norm_is_that_of_torch(alone):
    torch.manual_seed(0)
    for shape in ((64, 8), (6, 8, 5)):
        values = 3 * torch.randn(shape) + 2
        own, other = nn.BatchNorm1d(8), nn.BatchNorm1d(8)
        nn.init.normal_(own.weight)
        nn.init.normal_(own.bias)
        other.load_state_dict(own.state_dict())
        inputs = values.clone().requires_grad_(), values.clone().requires_grad_()
        gradient = torch.randn(shape)
        for result in (own(inputs[0]), alone._batch_norm(other, inputs[1])):
            result.backward(gradient)
        torch.testing.assert_close(inputs[1].grad, inputs[0].grad)
        torch.testing.assert_close(other.weight.grad, own.weight.grad)
        torch.testing.assert_close(dict(other.state_dict()), dict(own.state_dict()))
        torch.testing.assert_close(alone._batch_norm(other.eval(), values), own.eval()(values))


def test_shared_dropout_draws_for_the_whole_micro_batch(alone):
    values, dropout = torch.randn(6, 5, 7), nn.Dropout(0.3)
    alone.begin(Share(["a", "b", "c"], 0, 3, 3), seed=1)
    whole = alone._dropout(0, dropout, values)
    assert not torch.equal(alone._dropout(1, dropout, values), whole)
    alone.begin(Share(["c"], 2, 3, 1), seed=1)  # the last of three samples of two rows each
    assert torch.equal(alone._dropout(0, dropout, values[4:]), whole[4:])
    alone.begin(Share(["c"], 2, 3, 1), seed=2)
    assert not torch.equal(alone._dropout(0, dropout, values[4:]), whole[4:])
    assert torch.equal(alone._dropout(0, dropout.eval(), values), values)


@pytest.mark.parametrize("dropped", [0.1, 0.5, 0.9])
def test_shared_dropout_drops_its_share_and_keeps_the_mean(alone, dropped):
    found = alone._dropout(0, nn.Dropout(dropped), torch.ones(2, 1_000_003))
    assert set(found.unique().tolist()) == {0.0, torch.tensor(1 / (1 - dropped)).item()}
    assert (found == 0).float().mean().item() == pytest.approx(dropped, abs=0.002)
    assert found.mean().item() == pytest.approx(1, abs=0.01)
    neighbours = ((found[0, :-1] == 0) & (found[0, 1:] == 0)).float().mean().item()
    assert neighbours == pytest.approx(dropped**2, abs=0.002)  # four draws of one number know nothing of each other


def test_dropout_of_one_process_draws_the_same_in_any_thread_and_again_under_checkpointing():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 6), nn.Dropout(0.5))
    inputs = torch.randn(3, 6)

    def gradient(recompute):
        shared.begin(Share(["a", "b", "c"], 0, 3, 3), seed=9)
        result = checkpoint(module, inputs, use_reentrant=False) if recompute else module(inputs)
        return result, torch.autograd.grad(result.square().sum(), list(module.parameters()))

    with Shared([module]) as shared:
        result, expected = gradient(recompute=False)
        assert (result == 0).any()
        torch.rand(5)  # nothing to them
        with ThreadPoolExecutor(1) as pool:
            for found in (gradient(recompute=True), pool.submit(gradient, recompute=True).result()):
                torch.testing.assert_close(found, (result, expected), rtol=0, atol=0)
        drawn = [module[place](torch.ones(3, 40)) for place in (1, 3)]
        assert not torch.equal(*drawn)  # each dropout has its own
    assert not any("forward" in vars(part) for part in module)
