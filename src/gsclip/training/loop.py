"""The loop that all trainings share: seeded epochs, progress, learning curve, checkpoints."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from gsclip.errors import GsclipError
from gsclip.parallel import side_by_side
from gsclip.training.checkpoints import Checkpoint
from gsclip.training.distributed import Share, Shared, from_first, is_first, processes, share, sum_gradients, summed
from gsclip.training.live import live_curve

Item = TypeVar("Item")
Result = TypeVar("Result")
_Pass: TypeAlias = tuple[dict[str, float], Sequence[Tensor | None]]
"""Sums of the loss terms over some samples, and their share of the gradients of the batch's mean loss."""

_log = logging.getLogger(__name__)


def train(
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    names: Sequence[str],
    step: Callable[[Any], Mapping[str, Tensor]],
    *,
    read: Callable[[list[str]], Any] | None = None,
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

    Randomness is seeded anew in every epoch by (seed, epoch), so a resumed run equals an uninterrupted one. Of several
    processes (:mod:`gsclip.training.distributed`) each computes its share of every micro batch, and the first writes.
    Where batches have several micro batches, these are computed side by side (:func:`gsclip.parallel.side_by_side`), to
    the same bits for any number of threads; where there is a batch norm, it sees them in turn.

    Args:
        modules: what is trained, by name; they are in training mode and hold parameters that need a gradient.
        optimizer: over their parameters.
        names: samples; each epoch visits all of them once in its own order.
        step: from names, or what was read for them, to loss terms, means over these samples, of which ``loss`` is
            minimised. Where micro batches run side by side, so do steps; they draw no random numbers then but those of
            dropouts in ``modules``, which have seeds of their own.
        read: from names to what a step takes; it runs ahead in a thread of its own, while the step before is at work,
            and draws no random numbers. ``None``: steps take the names.
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
    state = from_first(checkpoint.load() if is_first() else None)
    if state is not None:
        _restore(state, modules, optimizer, scheduler)
        curve = state["curve"]
        _log.info("%s: resumed after epoch %d of %d", checkpoint.name, len(curve), epochs)
    if processes() > (micro_batch_size or batch_size) and is_first():
        _log.warning(
            "%s: of %d processes only %d have something to do; raise micro_batch_size",
            checkpoint.name,
            processes(),
            micro_batch_size or batch_size,
        )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    compute = side_by_side if _is_split(modules.values(), batch_size, micro_batch_size) else _in_turn
    with live_curve(live if is_first() else None) as show, Shared(modules.values()) as shared:
        for row in curve:
            show(row)
        for epoch in range(len(curve) + 1, epochs + 1):
            torch.manual_seed(seed * 1_000_003 + epoch)
            order = [names[index] for index in torch.randperm(len(names)).tolist()]
            batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
            _warn_of_batches_without_defect(f"{checkpoint.name}, epoch {epoch}", batches, defective)
            sums: dict[str, float] = {}
            progress = tqdm(
                total=len(order),
                desc=f"{checkpoint.name} {epoch}/{epochs}",
                unit="sample",
                mininterval=5,
                disable=not is_first(),
            )
            parts = [_parts(batch, micro_batch_size or len(batch)) for batch in batches]
            own = [share(part).names for of_batch in parts for part in of_batch]
            inputs = iter(own) if read is None else _read_ahead(read, own)
            seeds = _seeds(seed * 1_000_003 + epoch)
            for batch, of_batch in zip(batches, parts, strict=True):
                optimizer.zero_grad(set_to_none=True)

                def one_pass(item: tuple[Any, Share, int], of: int = len(batch)) -> _Pass:
                    inputs, part, seed = item
                    shared.begin(part, seed)
                    return _pass(step(inputs), part.counted, of, parameters)

                passes = compute(one_pass, ((next(inputs), share(part), next(seeds)) for part in of_batch))
                for part, (own_totals, gradients) in zip(of_batch, passes, strict=True):
                    totals = dict(zip(own_totals, summed(list(own_totals.values())), strict=True))
                    loss = totals["loss"] / len(part)
                    if not math.isfinite(loss):
                        raise GsclipError(
                            f"{checkpoint.name}: loss is not finite in epoch {epoch}, at {', '.join(part)}; "
                            "lower the learning rate"
                        )
                    _add_gradients(parameters, gradients)
                    for name, value in totals.items():
                        sums[name] = sums.get(name, 0.0) + value
                sum_gradients(parameters)
                if clip_norm is not None:
                    nn.utils.clip_grad_norm_(parameters, clip_norm)
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                progress.update(len(batch))
                progress.set_postfix_str(f"loss {loss:.4f}", refresh=False)
            progress.close()
            rate = optimizer.param_groups[0]["lr"]
            curve.append(
                {"epoch": epoch, **{name: value / len(order) for name, value in sums.items()}, "learning_rate": rate}
            )
            if is_first():
                checkpoint.save(_state(modules, optimizer, scheduler, curve))
            show(curve[-1])
    return pd.DataFrame(curve) if curve else empty_curve()


def empty_curve() -> pd.DataFrame:
    """Learning curve of a training that is switched off."""
    return pd.DataFrame(columns=["epoch", "loss", "learning_rate"])


def _is_split(modules: Iterable[nn.Module], batch_size: int, micro_batch_size: int | None) -> bool:
    """Whether batches have several micro batches that know nothing of each other."""
    normed = any(isinstance(part, _BatchNorm) for module in modules for part in module.modules())
    return not normed and (micro_batch_size or batch_size) < batch_size


def _seeds(seed: int) -> Iterator[int]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield int(torch.randint(2**31, (), generator=generator))


def _in_turn(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    return list(map(function, items))


def _pass(terms: Mapping[str, Tensor], counted: int, of: int, parameters: Sequence[nn.Parameter]) -> _Pass:
    """Of the loss terms of ``counted`` samples out of a batch's."""
    gradients = torch.autograd.grad(terms["loss"] * (counted / of), parameters, allow_unused=True)
    return {name: value.item() * counted for name, value in terms.items()}, gradients


def _add_gradients(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    """As ``backward`` does: gradients may share memory or have other strides, a parameter's own gradient may not."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        if parameter.grad is None:
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        else:
            parameter.grad.add_(gradient)


def _parts(batch: list[str], size: int) -> list[list[str]]:
    return [batch[start : start + size] for start in range(0, len(batch), size)]


def _read_ahead(read: Callable[[list[str]], Any], parts: Sequence[list[str]]) -> Iterator[Any]:
    """Yield what is read for each part, in order; the next one is read meanwhile."""
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
        coming = reader.submit(read, parts[0]) if parts else None
        for following in [*parts[1:], None]:
            if coming is not None:
                current = coming.result()
                coming = None if following is None else reader.submit(read, following)
                yield current


def _warn_of_batches_without_defect(
    where: str, batches: Sequence[Sequence[str]], defective: Collection[str] | None
) -> None:
    if defective is None or not is_first():
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
