"""A toy project in git and DVC, with raw data, remote and a registry, all in one folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TOY = Path(__file__).with_name("toy")
IDENTITY = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]


def environment(**further):
    """Programs of this interpreter, this tree's code, no state outside of the test."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    code = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**os.environ, "PATH": path, "PYTHONPATH": code, "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1", **further}


def call(folder, *command, **further):
    result = subprocess.run(
        command, cwd=folder, env=environment(**further), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    return result.stdout


def git(folder, *arguments):
    return call(folder, "git", *IDENTITY, *arguments).strip()


def commit(folder, message="change"):
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


def set_quality(folder, quality):
    (folder / "quality.txt").write_text(f"{quality}\n")
    commit(folder, f"quality {quality}")


def make_toy(folder, quality=0.3):
    """A project whose model is as good as it is told to be."""
    folder.mkdir(parents=True)
    shutil.copy(TOY / "steps.py", folder / "steps.py")
    shutil.copy(TOY / "pipeline.yaml", folder / "dvc.yaml")  # by that name DVC would run it here, too
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["evaluate"]["bootstrap_repeats"] = 100
    params["gate"]["timed_samples"] = 0
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / ".gitignore").write_text("/.gsclip/\n/.prefect/\n__pycache__/\n")
    (folder / ".dvcignore").write_text("/.gsclip\n")
    (folder / "data" / "raw").mkdir(parents=True)
    (folder / "data" / "raw" / "noise.txt").write_text("0\n")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    call(folder, "dvc", "init", "--quiet")
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc" / name)
    call(folder, "dvc", "add", "--quiet", "data/raw/noise.txt")
    call(folder, "dvc", "push", "--quiet")
    set_quality(folder, quality)
    return folder
