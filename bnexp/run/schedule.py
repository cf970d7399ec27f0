"""Spends the time of ``bnexp study --all --time 8h`` where it settles most.

First each study gets the six seeds that a verdict needs. Then that study gets further seeds which is expected to be settled
soonest, by the effects and times measured so far. Studies that are settled, or that even the largest number of seeds would
leave open, get none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bnexp.comparison.looks import Look, look_at
from bnexp.comparison.prospects import is_open, settled_at
from bnexp.comparison.record import StudyRecord
from bnexp.comparison.result import StudyResult
from bnexp.run.seeds import next_number, why_stop


@dataclass
class Candidate:
    """A study that may get further seeds.

    Args:
        name: its name.
        record: its record with the seeds so far.
        result: what they show.
        seconds_per_seed: how long a further seed is expected to take.
    """

    name: str
    record: StudyRecord
    result: StudyResult
    seconds_per_seed: float

    @property
    def num_seeds(self) -> int:
        return len({run.seed for run in self.record.runs})

    @property
    def most(self) -> int:
        return self.record.study.max_seeds or self.num_seeds

    @property
    def look(self) -> Look:
        """How its results were looked at."""
        return look_at(self.record.earlier, self.most, unfinished=False)

    @property
    def goes_on(self) -> bool:
        """Whether further seeds could settle it."""
        return not why_stop(self.result, self.look, self.num_seeds, self.most)

    @property
    def next_number(self) -> int:
        """The number of seeds that it would have next."""
        return next_number(self.num_seeds, self.most, 1)

    @property
    def expected_seconds(self) -> float:
        """How long it is expected to take until all of its deciding comparisons are settled, or as many as can be."""
        look, deciding = self.look, self.result.deciding
        needed = [settled_at(c, look, len(deciding)) or self.most for c in deciding if is_open(c)]
        further = max(1, min(self.most, max(needed, default=0)) - self.num_seeds)
        return further * self.seconds_per_seed


def next_candidate(candidates: Sequence[Candidate], seconds_left: float) -> Candidate | None:
    """The study that is expected to be settled soonest, of those whose next step fits into the time; None if there is none."""
    fitting = [c for c in candidates if c.goes_on and (c.next_number - c.num_seeds) * c.seconds_per_seed <= seconds_left]
    return min(fitting, key=lambda c: c.expected_seconds, default=None)
