"""Executors on this machine: in this process, or a pool of single-threaded worker processes.

An executor turns cohorts into a stream of records. On a CPU two processes beat two OpenMP threads on nets this small, so
there the pool trains one cohort a process with one thread each; a GPU is driven from this process. A run has one thread even
where there are more cores than runs, so that its sums are taken in the same order, and its bits are the same, everywhere.
"""

from __future__ import annotations

import ctypes
import logging
import math
import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexp.interrupt import shielded
from bnexp.metrics import Record, RunFailed, RunFinished
from bnexp.plan.spec import RunSpec
from bnexp.run.cohorts import Cohort, split, workload

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData
    from bnexp.data.resident import Resident

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 2  # of a cohort whose worker process died
KEPT_BYTES = 512 * 2**20  # of freed memory that a process keeps for its next tensors; more than an evaluation takes

FORK_SERVER = "bnexp.run.fork_server"
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container, where the system has control groups


def num_cores() -> int:
    """Processors this process may use: those it is bound to, within the container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = map(int, CPU_QUOTA.read_text().split())
    except (OSError, ValueError):  # there is none
        return cores
    return max(1, min(cores, round(quota / period)))


def keep_freed_memory() -> None:
    """Have this process keep memory that tensors gave back, for the next ones, instead of returning it to the system.

    What is asked for anew comes page by page, each filled with zeros first: in an epoch of 5,000 MNIST images that was a
    quarter of the processor time, most of it in evaluations. The peak of memory stays the same, but what it leaves is kept
    until the process ends (measured: 745 instead of 695 MiB). Only glibc is told, and old versions of it refuse so large a
    part.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    if mallopt and mallopt(mmap_threshold, KEPT_BYTES):  # without it the other would do harm: it ends glibc's own adaptation
        mallopt(trim_threshold, KEPT_BYTES)


def train_cohort(cohort: Cohort, resident: Resident) -> Iterator[Record]:
    """The records of one cohort, trained here; an error becomes a RunFailed of every run that is not finished.

    On a GPU the cohort is split into parts that fit into memory. One that runs out of memory all the same is halved, and its
    runs start anew.
    """
    finished: set[str] = set()
    try:
        import torch

        from bnexp.data.batches import DeviceData
        from bnexp.training.capture import release_memory
        from bnexp.training.memory import runs_that_fit
        from bnexp.training.precision import compute_dtype, resolve_device

        train = cohort[0].config.train
        device = resolve_device(train)
        if device.type == "cpu":
            torch.set_num_threads(1)
            keep_freed_memory()
        data = DeviceData(resident, device, compute_dtype(train.precision), cohort[0].config.data)
        waiting = deque(split(cohort, runs_that_fit(cohort, data)))
        while waiting:
            part = waiting.popleft()
            fitted = yield from _trained(part, data, finished)
            release_memory(device)
            if fitted:
                continue
            if len(part) == 1:
                raise MemoryError(_too_large(part[0], device.type))
            left = tuple(spec for spec in part if spec.run_id not in finished)
            log.warning("%d runs together are too many for the memory of %s; they are trained in halves.", len(part), device)
            waiting.extendleft(reversed(split(left, math.ceil(len(part) / 2))))
    except Exception as error:
        text = str(error) or type(error).__name__
        for run_id in sorted({spec.run_id for spec in cohort} - finished):
            yield RunFailed(run_id, text, traceback.format_exc())


def _trained(cohort: Cohort, data: DeviceData, finished: set[str]) -> Generator[Record, None, bool]:
    """Train a cohort; False where memory ran out. A function of its own, so that nothing of the cohort outlives the attempt."""
    import torch

    from bnexp.training import engine

    try:
        for record in engine.fit(cohort, data):
            if isinstance(record, RunFinished):
                finished.add(record.run_id)
            yield record
    except torch.OutOfMemoryError:
        return False
    return True


def _too_large(spec: RunSpec, device: str) -> str:
    train = spec.config.train
    return (
        f"the run alone does not fit into the memory of the device ({device}): train.batch_size={train.batch_size} and "
        f"train.eval_batch_size={train.eval_batch_size} decide what it takes; make the larger one smaller, or use "
        "train.device=cpu."
    )


def run_inline(cohorts: Sequence[Cohort], resident: Resident) -> Iterator[Record]:
    """Train the cohorts one after another in this process."""
    import bnexp.training.engine  # noqa: F401  # takes seconds, for which Ctrl-C would wait later

    return chain.from_iterable(train_cohort(cohort, resident) for cohort in cohorts)


def try_again(cohort: Cohort, finished: set[str], waiting: deque[Cohort], attempts: dict[str, int]) -> Cohort:
    """Queue what is left of a cohort whose process died; the runs that have been lost too often instead.

    ``attempts`` counts the losses by the first run that is left, and is brought up to date.
    """
    rest = tuple(spec for spec in cohort if spec.run_id not in finished)
    if not rest:
        return ()
    first = rest[0].run_id
    attempts[first] = attempts.get(first, 0) + 1
    if attempts[first] >= MAX_ATTEMPTS:
        return rest
    log.warning("The process that trained %s died; it is trained again from its start.", ", ".join(s.label for s in rest))
    waiting.appendleft(rest)
    return ()


@dataclass
class _Worker:
    process: Any
    connection: Connection
    cohorts: deque[Cohort] = field(default_factory=deque)  # the first one trains
    finished: set[str] = field(default_factory=set)


def start_pool_server() -> BaseContext:
    """Where worker processes come from; the sooner it is called, the sooner they are ready.

    On Linux one process imports torch and is then forked into each worker, so that torch is loaded once, whatever their
    number; a second call finds that process running. Elsewhere forking a process with such libraries is not safe.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver, resource_tracker

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([FORK_SERVER, "__main__", "bnexp.data.batches", "bnexp.training.engine"])
    resource_tracker.ensure_running()  # here, because it ends the shield
    with shielded(), single_threaded():
        forkserver.ensure_running()
    return context


class Pool:
    """Single-threaded worker processes that each train one cohort at a time.

    The images reach them through the page cache (memory-mapped files), so they are in memory once. A worker that dies is
    replaced and its cohort tried again; a cohort that kills two workers is recorded as failed and the others go on.
    """

    def __init__(self, resident: Resident, num_workers: int) -> None:
        self.resident = resident
        self.num_workers = num_workers
        self._context: Any = start_pool_server()
        self._workers: list[_Worker] = []

    def run(self, cohorts: Sequence[Cohort]) -> Iterator[Record]:
        """Records of all cohorts as they come, those of one run in order."""
        waiting = deque(cohorts)
        attempts: dict[str, int] = {}
        try:
            with single_threaded():
                self._workers = [self._start() for _ in range(min(self.num_workers, len(waiting)))]
            while waiting or any(worker.cohorts for worker in self._workers):
                self._hand_out(waiting)
                busy = {worker.connection: worker for worker in self._workers if worker.cohorts}
                for ready in wait(list(busy)):
                    worker = busy[ready]  # type: ignore[index]
                    try:
                        record = worker.connection.recv()
                    except (EOFError, OSError):
                        yield from self._replace(worker, waiting, attempts)
                        continue
                    if record is None:
                        worker.cohorts.popleft()
                    else:
                        if isinstance(record, RunFinished | RunFailed):
                            worker.finished.add(record.run_id)
                        yield record
        finally:
            self.close()

    def close(self) -> None:
        """Stop all workers, at once when they are busy."""
        for worker in self._workers:
            worker.process.terminate()  # an idle one too: taking torch down in good order takes most of a second
            worker.connection.close()
        for worker in self._workers:
            worker.process.join()
        self._workers = []

    def _start(self) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_work, args=(there, self.resident, dict(os.environ)), daemon=True)
        with shielded() if self._context.get_start_method() == "spawn" else nullcontext():
            process.start()  # of a fork server this waits until torch is loaded; there Ctrl-C does no harm
        there.close()
        return _Worker(process, here)

    def _hand_out(self, waiting: deque[Cohort]) -> None:
        """A cohort for every worker without one; then a second one for each, so that it goes on while this process is busy
        with the records. That leaves enough for all, and none waits behind a longer one while another worker is idle.
        """
        for worker in self._workers:
            if waiting and not worker.cohorts:
                self._give(worker, waiting.popleft())
        for worker in self._workers:
            if len(waiting) < len(self._workers):
                return
            as_long = len(worker.cohorts) == 1 and workload(worker.cohorts[0]) == workload(waiting[0])
            if as_long and waiting[0][0].initial is None:  # weights would fill the pipe before they are read
                self._give(worker, waiting.popleft())

    def _give(self, worker: _Worker, cohort: Cohort) -> None:
        worker.cohorts.append(cohort)
        with suppress(OSError):  # it died meanwhile: reading from it says so
            worker.connection.send(cohort)

    def _replace(self, worker: _Worker, waiting: deque[Cohort], attempts: dict[str, int]) -> Iterator[Record]:
        cohort, *untouched = worker.cohorts
        waiting.extendleft(reversed(untouched))
        worker.process.join()
        code = worker.process.exitcode
        worker.connection.close()
        self._workers.remove(worker)
        with single_threaded():
            self._workers.append(self._start())
        given_up = try_again(cohort, worker.finished, waiting, attempts)
        reason = f"was killed by signal {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"
        hint = "; too little memory is the usual cause: try executor.workers=1" if code == -signal.SIGKILL else ""
        for spec in given_up:
            yield RunFailed(spec.run_id, f"its worker process {reason}, {MAX_ATTEMPTS} times in a row{hint}")


def _work(connection: Connection, resident: Resident, environment: dict[str, str]) -> None:
    """The life of a worker process: take a cohort, send its records, say None, until the connection ends."""
    os.environ.update(environment)  # the fork server's own is that of its start
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it stops the workers
    try:
        while True:
            for record in train_cohort(connection.recv(), resident):
                connection.send(record)
            connection.send(None)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


@contextmanager
def single_threaded() -> Iterator[None]:
    """Processes started inside begin with one OpenMP and one MKL thread."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
