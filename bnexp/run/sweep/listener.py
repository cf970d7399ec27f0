"""Who is told how a sweep goes."""

from __future__ import annotations

from collections.abc import Sequence

from bnexp.comparison.sweep.record import SweepRecord, Trial
from bnexp.comparison.sweep.result import SweepResult
from bnexp.plan.spec import RunSpec


class Listener:
    """Is told how a sweep goes, so that it can show it. Each method does nothing until a subclass overrides it."""

    def planned(self, record: SweepRecord, trials: Sequence[Trial], todo: Sequence[RunSpec]) -> None:
        """These points are next, with what is recorded of them, and the runs in ``todo`` are about to train."""

    def tried(self, record: SweepRecord) -> None:
        """The runs of a round have ended."""

    def confirming(self, trials: Sequence[Trial], seeds: Sequence[int], todo: Sequence[RunSpec]) -> None:
        """The best points are about to train again with fresh seeds."""

    def concluded(self, result: SweepResult) -> None:
        """The sweep is over; the report follows. After Ctrl-C this is what is recorded so far."""

    def told(self, text: str) -> None:
        """A sentence for the user."""
