"""What an analysis asks: from outcomes and records to contrasts, paired values that one family of tests judges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from numpy.typing import NDArray

from bnexp.compare.pairing import Pairs, Results
from bnexp.compare.select import value_text
from bnexp.config.options import Direction
from bnexp.config.schema import StudyConfig

ArmPairs = Sequence[tuple[str, str]]  # (arm, baseline)


class Test(StrEnum):
    """The test that a verdict rests on. Without a t test (differences that are all the same) the sign-flip test decides."""

    __test__ = False  # no test case of pytest's

    paired_t = "paired t"
    sign_flip = "sign flip"
    page = "Page"


@dataclass(frozen=True)
class Contrast:
    """One question of a study: an arm against its baseline at a level, in one measure.

    ``reference``: the level that an interaction is measured from. ``p_page``: p of Page's test where ``test`` is that one.
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
    """What runs have recorded beside their last metrics, by run id."""

    def history(self, run_id: str) -> list[dict[str, float]]:
        """The lines of ``metrics.jsonl``."""

    def guesses(self, run_id: str) -> NDArray[Any] | None:
        """(N, 2) predicted and true class of each test image, by image id; None where there is no readable record."""


@dataclass(frozen=True)
class Inputs:
    """What every analysis starts from.

    ``margin``: of the study's metric, NaN where none is set; ``chance``: a fraction; ``records``: only for the analyses that
    read more than the study's metric.
    """

    study: StudyConfig
    results: Results
    pairs: ArmPairs
    margin: float
    chance: float | None
    records: Records | None

    def history(self, run_id: str) -> list[dict[str, float]]:
        """The lines of ``metrics.jsonl`` of a run."""
        return self.records.history(run_id) if self.records else []

    def guesses(self, run_id: str) -> NDArray[Any] | None:
        """(N, 2) predicted and true class of each test image by a run; None where there is no readable record."""
        return self.records.guesses(run_id) if self.records else None

    def direction(self, level: str) -> Direction:
        """What is expected at a level: by the first of its factor levels that ``study.expect`` names, else by the study."""
        levels: Mapping[str, object] = self.results.factors.get(level, {})
        named = (self.study.expect[text] for value in levels.values() if (text := value_text(value)) in self.study.expect)
        return next(named, self.study.direction)


@dataclass(frozen=True)
class Questions:
    """The contrasts of an analysis, one family; what to know of them; and what could not be compared."""

    contrasts: list[Contrast]
    notes: list[str] = field(default_factory=list)
    unpaired: list[str] = field(default_factory=list)


def at_levels(asked: Inputs) -> Questions:
    """``analysis: levels``: the study's metric at each factor level on its own."""
    results = asked.results
    return Questions(
        [
            Contrast(
                arm=arm,
                baseline=baseline,
                level=level,
                measure=results.measure,
                unit=results.scale.unit,
                margin=asked.margin,
                direction=asked.direction(level),
                pairs=results.pair(arm, baseline, level),
            )
            for level in results.levels
            for arm, baseline in asked.pairs
        ]
    )
