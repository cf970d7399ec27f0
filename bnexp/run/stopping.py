"""What stops runs early, as the runner and its executors see it. The rules themselves are in ``run/sweep/stopping.py``."""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol

from bnexp.metrics import Record


class Stopping(Protocol):
    """Decides which runs stop early. It sees every record before it is asked about the epoch of that record."""

    @property
    def by(self) -> str:
        """Who stops them: the id of a sweep."""

    @property
    def epochs(self) -> Container[int]:
        """After which epochs it has to be asked. It is sent to other processes."""

    def record(self, record: Record) -> None:
        """Take notice of a record."""

    def decide(self, run_id: str, epoch: int, *, wait: bool) -> bool | None:
        """Whether a run stops after this epoch.

        Args:
            run_id: the run, whose metrics of the epoch have been recorded.
            epoch: one of ``epochs``.
            wait: whether the answer may be None: it depends on a run that trains at the same time and is not so far yet.
        """
