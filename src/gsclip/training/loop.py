"""The loop that all trainings share: seeded epochs, progress, learning curve, checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from gsclip.errors import GsclipError
from gsclip.training.checkpoints import Checkpoint
from gsclip.training.live import live_curve

_log = logging.getLogger(__name__)


def train(
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    names: Sequence[str],
    step: Callable[[list[str]], Mapping[str, Tensor]],
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    checkpoint: Checkpoint,
    micro_batch_size: int | None = None,
    defective: Collection[str] | None = None,
    live: Path | None = None,
    scheduler: LRScheduler | None = None,
    clip_norm: float | None = None,
) -> pd.DataFrame:
    """Train until ``epochs`` epochs are done, from the checkpoint if there is one.

    Randomness is seeded anew in every epoch by (seed, epoch), so a resumed run equals an uninterrupted one.

    Args:
        modules: what is trained, by name; they are in training mode and hold parameters that need a gradient.
        optimizer: over their parameters.
        names: samples; each epoch visits all of them once in its own order.
        step: from names to loss terms, means over these samples, of which ``loss`` is minimised.
        epochs: number of epochs.
        batch_size: samples of one step of the optimizer; the last batch of an epoch may be smaller.
        seed: of order and dropout.
        checkpoint: where the state is kept; the caller removes it once the result is saved.
        micro_batch_size: samples of one call of ``step``; gradients add up to that of the whole batch (but a batch
            norm sees these samples alone). ``None``: the whole batch at once.
        defective: samples with a defect; batches without any are warned of.
        live: folder for the curve while it grows, by dvclive; ``None``: not written.
        scheduler: advanced after each step.
        clip_norm: greatest norm of the gradient.

    Returns:
        The learning curve: columns epoch (from 1), each loss term's mean over samples, learning_rate.

    Raises:
        GsclipError: when the loss is not finite.
    """
    curve: list[dict[str, float]] = []
    state = checkpoint.load()
    if state is not None:
        _restore(state, modules, optimizer, scheduler)
        curve = state["curve"]
        _log.info("%s: resumed after epoch %d of %d", checkpoint.name, len(curve), epochs)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    with live_curve(live) as show:
        for row in curve:
            show(row)
        for epoch in range(len(curve) + 1, epochs + 1):
            torch.manual_seed(seed * 1_000_003 + epoch)
            order = [names[index] for index in torch.randperm(len(names)).tolist()]
            batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
            _warn_of_batches_without_defect(f"{checkpoint.name}, epoch {epoch}", batches, defective)
            sums: dict[str, float] = {}
            progress = tqdm(total=len(order), desc=f"{checkpoint.name} {epoch}/{epochs}", unit="sample", mininterval=5)
            for batch in batches:
                optimizer.zero_grad(set_to_none=True)
                size = micro_batch_size or len(batch)
                for part in (batch[start : start + size] for start in range(0, len(batch), size)):
                    terms = step(part)
                    loss = terms["loss"]
                    if not torch.isfinite(loss):
                        raise GsclipError(
                            f"{checkpoint.name}: loss is not finite in epoch {epoch}, at {', '.join(part)}; "
                            "lower the learning rate"
                        )
                    (loss * (len(part) / len(batch))).backward()
                    for name, value in terms.items():
                        sums[name] = sums.get(name, 0.0) + value.item() * len(part)
                if clip_norm is not None:
                    nn.utils.clip_grad_norm_(parameters, clip_norm)
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                progress.update(len(batch))
                progress.set_postfix_str(f"loss {loss.item():.4f}", refresh=False)
            progress.close()
            rate = optimizer.param_groups[0]["lr"]
            curve.append(
                {"epoch": epoch, **{name: value / len(order) for name, value in sums.items()}, "learning_rate": rate}
            )
            checkpoint.save(_state(modules, optimizer, scheduler, curve))
            show(curve[-1])
    return pd.DataFrame(curve) if curve else empty_curve()


def empty_curve() -> pd.DataFrame:
    """Learning curve of a training that is switched off."""
    return pd.DataFrame(columns=["epoch", "loss", "learning_rate"])


def _warn_of_batches_without_defect(
    where: str, batches: Sequence[Sequence[str]], defective: Collection[str] | None
) -> None:
    if defective is None:
        return
    without = sum(not any(name in defective for name in batch) for batch in batches)
    if without:
        _log.warning(
            "%s: %d of %d batches hold no defective sample and teach nothing of defects; "
            "raise batch_size, or give more defective samples",
            where,
            without,
            len(batches),
        )


def _state(
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler | None,
    curve: list[dict[str, float]],
) -> dict[str, Any]:
    return {
        "modules": {name: trained_state(module) for name, module in modules.items()},
        "optimizer": optimizer.state_dict(),
        "scheduler": None if scheduler is None else scheduler.state_dict(),
        "curve": curve,
    }


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """What training changes: parameters that need a gradient, and buffers that are part of the module's state."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def _restore(
    state: Mapping[str, Any],
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler | None,
) -> None:
    for name, module in modules.items():
        missing, unexpected = module.load_state_dict(state["modules"][name], strict=False)
        if unexpected or set(missing) & set(trained_state(module)):
            raise GsclipError(f"checkpoint does not fit module {name}; remove the checkpoint's folder")
    optimizer.load_state_dict(state["optimizer"])
    if scheduler is not None:
        scheduler.load_state_dict(state["scheduler"])
