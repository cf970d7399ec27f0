"""A sink records what runs yield: the local store, Weights & Biases, the progress display."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from bnexp.metrics import Record
from bnexp.plan.spec import RunSpec


class Sink:
    """Base of all sinks; every method does nothing here.

    The runner calls ``begin`` once, then ``record`` for each record in the order in which the runs yield them, and ``close``
    at the end, also after an error or an interruption. A new sink overrides what it needs, and ``run/runner.py`` adds it to
    the others.
    """

    def begin(self, specs: Sequence[RunSpec]) -> None:
        """Called before the first run starts, with all runs that will train."""

    def record(self, spec: RunSpec, record: Record) -> None:
        """Take one record of one run."""

    def close(self) -> None:
        """Write what is buffered; no more records will come."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Fanout(Sink):
    """Hands everything on to several sinks, in order. All are closed, even if closing one raises an error."""

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
