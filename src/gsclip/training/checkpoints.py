"""Checkpoints of a training: written after every epoch, so that a killed run resumes with identical results.

A checkpoint belongs to a key: the digest of the code, the parameters and the input files of its run. A run with
another key starts afresh.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import gsclip
from gsclip.storage import atomic_path, sha256


def run_key(parameters: Mapping[str, Any], inputs: Iterable[str | Path] = ()) -> str:
    """16 hexadecimal digits that stand for a run: same code of the package, parameters and input files, same key."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True, default=str).encode())
    package = Path(gsclip.__file__).parent
    for source in sorted(package.rglob("*.py")):
        digest.update(source.relative_to(package).as_posix().encode() + source.read_bytes())
    for path in inputs:
        digest.update(sha256(path).encode())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Checkpoint:
    """The place of one run's checkpoint.

    Attributes:
        folder: where checkpoints lie, outside of what the pipeline tracks.
        name: of the training.
        key: see :func:`run_key`.
    """

    folder: Path
    name: str
    key: str

    @property
    def path(self) -> Path:
        """The checkpoint's file."""
        return self.folder / f"{self.name}-{self.key}" / "last.pt"

    def load(self) -> dict[str, Any] | None:
        """State of the last finished epoch, or ``None`` where there is none."""
        if not self.path.is_file():
            return None
        state: dict[str, Any] = torch.load(self.path, weights_only=True, map_location="cpu")
        return state

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint by tensors and plain values."""
        with atomic_path(self.path) as temporary:
            torch.save(dict(state), temporary)

    def remove(self, *, others: bool = True) -> None:
        """Forget the run: its result has been saved.

        Args:
            others: forget the checkpoints of other keys of the same training too; not where runs go on beside it.
        """
        for folder in self.folder.glob(f"{self.name}-*") if others else [self.path.parent]:
            shutil.rmtree(folder, ignore_errors=True)
