"""Planned runs and their outcomes -> arrays paired by seed, and sentences about everything that could not be paired."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bnexp.compare.result import Outcome, Status
from bnexp.compare.stats import Array

Cell = tuple[str, str]  # (arm, level)


@dataclass(frozen=True)
class Scale:
    """How a metric is shown: its unit, and the factor from the recorded value to that unit."""

    unit: str
    factor: float

    @classmethod
    def of(cls, metric: str) -> Scale:
        """Accuracies in percentage points, losses in nats, anything else as recorded."""
        if "accuracy" in metric:
            return cls("pp", 100.0)
        return cls("nats" if "loss" in metric else "", 1.0)


@dataclass(frozen=True)
class Pairs:
    """The results of an arm and of its baseline at one level, over the seeds that both have; ``(n,)`` arrays.

    ``both_diverged``: how many of the pairs are of two diverged runs, so that their difference of 0 was never measured.
    """

    seeds: tuple[int, ...]
    arm: Array
    baseline: Array
    both_diverged: int = 0


class Results:
    """The outcomes of a study, arranged by arm, level and seed; values are in the metric's shown unit.

    A diverged run counts at its recorded value; where that is not finite, at chance: accuracy ``chance``, loss
    ``-log(chance)``. ``arms`` and ``levels`` are in order of appearance, ``arms`` first as ``arm_order`` says.
    """

    def __init__(
        self, outcomes: Iterable[Outcome], metric: str, chance: float | None = None, arm_order: Sequence[str] = ()
    ) -> None:
        self.outcomes = list(outcomes)
        self.scale = Scale.of(metric)
        self._chance = _chance_value(self.scale, chance)
        self.arms = list(dict.fromkeys([*arm_order, *(outcome.arm for outcome in self.outcomes)]))
        self.levels = list(dict.fromkeys(outcome.level for outcome in self.outcomes)) or [""]
        self.values: dict[Cell, dict[int, float]] = {}
        self._diverged: dict[Cell, list[int]] = {}
        self._planned: dict[Cell, dict[int, str]] = {}
        self._absent: dict[tuple[Cell, str], list[int]] = {}
        self._repeated: dict[Cell, list[int]] = {}
        for outcome in self.outcomes:
            self._place(outcome)

    def _place(self, outcome: Outcome) -> None:
        cell = (outcome.arm, outcome.level)
        planned = self._planned.setdefault(cell, {})
        if outcome.seed in planned:
            if planned[outcome.seed] != outcome.run_id:
                self._repeated.setdefault(cell, []).append(outcome.seed)
            return
        planned[outcome.seed] = outcome.run_id
        value = self._value(outcome)
        if value is not None:
            self.values.setdefault(cell, {})[outcome.seed] = value
            if outcome.status is Status.diverged:
                self._diverged.setdefault(cell, []).append(outcome.seed)
        else:
            self._absent.setdefault((cell, _why_absent(outcome)), []).append(outcome.seed)

    def _value(self, outcome: Outcome) -> float | None:
        if outcome.status in (Status.failed, Status.missing):
            return None
        if outcome.value is not None and math.isfinite(outcome.value):
            return outcome.value * self.scale.factor
        return self._chance if outcome.status is Status.diverged else None

    def cell(self, arm: str, level: str) -> Array:
        """The values of one arm at one level, in order of seed."""
        values = self.values.get((arm, level), {})
        return np.array([values[seed] for seed in sorted(values)], float)

    def diverged(self, arm: str, level: str) -> list[int]:
        """Seeds of the diverged runs of one arm at one level; they count at chance."""
        return self._diverged.get((arm, level), [])

    def missing(self, arm: str, level: str) -> int:
        """How many planned runs of one arm at one level have no value."""
        return len(self._planned.get((arm, level), ())) - len(self.values.get((arm, level), ()))

    def pair(self, arm: str, baseline: str, level: str) -> Pairs:
        """Both arms' values over the seeds for which both have one, in order of seed."""
        ours, theirs = self.values.get((arm, level), {}), self.values.get((baseline, level), {})
        seeds = tuple(sorted(ours.keys() & theirs.keys()))
        both = set(self.diverged(arm, level)) & set(self.diverged(baseline, level))
        return Pairs(seeds, np.array([ours[s] for s in seeds], float), np.array([theirs[s] for s in seeds], float), len(both))

    def blocks(self) -> Array:
        """``(seeds, arms)`` means over the levels, for the seeds that have a value in every arm at every level."""
        cells = [[self.values.get((arm, level), {}) for level in self.levels] for arm in self.arms]
        seeds = sorted(set.intersection(*(set(values) for row in cells for values in row))) if cells else []
        return np.array([[np.mean([values[seed] for values in row]) for row in cells] for seed in seeds], float)

    def problems(self, contrasts: Iterable[tuple[str, str]]) -> list[str]:
        """A sentence for each group of planned runs without a result, without a partner, or recorded twice."""
        found = [f"{place(*cell)}: {seed_text(seeds)} {why}." for (cell, why), seeds in self._absent.items()]
        for arm, baseline in contrasts:
            for level in self.levels:
                found += self._without_partner(arm, baseline, level) + self._without_partner(baseline, arm, level)
        for cell, seeds in self._repeated.items():
            found.append(
                f"{place(*cell)}: {seed_text(seeds)} recorded more than once; only the first run is used. "
                "Group by what differs between them."
            )
        return list(dict.fromkeys(found))

    def _without_partner(self, arm: str, other: str, level: str) -> list[str]:
        seeds = sorted(self.values.get((arm, level), {}).keys() - self._planned.get((other, level), {}).keys())
        return [f"{place(arm, level)}: {seed_text(seeds)} without a partner in {other}."] if seeds else []


def place(arm: str, level: str) -> str:
    """``after_pool at lr=0.01``, or the arm alone where the study has no factor."""
    return f"{arm} at {level}" if level else arm


def seed_text(seeds: Sequence[int]) -> str:
    """``seed 3`` or ``seeds 3, 4, 5``."""
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(str(seed) for seed in sorted(seeds))


def _why_absent(outcome: Outcome) -> str:
    if outcome.status is Status.failed:
        return "failed"
    if outcome.status is Status.missing:
        return "not run yet"
    return f"{outcome.status} without a finite value of the metric"


def _chance_value(scale: Scale, chance: float | None) -> float | None:
    if chance is None or not scale.unit:
        return None
    return chance * scale.factor if scale.unit == "pp" else -math.log(chance)
