"""Work on all cores, results in order, memory bounded."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from gsclip.errors import GsclipError, one_line, printable

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4  # items per worker that are under way before their turn


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Iterator[Result]:
    """Yield ``function(item)`` of every item, in the items' order, computed by processes.

    Every process uses one thread of torch, so results do not depend on the number of cores.

    Args:
        function: can be pickled; it and its results travel between processes.
        items: read only a little ahead of the results.
        workers: number of processes; by default the number of cores that this process may use.

    Raises:
        GsclipError: when a process dies, as for lack of memory; it names the items that were worked on.
    """
    workers = workers or len(os.sched_getaffinity(0))
    # Fresh processes: forking one that runs torch's threads can deadlock.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        pending: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in items:
                try:
                    pending.append((item, pool.submit(function, item)))
                except BrokenProcessPool as error:
                    raise _died(pending, workers) from error
                if len(pending) >= AHEAD * workers:
                    yield _next(pending, workers)
            while pending:
                yield _next(pending, workers)
        finally:
            for _, future in pending:
                future.cancel()


def _next(pending: deque[tuple[Item, Future[Result]]], workers: int) -> Result:
    """Result of the first item, which is taken away."""
    try:
        result = pending[0][1].result()
    except BrokenProcessPool as error:
        raise _died(pending, workers) from error
    pending.popleft()
    return result


def _died(pending: Iterable[tuple[Item, Future[Result]]], workers: int) -> GsclipError:
    """Error of a process that is gone: items begin in order, so the first without a result were worked on."""
    open_items = [item for item, future in pending if not future.done() or future.exception() is not None]
    names = " or ".join(_name(item) for item in open_items[:workers]) or "the first item"
    return GsclipError(
        f"a worker process died at {names}, most likely for lack of memory; "
        "let fewer work at once (taskset -c 0-1 gsclip ...), or use a machine with more memory"
    )


def _name(item: Any) -> str:  # noqa: ANN401 - items are of any type
    """The item's entry ``name``, such as that of a row of an index, or else the item as text."""
    try:
        name = item["name"]
    except (TypeError, LookupError, ValueError):
        name = item
    return printable(one_line(name, 100))


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
