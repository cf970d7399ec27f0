"""A sink records what runs yield: the local store, Weights & Biases, the progress display."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from bnexp.metrics import Record
from bnexp.plan.spec import RunSpec


class Sink:
    """Base of all sinks; every method does nothing here.

    The runner calls ``begin`` once with every run that will train, ``record`` for each record in the order in which the
    runs yield them, and ``close`` at the end, also after an error or an interruption.
    """

    def begin(self, specs: Sequence[RunSpec]) -> None:
        """All runs that will train, before the first one starts."""

    def record(self, spec: RunSpec, record: Record) -> None:
        """One record of one run."""

    def close(self) -> None:
        """No more records will come; write what is buffered."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Fanout(Sink):
    """Hands everything on to several sinks, in order; all are closed even when one fails to."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.sinks = list(sinks)

    def begin(self, specs: Sequence[RunSpec]) -> None:
        for sink in self.sinks:
            sink.begin(specs)

    def record(self, spec: RunSpec, record: Record) -> None:
        for sink in self.sinks:
            sink.record(spec, record)

    def close(self) -> None:
        errors = []
        for sink in self.sinks:
            try:
                sink.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]


class BackgroundSink(Sink, ABC):
    """Base of sinks whose destination may be slow: records are handled on threads of the sink, so training never waits.

    All records of one run are handled by one thread, in order; runs are spread over at most ``workers`` threads. A subclass
    overrides :meth:`handle` and, where it must, :meth:`finish`. An error never reaches the caller: it ends the recording of
    its run, and equal errors become one line of ``messages``, to be shown after ``close``.
    """

    def __init__(self, workers: int = 1) -> None:
        self.messages: list[str] = []
        self._workers = workers
        self._lanes: list[tuple[SimpleQueue[tuple[RunSpec, Record] | None], threading.Thread]] = []
        self._lane_of: dict[str, int] = {}
        self._broken: dict[str, str] = {}  # run id -> error

    @abstractmethod
    def handle(self, spec: RunSpec, record: Record) -> None:
        """Take one record to its destination; runs on a thread of the sink."""

    def finish(self) -> None:
        """What is left to do after the last record; runs on the thread that calls ``close``."""

    def record(self, spec: RunSpec, record: Record) -> None:
        lane = self._lane_of.setdefault(spec.run_id, len(self._lane_of) % self._workers)
        if lane == len(self._lanes):
            queue: SimpleQueue[tuple[RunSpec, Record] | None] = SimpleQueue()
            thread = threading.Thread(target=self._drain, args=(queue,), name=f"{type(self).__name__}-{lane}", daemon=True)
            self._lanes.append((queue, thread))
            thread.start()
        self._lanes[lane][0].put((spec, record))

    def close(self) -> None:
        """Wait until every record has been handled; a second call does nothing."""
        lanes, self._lanes = self._lanes, []
        self._lane_of.clear()
        for queue, _ in lanes:
            queue.put(None)
        for _, thread in lanes:
            thread.join()
        if lanes:
            try:
                self.finish()
            except Exception as error:
                self.messages.append(f"{type(self).__name__} did not end well ({type(error).__name__}: {error}).")
        for reason, count in Counter(self._broken.values()).items():
            self.messages.append(f"{type(self).__name__} stopped recording {count} run{'s' * (count > 1)} ({reason}).")
        self._broken.clear()

    def _drain(self, queue: SimpleQueue[tuple[RunSpec, Record] | None]) -> None:
        while (item := queue.get()) is not None:
            spec, record = item
            if spec.run_id in self._broken:
                continue
            try:
                self.handle(spec, record)
            except Exception as error:
                self._broken[spec.run_id] = f"{type(error).__name__}: {error}"
