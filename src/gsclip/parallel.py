"""Work on all cores, or on the workers of a Dask scheduler: results in order, memory bounded.

Results do not depend on where they are computed: every process of :func:`ordered_map` and every thread of
:func:`beside` computes with one thread of torch. Few items of :func:`ordered_map` are computed in the process itself,
by functions that do not depend on the number of its threads.
"""

from __future__ import annotations

import functools
import itertools
import os
import pickle  # between processes of this program alone
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, ParamSpec, TypeVar

from gsclip.errors import GsclipError, one_line, printable

Item = TypeVar("Item")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

AHEAD = 4  # items per worker that are under way before their turn
FEW = 16  # a process takes seconds to start: so few items of about a second each are done as soon without
SCHEDULER = "GSCLIP_SCHEDULER"  # environment variable, not a parameter: it must not make stages of the pipeline stale

_starting = threading.Lock()
_function: Any = None  # what a worker process does; loaded at its first item
_pickled = b""


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int | None = None,
    *,
    few: int = 0,
    scheduler: str | None = None,
) -> Iterator[Result]:
    """Yield ``function(item)`` of every item, in the items' order, computed by processes.

    Args:
        function: can be pickled; it travels to each process once, so it may carry a model.
        items: read only a little ahead of the results, one more than ``few`` at first. They and the results travel
            between processes.
        workers: number of local processes; by default the number of cores that this process may use.
        few: where there are no more items, they are computed in this process: for functions that give the same bits
            with any number of torch's threads, such as those that compute by :func:`beside`.
        scheduler: address of a Dask scheduler whose workers take the place of local processes (see
            :mod:`gsclip.cluster`); by default what the environment variable ``GSCLIP_SCHEDULER`` holds. Empty: local.

    Raises:
        GsclipError: when a process dies, as for lack of memory; it names the items that were worked on.
        InputError: when the scheduler or its workers cannot be used.
    """
    address = os.environ.get(SCHEDULER, "") if scheduler is None else scheduler
    if address:
        from gsclip.cluster import cluster_map

        yield from cluster_map(function, items, address)
        return
    source = iter(items)
    first = deque(itertools.islice(source, few + 1))
    if len(first) <= few:
        yield from map(function, _taken_away(first))
        return
    workers = workers or len(os.sched_getaffinity(0))
    # Fresh processes: forking one that runs torch's threads can deadlock.
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start, initargs=(pickle.dumps(function),)
    ) as pool:
        pending: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in itertools.chain(_taken_away(first), source):
                try:
                    pending.append((item, pool.submit(_call, item)))
                except BrokenProcessPool as error:
                    raise _died(pending, workers) from error
                if len(pending) >= AHEAD * workers:
                    yield _next(pending, workers)
            while pending:
                yield _next(pending, workers)
        finally:
            for _, future in pending:
                future.cancel()


def beside(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Future[Result]:
    """Start a call in another thread of this process; as many run at once as torch has threads here.

    Each computes with one thread of torch, and gives the same bits whatever their number: small products of matrices
    gain more from this than from being split. Where torch has one thread, as within such a call, it is done at once.
    """
    import torch

    lanes = torch.get_num_threads()
    if lanes > 1:
        return _lanes(lanes).submit(function, *args, **kwargs)
    done: Future[Result] = Future()
    try:
        done.set_result(function(*args, **kwargs))
    except Exception as error:
        done.set_exception(error)
    return done


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``function(item)`` of every item, each by :func:`beside`; after an error nothing goes on."""
    started: list[Future[Result]] = []
    try:
        started.extend(beside(function, item) for item in items)
        return [future.result() for future in started]
    finally:
        for future in started:
            future.cancel()
        wait(started)


def _lanes(count: int) -> ThreadPoolExecutor:
    """Threads of one thread of torch each; ``count`` is torch's number of threads in the calling one."""
    with _starting:
        return _started_lanes(count)


@functools.cache
def _started_lanes(count: int) -> ThreadPoolExecutor:
    import torch

    all_here = threading.Barrier(count)

    def settle_lane() -> None:
        torch.get_num_threads()  # asked first: what is set earlier does not last
        torch.set_num_threads(1)
        all_here.wait()

    pool = ThreadPoolExecutor(count, "lane")
    for lane in [pool.submit(settle_lane) for _ in range(count)]:
        lane.result()
    # The lanes keep theirs; threads that start from now on get this number again.
    torch.set_num_threads(count)
    return pool


def settle() -> None:
    """Settings of every process that computes items: one thread, deterministic algorithms."""
    import torch

    from gsclip.determinism import make_deterministic

    make_deterministic()
    torch.set_num_threads(1)


def name_of(item: Any) -> str:  # noqa: ANN401 - items are of any type
    """The item's entry or attribute ``name``, such as that of a row of an index, or else the item as text."""
    try:
        name = item["name"]
    except (TypeError, LookupError, ValueError):
        name = getattr(item, "name", item)
    return printable(one_line(name, 100))


def _taken_away(items: deque[Item]) -> Iterator[Item]:
    """Items from the left; none is kept."""
    while items:
        yield items.popleft()


def _start(pickled: bytes) -> None:
    global _pickled
    _pickled = pickled
    settle()


def _call(item: Any) -> Any:  # noqa: ANN401
    global _function, _pickled
    if _function is None:
        _function = pickle.loads(_pickled)  # noqa: S301 - of the process that started this one
        _pickled = b""
    return _function(item)


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
    names = " or ".join(name_of(item) for item in open_items[:workers]) or "the first item"
    return GsclipError(
        f"a worker process died at {names}, most likely for lack of memory; "
        "let fewer work at once (taskset -c 0-1 gsclip ...), or use a machine with more memory"
    )
