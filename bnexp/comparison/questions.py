"""When a question was concluded. A *question* is what is read of which runs, whatever their seeds and the rule that judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bnexp.config.validate import MAX_RUNS
from bnexp.tracking.reading import MIB, read_as


@dataclass(frozen=True)
class PastLook:
    """A conclusion of a question.

    Args:
        study_id: of the study that was concluded.
        num_seeds: how many seeds had results.
        verdict: what it said.
        at: when, UTC, ISO 8601.
        seeds: all that were planned; empty, as in the first records: the first ``num_seeds``.
    """

    study_id: str
    num_seeds: int
    verdict: str
    at: str
    seeds: list[int] = field(default_factory=list)

    def is_continued_by(self, seeds: Sequence[int]) -> bool:
        """Whether a test of these seeds is valid after this look: one has the first seeds of the other, or they share none.

        The tests of further looks take the seeds in order. They are valid whatever number of them comes, but not if someone
        chooses among seeds whose results are known.
        """
        ours, others = sorted(self.seeds or range(min(self.num_seeds, MAX_RUNS))), sorted(seeds)
        both = min(len(ours), len(others))
        return ours[:both] == others[:both] or not set(ours) & set(others)


@dataclass(frozen=True)
class Question:
    """``question-<id>.json`` beside the studies of one name: when the question was concluded.

    Args:
        looks: its conclusions, oldest first.
    """

    looks: list[PastLook] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Question:
        """Read the file; empty if it is not there. Raises DamagedRecord if it cannot be used."""
        try:
            return read_as(cls, path, MIB)
        except FileNotFoundError:
            return cls()

    def before(self, study_id: str) -> list[PastLook]:
        """The conclusions before the first one of a study."""
        ids = [past.study_id for past in self.looks]
        return self.looks[: ids.index(study_id)] if study_id in ids else self.looks

    def of(self, study_id: str) -> PastLook | None:
        """The conclusion of a study; None if there is none."""
        return next((past for past in self.looks if past.study_id == study_id), None)

    def concluded(self, study_id: str, num_seeds: int, verdict: str, seeds: Sequence[int]) -> Question:
        """With one more conclusion; that of a study which was concluded before keeps its place.

        One that was concluded with more seeds stays as it is: runs that are gone do not undo that they were looked at.
        """
        before = self.of(study_id)
        if before and before.num_seeds > num_seeds:
            return self
        now = datetime.now(UTC).isoformat(timespec="seconds")
        known = {past.study_id: past for past in self.looks}
        at = before.at if before else now
        return Question(list((known | {study_id: PastLook(study_id, num_seeds, verdict, at, list(seeds))}).values()))
