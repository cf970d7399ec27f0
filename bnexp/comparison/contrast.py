"""What an analysis starts from and what it asks: runs and records in, paired values out, which one family of tests judges."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from bnexp.comparison.pairing import Cell, Pairs, Results
from bnexp.comparison.result import Test
from bnexp.config.options import Direction
from bnexp.config.schema import StudyConfig
from bnexp.plan.study import value_text

ArmPairs = Sequence[tuple[str, str]]  # (arm, baseline)
History = list[dict[str, float]]  # the lines of ``metrics.jsonl``
T = TypeVar("T")


@dataclass(frozen=True)
class Contrast:
    """One question of a study: an arm against its baseline at a level, in one measure.

    Args:
        arm: the arm.
        baseline: what it is compared with.
        level: the level at which both are compared; empty without factors, or if the measure is over all levels.
        measure: what is compared.
        unit: unit of the differences and of the margin.
        margin: half width of what counts as equivalent; NaN if none is set.
        direction: what the study expects.
        pairs: the paired values.
        reference: the level that an interaction is measured from.
        test: the test that decides. Differences that are all the same have no t test; then the sign-flip test decides.
        p_page: p of Page's test, if that is ``test``.
    """

    arm: str
    baseline: str
    level: str
    measure: str
    unit: str
    margin: float
    direction: Direction
    pairs: Pairs
    reference: str = ""
    test: Test = Test.paired_t
    p_page: float = math.nan


class Records(Protocol):
    """What runs have recorded besides their last metrics, by run id."""

    def history(self, run_id: str) -> History:
        """The lines of ``metrics.jsonl``."""

    def guesses(self, run_id: str) -> NDArray[Any] | None:
        """(N, 2) predicted and true class of each test image, by image id; None without a readable record."""


@dataclass(frozen=True)
class Inputs:
    """What every analysis starts from.

    Args:
        study: the study.
        results: its runs by arm, level and seed.
        pairs: (arm, baseline) of every comparison.
        margin: of the study's metric, in its unit; NaN if none is set.
        chance: accuracy of guessing, a fraction; None if it is not known.
        records: for the analyses that read more than the study's metric.
    """

    study: StudyConfig
    results: Results
    pairs: ArmPairs
    margin: float
    chance: float | None
    records: Records | None

    def history(self, run_id: str) -> History:
        """The lines of ``metrics.jsonl`` of a run."""
        return self.records.history(run_id) if self.records else []

    def guesses(self, run_id: str) -> NDArray[Any] | None:
        """(N, 2) predicted and true class of each test image by a run; None without a readable record."""
        return self.records.guesses(run_id) if self.records else None

    def read(self, parse: Callable[[str], T]) -> dict[Cell, dict[int, T]]:
        """(arm, level) -> seed -> ``parse(run_id)``, for every run that has a value. Each run is read once."""
        cells = [(arm, level) for level in self.results.levels for arm in self.results.arms]
        return {cell: {seed: parse(run_id) for seed, run_id in self.results.run_ids(*cell).items()} for cell in cells}

    def direction(self, level: str) -> Direction:
        """What is expected at a level: by the first of its factor levels that ``study.expect`` names, else by the study."""
        levels: Mapping[str, object] = self.results.factors.get(level, {})
        named = (self.study.expect[text] for value in levels.values() if (text := value_text(value)) in self.study.expect)
        return next(named, self.study.direction)


@dataclass(frozen=True)
class Questions:
    """What an analysis asks.

    Args:
        contrasts: one family of tests.
        notes: sentences on what a reader must know.
        unpaired: sentences on what could not be compared.
    """

    contrasts: list[Contrast]
    notes: list[str] = field(default_factory=list)
    unpaired: list[str] = field(default_factory=list)

    @classmethod
    def joined(cls, parts: Iterable[Questions]) -> Questions:
        """All of the parts, in their order."""
        known = list(parts)
        return cls(
            list(chain.from_iterable(part.contrasts for part in known)),
            list(chain.from_iterable(part.notes for part in known)),
            list(chain.from_iterable(part.unpaired for part in known)),
        )


def is_finite(row: Mapping[str, float], key: str) -> bool:
    """Whether a line of ``metrics.jsonl`` has a finite value of ``key``."""
    return math.isfinite(row.get(key, math.nan))
