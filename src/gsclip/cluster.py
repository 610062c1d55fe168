"""Work on the workers of a Dask scheduler: several machines in the place of the cores of one.

Dask sends pickles, so whoever reaches the scheduler's port can run code: scheduler and workers have to be own processes
on this machine, in a private network, or behind TLS (``docs/scaling.md``). What travels is the function, once to each
worker, and items and results, which are records of arrays; workers read no files but the scans that they prepare.

A worker that dies loses nothing: the scheduler keeps the items until their results are here, and gives them to others.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import pickle  # between own processes, see above
import platform
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import dask
from distributed import Client, Future, KilledWorker, Worker, WorkerPlugin
from distributed.client import FutureCancelledError

from gsclip.errors import GsclipError, InputError, one_line
from gsclip.parallel import SCHEDULER, name_of, settle
from gsclip.reuse import code_digest, library_versions

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2  # items per worker that are under way: one that is worked on, one that is there when it is done
CONNECT = 10.0  # seconds for the scheduler's answer
WAIT = 60.0  # seconds without any worker
ANSWER = 300.0  # seconds for a worker's first answer: it imports torch for it
LOOK = 5.0  # seconds between two looks at the workers
PROCESSOR = "processor"
CODE = ("**/*.py", "features/embedded/*.json")
WORKERS_REMEDY = "start some: `dask worker ADDRESS --nworkers 2 --nthreads 1`"

_log = logging.getLogger(__name__)
# Of a worker, by run. Loaded in the thread that works: imports of seconds would keep a worker from answering.
_pickled: dict[str, bytes] = {}
_functions: dict[str, Any] = {}


def cluster_map(function: Callable[[Item], Result], items: Iterable[Item], address: str) -> Iterator[Result]:
    """Yield ``function(item)`` of every item, in the items' order; see :func:`gsclip.parallel.ordered_map`.

    Workers that join later work along.

    Args:
        function: can be pickled, and imported by the workers.
        items: read only a little ahead of the results.
        address: of the scheduler, such as ``tcp://127.0.0.1:8786`` or, with certificates in Dask's configuration,
            ``tls://...``.

    Raises:
        InputError: when there is no scheduler at that address, it has no workers, or a worker runs other code, other
            versions of libraries or more than one thread.
        GsclipError: when workers die again and again at one item, or all of them or the scheduler are gone.
    """
    pending: deque[tuple[Item, Future]] = deque()
    with contextlib.ExitStack() as stack:
        run: _Run | None = None
        try:
            for item in items:
                if run is None:  # no item, no connection
                    run = stack.enter_context(_connected(function, address))
                pending.append((item, run.submit(item)))
                if len(pending) >= AHEAD * run.workers():
                    yield run.result(*pending[0])
                    pending.popleft()
            while run is not None and pending:
                yield run.result(*pending[0])
                pending.popleft()
        finally:
            if run is not None and run.alive:
                for _, future in pending:
                    future.cancel()


@functools.cache
def facts() -> dict[str, str]:
    """What has to be the same on all machines: code of the package and versions; and the processor's instructions."""
    import torch

    return {
        "code of gsclip": code_digest(CODE)[:16],
        "python": platform.python_version(),
        **library_versions(),
        PROCESSOR: torch.backends.cpu.get_cpu_capability(),
    }


class _Function(WorkerPlugin):
    """Brings the function to every worker, those that start later included."""

    idempotent = True

    def __init__(self, name: str, pickled: bytes) -> None:
        self.name, self._pickled = name, pickled

    def setup(self, worker: Worker) -> None:
        _pickled[self.name] = self._pickled

    def teardown(self, worker: Worker) -> None:
        _pickled.pop(self.name, None)
        _functions.pop(self.name, None)


def _call(run: str, expected: dict[str, str], item: Any) -> Any:  # noqa: ANN401
    """Compute one item on a worker."""
    if problem := _differences(expected, facts()):  # a worker that came after the check
        raise GsclipError(problem)
    settle()  # in the thread that works
    if run not in _functions:
        _functions[run] = pickle.loads(_pickled[run])  # noqa: S301 - of the process that uses these workers
    return _functions[run](item)


class _Run:
    """One function on one scheduler's workers."""

    def __init__(self, client: Client, address: str, name: str) -> None:
        self._client, self._address, self._name = client, address, name
        self._count, self._looked = 1, -LOOK

    @property
    def alive(self) -> bool:
        return bool(self._client.status == "running")

    def submit(self, item: Any) -> Future:  # noqa: ANN401
        return self._client.submit(_call, self._name, facts(), item, pure=False)

    def workers(self) -> int:
        """Their number, as it was within the last seconds; at least 1."""
        if time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            self._count = max(1, len(self._client.nthreads()))
        return self._count

    def result(self, item: Any, future: Future) -> Any:  # noqa: ANN401
        last_seen = time.monotonic()
        while True:
            try:
                return future.result(timeout=LOOK)
            except KilledWorker as error:
                raise GsclipError(
                    f"workers died again and again at {name_of(item)}, most likely for lack of memory; "
                    "start fewer on each machine, or use machines with more memory"
                ) from error
            except FutureCancelledError as error:
                raise self._lost() from error
            except TimeoutError:
                if future.done():  # the function's own
                    raise
                if not self.alive:
                    raise self._lost() from None
                if self._client.nthreads():
                    last_seen = time.monotonic()
                elif time.monotonic() - last_seen > WAIT:
                    raise InputError(self._address, "all workers are gone", WORKERS_REMEDY) from None

    def _lost(self) -> InputError:
        return InputError(
            self._address, "the connection to the Dask scheduler is lost", "start it again, and the command after it"
        )


@contextlib.contextmanager
def _connected(function: Callable[[Any], Any], address: str) -> Iterator[_Run]:
    pickled, name = pickle.dumps(function), f"gsclip-{uuid.uuid4().hex}"
    # Items of megabytes are meant: the scheduler has to keep them, for the death of a worker.
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):
        try:
            client = Client(address, timeout=CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:
            remedy = f"start one with `dask scheduler --host 127.0.0.1`, or unset {SCHEDULER} to work on this machine"
            raise InputError(address, f"no Dask scheduler answers ({one_line(error)})", remedy) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=WAIT)
            except TimeoutError as error:
                raise InputError(address, "the Dask scheduler has no workers", WORKERS_REMEDY) from error
            _check(client, address)
            client.register_plugin(_Function(name, pickled))
            try:
                yield _Run(client, address, name)
            finally:
                if client.status == "running":
                    client.unregister_worker_plugin(name)


def _check(client: Client, address: str) -> None:
    """Refuse workers that would give other results."""
    for worker, threads in client.nthreads().items():
        if threads != 1:
            remedy = "start it with --nthreads 1, and as many with --nworkers as it has cores"
            raise InputError(address, f"worker {worker} runs {threads} threads", remedy)
    expected = facts()
    asked = {worker: client.submit(facts, workers=[worker], pure=False) for worker in client.nthreads()}
    for worker, answer in asked.items():
        try:
            found = answer.result(timeout=ANSWER)
        except TimeoutError as error:
            raise InputError(address, f"worker {worker} does not answer", "start it again") from error
        except Exception as error:  # whatever it lacks
            problem = f"worker {worker} cannot run gsclip ({type(error).__name__}: {one_line(error)})"
            raise InputError(address, problem, "install the same version there, and start it again") from error
        if problem := _differences(expected, found):
            raise InputError(address, f"worker {worker}: {problem}", "install the same there, and start it again")
        if found[PROCESSOR] != expected[PROCESSOR]:
            _log.warning(
                "worker %s computes with %s, this machine with %s: scores agree, but not to the last bit",
                worker,
                found[PROCESSOR],
                expected[PROCESSOR],
            )


def _differences(expected: dict[str, str], found: dict[str, str]) -> str:
    """What a worker has in another version; empty where there is nothing."""
    names = [name for name in expected if name != PROCESSOR and found.get(name, "") != expected[name]]
    pairs = [f"{name} is {found.get(name) or 'missing'} and not {expected[name] or 'missing'}" for name in names]
    return "another version: " + ", ".join(pairs) if pairs else ""
