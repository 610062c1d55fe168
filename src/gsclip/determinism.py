"""Bit-identical results: settings that every entry point makes once."""

from __future__ import annotations


def make_deterministic() -> None:
    """Let torch use deterministic algorithms only; it raises an error where there is none."""
    import torch

    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a debugging aid; slow
    torch.backends.cudnn.benchmark = False
