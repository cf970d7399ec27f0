"""A sink records what runs yield: the local store, Weights & Biases, the progress display."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from bnexp.metrics import Record
from bnexp.plan import RunSpec


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
