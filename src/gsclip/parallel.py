"""Work on all cores, results in order, memory bounded."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

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
    """
    workers = workers or len(os.sched_getaffinity(0))
    # Fresh processes: forking one that runs torch's threads can deadlock.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= AHEAD * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
