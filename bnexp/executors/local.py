"""Executors on this machine: in this process, or a pool of single-threaded worker processes.

An executor turns cohorts into a stream of records. On a CPU two processes beat two OpenMP threads on nets this small, so
there the pool trains one cohort a process with one thread each; a GPU is driven from this process.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from bnexp.metrics import Record, RunFailed, RunFinished
from bnexp.plan import RunSpec

if TYPE_CHECKING:
    from bnexp.data.resident import Resident

log = logging.getLogger(__name__)

Cohort = tuple[RunSpec, ...]
MAX_ATTEMPTS = 2  # of a cohort whose worker process died


def num_cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def train_cohort(cohort: Cohort, resident: Resident) -> Iterator[Record]:
    """The records of one cohort, trained here; an error becomes a RunFailed of every run that is not finished."""
    open_runs = {spec.run_id for spec in cohort}
    try:
        import torch

        from bnexp.data.batches import DeviceData
        from bnexp.train.engine import fit
        from bnexp.train.precision import compute_dtype, resolve_device

        train = cohort[0].config.train
        device = resolve_device(train)
        if device.type == "cpu":
            torch.set_num_threads(1)
        data = DeviceData(resident, device, compute_dtype(train.precision), cohort[0].config.data.augment)
        for record in fit(cohort, data):
            if isinstance(record, RunFinished):
                open_runs.discard(record.run_id)
            yield record
    except Exception as error:
        text = str(error) or type(error).__name__
        for run_id in sorted(open_runs):
            yield RunFailed(run_id, text, traceback.format_exc())


def run_inline(cohorts: Sequence[Cohort], resident: Resident) -> Iterator[Record]:
    """Train the cohorts one after another in this process."""
    for cohort in cohorts:
        yield from train_cohort(cohort, resident)


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
    cohort: Cohort | None = None
    finished: set[str] = field(default_factory=set)


class Pool:
    """Single-threaded worker processes that each train one cohort at a time.

    The images reach them through the page cache (memory-mapped files), so they are in memory once. A worker that dies is
    replaced and its cohort tried again; a cohort that kills two workers is recorded as failed and the others go on.
    """

    def __init__(self, resident: Resident, num_workers: int) -> None:
        self.resident = resident
        self.num_workers = num_workers
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []

    def run(self, cohorts: Sequence[Cohort]) -> Iterator[Record]:
        """Records of all cohorts as they come, those of one run in order."""
        waiting = deque(cohorts)
        attempts: dict[str, int] = {}
        try:
            with single_threaded():
                self._workers = [self._start() for _ in range(min(self.num_workers, len(waiting)))]
            while waiting or any(worker.cohort for worker in self._workers):
                self._hand_out(waiting)
                busy = {worker.connection: worker for worker in self._workers if worker.cohort}
                for ready in wait(list(busy)):
                    worker = busy[ready]  # type: ignore[index]
                    try:
                        record = worker.connection.recv()
                    except (EOFError, OSError):
                        yield from self._replace(worker, waiting, attempts)
                        continue
                    if record is None:
                        worker.cohort = None
                    else:
                        if isinstance(record, RunFinished | RunFailed):
                            worker.finished.add(record.run_id)
                        yield record
        finally:
            self.close()

    def close(self) -> None:
        """Stop all workers, at once when they are busy."""
        for worker in self._workers:
            if worker.cohort:
                worker.process.terminate()
            worker.connection.close()  # an idle worker ends when its connection does
        for worker in self._workers:
            worker.process.join()
        self._workers = []

    def _start(self) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_work, args=(there, self.resident), daemon=True)
        process.start()
        there.close()
        return _Worker(process, here)

    def _hand_out(self, waiting: deque[Cohort]) -> None:
        for worker in self._workers:
            if worker.cohort is None and waiting:
                worker.cohort = waiting.popleft()
                worker.finished = set()
                try:
                    worker.connection.send(worker.cohort)
                except OSError:
                    continue  # it died meanwhile: reading from it says so

    def _replace(self, worker: _Worker, waiting: deque[Cohort], attempts: dict[str, int]) -> Iterator[Record]:
        cohort = worker.cohort
        assert cohort is not None
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


def _work(connection: Connection, resident: Resident) -> None:
    """The life of a worker process: take a cohort, send its records, say None, until the connection ends."""
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
