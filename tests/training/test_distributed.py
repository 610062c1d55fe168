"""Training by two processes, as torchrun starts them, against one."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from tests.learning import training_data
from tests.training.two_processes import NAMES, parameters, stage1, stage2
from torch import nn

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
    shared.share = Share(["a", "b"], 0, 2, 2)
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


def test_shared_dropout_draws_what_torch_draws(alone):
    values, dropout = torch.randn(6, 5, 7), nn.Dropout(0.3)
    torch.manual_seed(1)
    whole = dropout(values)
    torch.manual_seed(1)
    assert torch.equal(alone._dropout(dropout, values), whole)
    alone.share = Share(["c"], 2, 3, 1)  # the last of three samples of two rows each
    torch.manual_seed(1)
    assert torch.equal(alone._dropout(dropout, values[4:]), whole[4:])
