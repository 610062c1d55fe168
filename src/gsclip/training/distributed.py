"""Training by several processes, as torchrun starts them: data parallel, gradients summed over all (gloo).

A step is that of one process, up to the order of sums: each process takes its share of every micro batch, batch norms
see the whole of it, and dropout draws for the whole of it. One process alone runs none of this but the dropout, whose
draws depend on nothing but the micro batch: it may be computed in any thread, at any time, and twice.

DistributedDataParallel is not used: it averages gradients over processes, whatever their shares are, and its batch norm
over processes needs a GPU.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gsclip.errors import GsclipError

Value = TypeVar("Value")


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun has started, if it has."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield
        return
    if os.environ.get("LOCAL_WORLD_SIZE") == str(size):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all on this machine: nothing listens outside of it
    dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def processes() -> int:
    """Number of processes of this training."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def from_first(value: Value) -> Value:
    """The first process's value, in all of them."""
    if processes() == 1:
        return value
    values: list[Any] = [value if is_first() else None]
    dist.broadcast_object_list(values)  # pickled, between the processes of one training
    first: Value = values[0]
    return first


@dataclass(frozen=True)
class Share:
    """What one process computes of a micro batch.

    Attributes:
        names: samples; never none: a process without a share computes the first sample, and it does not count.
        start: place of the first of them in the micro batch.
        total: number of samples of the micro batch.
        counted: number of ``names`` that count.
    """

    names: list[str]
    start: int
    total: int
    counted: int


def share(names: Sequence[str]) -> Share:
    """This process's share of a micro batch: consecutive samples."""
    total, size = len(names), processes()
    rank = dist.get_rank() if size > 1 else 0
    start, end = rank * total // size, (rank + 1) * total // size
    if start == end:
        return Share(list(names[:1]), 0, total, 0)
    return Share(list(names[start:end]), start, total, end - start)


def summed(values: Sequence[float]) -> list[float]:
    """Sums over all processes."""
    if processes() == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(sums)
    result: list[float] = sums.tolist()
    return result


@torch.no_grad()
def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients by their sums over all processes, in one message."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if processes() == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, total in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(total.view_as(gradient))


class Shared:
    """Batch norms and dropouts of some modules, made those of all processes while the block runs.

    :meth:`begin` is to be called before each forward pass, in the thread that computes it and its gradients. All start
    from the first process's parameters and buffers.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._now = threading.local()
        self._modules = list(modules)
        self._replaced: list[nn.Module] = []

    def begin(self, share: Share, seed: int) -> None:
        """Tell what this thread computes from now on.

        Args:
            share: of a micro batch.
            seed: of its dropouts.
        """
        self._now.share, self._now.seed = share, seed

    @torch.no_grad()
    def __enter__(self) -> Shared:
        """Replace what depends on other samples of the batch, and for one process dropouts alone."""
        for module in self._modules:
            if processes() > 1:
                trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
                for tensor in (*trained, *module.buffers()):
                    dist.broadcast(tensor.data, 0)
            for part in module.modules():
                if isinstance(part, nn.Dropout):
                    part.forward = functools.partial(self._dropout, len(self._replaced), part)  # type: ignore[method-assign]
                elif isinstance(part, _BatchNorm) and processes() > 1:
                    part.forward = functools.partial(self._batch_norm, part)  # type: ignore[method-assign]
                else:
                    continue
                self._replaced.append(part)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the modules' own passes back."""
        for part in self._replaced:
            del part.forward

    def _batch_norm(self, norm: _BatchNorm, values: Tensor) -> Tensor:
        if not norm.training:
            return type(norm).forward(norm, values)
        if norm.momentum is None or not norm.track_running_stats:
            raise GsclipError("training by several processes: a batch norm without momentum cannot be shared")
        part: Share = self._now.share
        axes = [axis for axis in range(values.dim()) if axis != 1]
        per_channel = (1, -1, *[1] * (values.dim() - 2))
        count = values.numel() // values.shape[1] // len(part.names) * part.total
        counts = bool(part.counted)
        # As torch does: sums in double precision, then one linear map a channel, so that what is left of a difference
        # lies in the order of the sums.
        mean = _all_reduce(values.sum(axes, dtype=torch.float64) * counts) / count
        centred = values - mean.to(values.dtype).view(per_channel)
        squares = _all_reduce(centred.square().sum(axes, dtype=torch.float64) * counts)
        scale = (squares / count + norm.eps).rsqrt().to(values.dtype)
        shift = -mean.to(values.dtype) * scale
        if norm.affine:
            scale, shift = scale * norm.weight, norm.bias - mean.to(values.dtype) * (scale * norm.weight)
        with torch.no_grad():
            for running, found in ((norm.running_mean, mean), (norm.running_var, squares / max(count - 1, 1))):
                running.mul_(1 - norm.momentum).add_(norm.momentum * found.to(running.dtype))  # type: ignore[union-attr]
            norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        return values * scale.view(per_channel) + shift.view(per_channel)

    def _dropout(self, number: int, dropout: nn.Dropout, values: Tensor) -> Tensor:
        """Draw for the whole micro batch, as one process does, and take what belongs to this share; samples lead.

        Each dropout draws by a seed of its own, so that gradient checkpointing finds the same draws again; a module
        that is called twice in a pass would do so too.
        """
        if not dropout.training or dropout.p == 0:
            return values
        part: Share = self._now.share
        rows = len(values) // len(part.names)
        generator = torch.Generator().manual_seed(self._now.seed + number)
        drawn = _scaled_draws((rows * part.total, *values.shape[1:]), dropout.p, generator)
        return values * drawn[rows * part.start :][: len(values)].to(values)


def _scaled_draws(shape: tuple[int, ...], dropped: float, generator: torch.Generator) -> Tensor:
    """0 in a share ``dropped`` (below 1) of the places, to 16 bits, and 1 / (1 - dropped) in the others.

    Four draws come from one number, in a third of the time of a Bernoulli distribution's.
    """
    count = math.prod(shape)
    numbers = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    draws = numbers.view(torch.int16)[:count].view(shape)
    return (draws >= min(round(dropped * 2**16), 2**16 - 1) - 2**15).float().mul_(1 / (1 - dropped))


class _AllReduce(torch.autograd.Function):
    """Sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:  # noqa: ANN401
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _all_reduce(values: Tensor) -> Tensor:
    total: Tensor = _AllReduce.apply(values)
    return total
