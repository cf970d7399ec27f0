"""What an analysis starts from and what it asks: runs and records in, paired values out, which one family of tests judges."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from bnexp.comparison.pairing import Cell, Groups, Pairs, Results
from bnexp.comparison.result import Test
from bnexp.config.options import Direction
from bnexp.config.schema import ConfigError, StudyConfig

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
        pairs: the paired values, or those of two groups that cannot be paired.
        key: short name of the measure, one of ``Analysis.measures``; empty: the first one.
        direction: what the claim predicts; None if the comparison does not decide the study.
        reference: the level that an interaction is measured from.
        test: the test that decides. Differences that are all the same have no t test; then the sign-flip test decides.
        p_page: p of Page's test, if that is ``test``.
        unresolved: why equivalence cannot be tested, though there is a margin; empty if it can.
        resolved_by: the override with which it could; empty if there is none.
        bound: ``at least`` or ``at most`` if the difference is only a bound of the real one, because some values lie beyond
            what was measured; empty otherwise.
    """

    arm: str
    baseline: str
    level: str
    measure: str
    unit: str
    margin: float
    pairs: Pairs | Groups
    key: str = ""
    direction: Direction | None = None
    reference: str = ""
    test: Test = Test.paired_t
    p_page: float = math.nan
    unresolved: str = ""
    resolved_by: str = ""
    bound: str = ""

    def asked(self) -> dict[str, Any]:
        """What a ``Comparison`` says of the question itself, whatever its values are."""
        names = ("arm", "baseline", "level", "measure", "unit", "margin", "reference", "resolved_by", "bound")
        claimed = {"direction": (self.direction or Direction.different).value, "decides": self.direction is not None}
        return {name: getattr(self, name) for name in names} | claimed


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


def ratio_margin(study: StudyConfig) -> float:
    """The base-2 logarithm of ``study.margin``; NaN if none is set. Raises ConfigError if it is no ratio above 1."""
    if study.margin is None:
        return math.nan
    if study.margin <= 1:
        raise ConfigError(
            f"study.margin={study.margin:g} is no ratio: study.analysis={study.analysis} compares by ratios here, for which "
            "numbers above 1 are allowed; study.margin=1.25 calls a quarter more too little to matter."
        )
    return math.log2(study.margin)


def is_finite(row: Mapping[str, float], key: str) -> bool:
    """Whether a line of ``metrics.jsonl`` has a finite value of ``key``."""
    return math.isfinite(row.get(key, math.nan))
