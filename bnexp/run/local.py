"""Executors on this machine: in this process, or a pool of single-threaded worker processes.

An executor turns cohorts into a stream of records. On networks this small, two processes are faster than two OpenMP threads. So
on a CPU the pool trains one cohort per process, with one thread each. A GPU is driven from this process. A run has one thread
even if there are more cores than runs. So its sums are taken in the same order, and its bits are the same, however many cores
there are.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import math
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Collection, Container, Generator, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexp.config.schema import ConfigError, MachineError
from bnexp.interrupt import shielded
from bnexp.metrics import Record, RunFailed, RunFinished, RunStopped
from bnexp.plan.spec import RunSpec
from bnexp.run.cohorts import Cohort, split, workload
from bnexp.run.pool_server import end_with_parent, single_threaded, start_pool_server, without_main
from bnexp.run.stopping import Stopping

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData
    from bnexp.data.resident import Resident
    from bnexp.training.engine import Stops

log = logging.getLogger(__name__)

LOOKS = 700, 10, 10  # how often Python usually looks for garbage; the command line has it look less often
MAX_ATTEMPTS = 2  # to train a cohort whose worker process dies
KEPT_BYTES = 512 * 2**20  # of freed memory that a process keeps for its next tensors; more than an evaluation takes

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container; exists only on systems with control groups


def num_cores() -> int:
    """Number of processors that this process may use: those it is bound to, at most the container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = map(int, CPU_QUOTA.read_text().split())
    except (OSError, ValueError):  # there is no quota
        return cores
    return max(1, min(cores, round(quota / period)))


def keep_freed_memory() -> None:
    """Keep memory that tensors have freed for the next tensors, instead of returning it to the system.

    The system fills each page of new memory with zeros first. In an epoch of 5,000 MNIST images that took a quarter of the
    processor time, most of it in evaluations. The peak of memory stays the same, but freed memory is kept until the process
    ends (measured: 745 instead of 695 MiB). This works only with glibc, and its old versions refuse so large a threshold.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    if mallopt and mallopt(mmap_threshold, KEPT_BYTES):  # the other alone would do harm: it turns off glibc's own adaptation
        mallopt(trim_threshold, KEPT_BYTES)


def train_cohort(cohort: Cohort, resident: Resident, stops: Stops | None = None) -> Iterator[Record]:
    """Train one cohort in this process.

    On a GPU the cohort is split into parts that fit into memory. A part that still runs out of memory is halved, and its
    unfinished runs start again.

    Args:
        cohort: the runs.
        resident: their data set.
        stops: is asked after each epoch which runs to stop; None: no run is stopped.

    Returns:
        Its records, as they come. An error becomes a RunFailed for every run that is not finished.

    Raises:
        MachineError: no run can train like that on this machine.
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
            fitted = yield from _trained(part, data, finished, stops)
            release_memory(device)
            if fitted:
                continue
            if len(part) == 1:
                raise MemoryError(_too_large(part[0], device.type))
            left = tuple(spec for spec in part if spec.run_id not in finished)
            log.warning("%d runs together are too many for the memory of %s; they are trained in halves.", len(part), device)
            waiting.extendleft(reversed(split(left, math.ceil(len(part) / 2))))
    except MachineError:
        raise
    except Exception as error:
        text = str(error) or type(error).__name__
        for run_id in sorted({spec.run_id for spec in cohort} - finished):
            yield RunFailed(run_id, text, traceback.format_exc())


def _trained(cohort: Cohort, data: DeviceData, finished: set[str], stops: Stops | None) -> Generator[Record, None, bool]:
    """Train a cohort; False if memory ran out. A function of its own, so that its tensors are freed before the next attempt."""
    import torch

    from bnexp.training import engine

    try:
        for record in engine.fit(cohort, data, stops):
            if isinstance(record, RunFinished | RunStopped):
                finished.add(record.run_id)
            yield record
    except torch.OutOfMemoryError:
        return False
    return True


def _too_large(spec: RunSpec, device: str) -> str:
    """Why a run that does not fit into memory by itself fails, and what the user can do."""
    train = spec.config.train
    return (
        f"the run alone does not fit into the memory of the device ({device}): train.batch_size={train.batch_size} and "
        f"train.eval_batch_size={train.eval_batch_size} decide what it takes; make the larger one smaller, or use "
        "train.device=cpu."
    )


def run_inline(cohorts: Sequence[Cohort], resident: Resident, stopping: Stopping | None = None) -> Iterator[Record]:
    """Train the cohorts one after another in this process; their records as they come. ``stopping`` stops runs early."""
    import bnexp.training.engine  # noqa: F401  # takes seconds; later, Ctrl-C would have to wait for it

    def stops(run_ids: Sequence[str], epoch: int) -> Collection[str]:
        if stopping is None or epoch not in stopping.epochs:
            return ()
        return {run_id for run_id in run_ids if stopping.decide(run_id, epoch, wait=False)}

    return _tidy(train_cohort(cohort, resident, stops if stopping else None) for cohort in cohorts)


def _tidy(parts: Iterable[Iterator[Record]]) -> Iterator[Record]:
    """The records of all parts. Meanwhile Python looks for garbage as usual: a user's network may leave tensors in it."""
    before = gc.get_threshold()
    gc.set_threshold(*map(min, before, LOOKS))
    try:
        yield from chain.from_iterable(parts)
    finally:
        gc.set_threshold(*before)


def try_again(cohort: Cohort, finished: set[str], waiting: deque[Cohort], attempts: dict[str, int]) -> Cohort:
    """Put the unfinished runs of a cohort whose process died back into the queue, or give them up.

    Args:
        cohort: the runs that the process was training.
        finished: ids of those that had finished.
        waiting: the queue of cohorts; changed in place.
        attempts: first unfinished run -> how often its process has died; changed in place.

    Returns:
        The unfinished runs if they have been lost ``MAX_ATTEMPTS`` times; empty if they are queued or none is left.
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


@dataclass(frozen=True)
class _Question:
    """A worker asks which of its runs to stop, and waits for the answer.

    Args:
        run_ids: those in training.
        epoch: that has ended.
    """

    run_ids: Sequence[str]
    epoch: int


@dataclass(frozen=True)
class _Said:
    """What a worker has logged, for the process that has the terminal."""

    text: str


@dataclass
class _Refused:
    """Why this machine can train none of the runs."""

    text: str


class _Forwarder(logging.Handler):
    """Sends what is logged in a worker through its connection."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        self.connection.send(_Said(record.getMessage()))


@dataclass
class _Worker:
    """A worker process, with the cohorts that it has been given and the runs that it has finished."""

    process: Any
    connection: Connection
    cohorts: deque[Cohort] = field(default_factory=deque)  # the first one trains
    finished: set[str] = field(default_factory=set)
    question: _Question | None = None  # that has not been answered yet


class Pool:
    """Single-threaded worker processes that each train one cohort at a time.

    Workers read the images from memory-mapped files, so the images are in memory only once. A worker that dies is replaced and
    its cohort is tried again. A cohort that kills two workers is recorded as failed; the others go on.

    Args:
        resident: the data set.
        num_workers: largest number of worker processes.
        stopping: stops runs early; None: no run is stopped.
    """

    def __init__(self, resident: Resident, num_workers: int, stopping: Stopping | None = None) -> None:
        self.resident = resident
        self.num_workers = num_workers
        self.stopping = stopping
        self._context: Any = start_pool_server()
        self._workers: list[_Worker] = []
        self._said: set[str] = set()

    def run(self, cohorts: Sequence[Cohort]) -> Iterator[Record]:
        """Train the cohorts; their records as they come. Those of one run are in order. Raises ConfigError as workers do."""
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
                    elif isinstance(record, _Question):
                        worker.question = record
                    elif isinstance(record, _Said):
                        self._say(record.text)
                    elif isinstance(record, _Refused):
                        raise ConfigError(record.text)
                    else:
                        if isinstance(record, RunFinished | RunStopped | RunFailed):
                            worker.finished.add(record.run_id)
                        yield record
                self._answer()
        finally:
            self.close()

    def close(self) -> None:
        """Stop all workers at once, even if they are busy."""
        for worker in self._workers:
            worker.process.terminate()  # an idle one too: without this, shutting torch down takes most of a second
            worker.connection.close()
        for worker in self._workers:
            worker.process.join()
        self._workers = []

    def _say(self, text: str) -> None:
        """Log what a worker has logged, unless another one has said the same."""
        if text not in self._said:
            self._said.add(text)
            log.warning(text)

    def _start(self) -> _Worker:
        here, there = self._context.Pipe()
        asked_at = self.stopping.epochs if self.stopping else ()
        arguments = (there, self.resident, dict(os.environ), asked_at)
        process = self._context.Process(target=_work, args=arguments, daemon=True)
        with without_main(), shielded() if self._context.get_start_method() == "spawn" else nullcontext():
            process.start()  # with a fork server this waits until torch is loaded; Ctrl-C does no harm then
        there.close()
        return _Worker(process, here)

    def _hand_out(self, waiting: deque[Cohort]) -> None:
        """Give a cohort to every idle worker, then a second one to each worker.

        With a second one a worker goes on while this process is busy with records. It is given only if enough cohorts are left
        for all workers and it takes as long as the first, so that no cohort waits behind a longer one while a worker is idle.
        If runs may be stopped, there is no second one: what a worker receives while it trains is the answer to its question.
        """
        for worker in self._workers:
            if waiting and not worker.cohorts:
                self._give(worker, waiting.popleft())
        for worker in self._workers:
            if self.stopping is not None or len(waiting) < len(self._workers):
                return
            as_long = len(worker.cohorts) == 1 and workload(worker.cohorts[0]) == workload(waiting[0])
            if as_long and waiting[0][0].initial is None:  # weights would fill the pipe before they are read
                self._give(worker, waiting.popleft())

    def _answer(self) -> None:
        """Answer the questions whose answers are known by now."""
        for worker in self._workers:
            if worker.question is None or self.stopping is None:
                continue
            run_ids, epoch = worker.question.run_ids, worker.question.epoch
            answers = {run_id: self.stopping.decide(run_id, epoch, wait=True) for run_id in run_ids}
            if None not in answers.values():
                worker.question = None
                with suppress(OSError):  # the worker has died; the next read from it finds that out
                    worker.connection.send({run_id for run_id, stop in answers.items() if stop})

    def _give(self, worker: _Worker, cohort: Cohort) -> None:
        worker.cohorts.append(cohort)
        with suppress(OSError):  # the worker has died; the next read from it finds that out
            worker.connection.send(cohort)

    def _replace(self, worker: _Worker, waiting: deque[Cohort], attempts: dict[str, int]) -> Iterator[Record]:
        cohort, *untouched = worker.cohorts
        waiting.extendleft(reversed(untouched))
        worker.process.join()
        code = worker.process.exitcode
        worker.connection.close()
        self._workers.remove(worker)
        start_pool_server()  # it may have died, and its workers with it
        with single_threaded():
            self._workers.append(self._start())
        given_up = try_again(cohort, worker.finished, waiting, attempts)
        reason = f"was killed by signal {signal.Signals(-code).name}" if code and code < 0 else f"ended with exit code {code}"
        hint = "; too little memory is the usual cause: try executor.workers=1" if code == -signal.SIGKILL else ""
        for spec in given_up:
            yield RunFailed(spec.run_id, f"its worker process {reason}, {MAX_ATTEMPTS} times in a row{hint}")


def _work(connection: Connection, resident: Resident, environment: dict[str, str], asked_at: Container[int]) -> None:
    """The main loop of a worker process: receive a cohort, send its records, then None, until the connection ends."""
    end_with_parent()  # the server, which ends with the command; else a run would train on until its next record
    os.environ.update(environment)  # the fork server has the environment of when it was started
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it stops the workers

    logging.getLogger("bnexp").addHandler(_Forwarder(connection))

    def stops(run_ids: Sequence[str], epoch: int) -> Collection[str]:
        if epoch not in asked_at:
            return ()
        connection.send(_Question(run_ids, epoch))
        answer: Collection[str] = connection.recv()
        return answer

    try:
        while True:
            for record in train_cohort(connection.recv(), resident, stops):
                connection.send(record)
            connection.send(None)
    except MachineError as error:
        connection.send(_Refused(str(error)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
