"""Versions of raw data through DVC: scans are added, removed and brought back, and only new ones are worked on."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from gsclip.storage import Pack, sha256
from gsclip.views.views import Views

ROOT = Path(__file__).parents[2]
STEPS = {"prepare": "prepared", "render": "rendered", "features": "encoded"}

pytestmark = pytest.mark.slow


def call(folder, *command):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result.stdout + result.stderr


def commit(folder):
    call(folder, "git", "add", "--all")
    call(folder, "git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "version")
    return call(folder, "git", "rev-parse", "HEAD").strip()


def add_scans(folder, category, numbers):
    place = folder / "data/raw/parts" / category / "test/good"
    place.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        points = np.random.default_rng([number, *category.encode()]).normal(size=(400, 3))
        np.save(place / f"{number}.npy", points.astype(np.float32))


def made(output):
    """Numbers of records that were taken over and made, by step and category, as the log says."""
    found = re.findall(r"^(\w+): (\w+): (\d+) of \d+ taken over, (\d+) (\w+)$", output, flags=re.MULTILINE)
    assert all(STEPS[step] == verb for step, _, _, _, verb in found)
    return {(step, category): (int(taken), int(new)) for step, category, taken, new, _ in found}


@pytest.fixture
def project(tmp_path):
    (tmp_path / "src").symlink_to(ROOT / "src")
    for name in (".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {step: stages[step] for step in STEPS}}))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["prepare"].update(
        dataset="own_parts", root="data/raw/parts", auxiliary_categories=["nut"], test_categories=["lid"]
    )
    params["render"].update(views=1)
    params["features"].update(cloud_points=256)
    params["experiments"].update(one_vs_rest=["nut"])
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    for category in ("nut", "lid"):
        add_scans(tmp_path, category, range(3))
    call(tmp_path, "git", "init", "--quiet")
    call(tmp_path, "dvc", "init", "--quiet")
    call(tmp_path, "dvc", "add", "--quiet", "data/raw/parts")
    return tmp_path


def test_versions_of_raw_data(project):
    assert made(call(project, "dvc", "repro")) == {(step, part): (0, 3) for step in STEPS for part in ("nut", "lid")}
    packs = [project / "data" / folder / "nut.h5" for folder in ("prepared", "views")]
    first, first_bytes = commit(project), [sha256(pack) for pack in packs]

    add_scans(project, "nut", (3, 4))
    assert made(call(project, "dvc", "repro")) == {
        (step, part): numbers for step in STEPS for part, numbers in (("nut", (3, 2)), ("lid", (3, 0)))
    }
    second, second_bytes = commit(project), [sha256(pack) for pack in packs]

    call(project, "git", "checkout", "--quiet", first)
    call(project, "dvc", "checkout", "--quiet")
    assert [sha256(pack) for pack in packs] == first_bytes
    assert len(list((project / "data/raw/parts/nut").rglob("*.npy"))) == 3
    assert "up to date" in call(project, "dvc", "status")
    call(project, "git", "checkout", "--quiet", second)
    call(project, "dvc", "checkout", "--quiet")
    assert [sha256(pack) for pack in packs] == second_bytes

    (project / "data/raw/parts/nut/test/good/1.npy").unlink()
    assert set(made(call(project, "dvc", "repro", "render")).values()) == {(4, 0), (3, 0)}
    with Pack(packs[1], Views) as views:
        assert [name[-1] for name in views.names] == ["0", "2", "3", "4"]
