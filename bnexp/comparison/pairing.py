"""From outcomes to arrays paired by seed, and sentences about everything that could not be paired."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from bnexp.comparison.result import Outcome, Status
from bnexp.comparison.stats import Array, Interval, mean_interval
from bnexp.comparison.text import level_unit
from bnexp.config.keys import is_accuracy, metric_unit
from bnexp.config.schema import ConfigError

Cell = tuple[str, str]  # (arm, level)
CELLS = "arms and levels"  # what cells are called if some of them are not named
MOST_NAMED = 10  # seeds, or rows of seeds, that a sentence names one by one


@dataclass(frozen=True)
class Scale:
    """How a metric is shown.

    Args:
        unit: its unit; empty if it is shown as recorded.
        factor: from the recorded value to that unit.
    """

    unit: str
    factor: float

    @classmethod
    def of(cls, metric: str) -> Scale:
        """Accuracies are shown in per cent, their differences in pp, losses in nats, everything else as recorded."""
        return cls.in_unit(metric_unit(metric))

    @classmethod
    def in_unit(cls, unit: str) -> Scale:
        """The scale of a metric with this unit."""
        return cls(unit, 100.0 if unit == "pp" else 1.0)


@dataclass(frozen=True)
class Pairs:
    """The results of an arm and of its baseline, over the seeds that both have.

    Args:
        seeds: the n seeds.
        arm: (n,) values of the arm.
        baseline: (n,) values of the baseline.
        both_untrained: number of pairs in which neither run trained. Their difference says nothing about the arms.
    """

    seeds: tuple[int, ...]
    arm: Array
    baseline: Array
    both_untrained: int

    @classmethod
    def of(cls, values: Mapping[int, tuple[float, float]], both_untrained: int = 0) -> Pairs:
        """From ``values``: seed -> (arm, baseline)."""
        seeds = tuple(sorted(values))
        arm, baseline = np.array([values[seed] for seed in seeds], float).reshape(len(seeds), 2).T
        return cls(seeds, arm, baseline, both_untrained)


@dataclass(frozen=True)
class Groups:
    """The results of an arm and of its baseline that cannot be paired by seed.

    Args:
        arm: (n1,) values of the arm.
        baseline: (n2,) values of the baseline.
        both_untrained: number of pairs that could be made of runs that did not train.
        why: why they are not paired, as a clause.
        num_seeds: number of different seeds in the group that has fewer.
    """

    arm: Array
    baseline: Array
    both_untrained: int
    why: str
    num_seeds: int


class Results:
    """The outcomes of a study, arranged by arm, level and seed. Values are in the unit in which the metric is shown.

    A stuck run counts at its recorded value, and so does a diverged one. If that of a diverged run is not finite,
    it counts at chance: accuracy ``chance``, loss ``-log(chance)``.

    A run without a seed of its own is kept under a number below 0 that no other run has, so that it has no partner.

    Args:
        outcomes: what came of each planned run.
        metric: the study's metric.
        chance: accuracy of guessing, a fraction; None if it is not known.
        arm_order: arms that come first, in their order; the others follow in order of appearance.
        metrics: arm -> metric, for arms that have one of their own.
        scale: how the metric is shown; None for that of our own metrics.

    Attributes:
        arms: all arms.
        levels: all levels, in order of appearance; one empty text without factors.
        factors: level -> its factor levels by key.
        measure: what the values are: the metric, or what the arms' metrics have in common.
        chance: what a network that guesses would have; None if that is not known.

    Raises:
        ConfigError: the metrics have different units.
    """

    def __init__(
        self,
        outcomes: Iterable[Outcome],
        metric: str,
        chance: float | None = None,
        arm_order: Sequence[str] = (),
        *,
        metrics: Mapping[str, str],
        scale: Scale | None = None,
    ) -> None:
        self.outcomes = list(outcomes)
        self.arms = list(dict.fromkeys([*arm_order, *(outcome.arm for outcome in self.outcomes)]))
        own = list(dict.fromkeys(metrics.get(arm, metric) for arm in self.arms)) or [metric]
        self.scale = scale or _shared_scale(own)
        self.measure = own[0] if len(own) == 1 else _COMMON_NAMES.get(self.scale.unit, "value")
        self.chance = _chance_value(own[0], self.scale, chance)
        self.factors: dict[str, dict[str, Any]] = {outcome.level: outcome.levels for outcome in self.outcomes}
        self.levels = list(self.factors) or [""]
        self.values: dict[Cell, dict[int, float]] = {}
        self._diverged: dict[Cell, list[int]] = {}
        self._stuck: dict[Cell, list[int]] = {}
        self._planned: dict[Cell, dict[int, str]] = {}
        self._absent: dict[tuple[Cell, str], list[int]] = {}
        self._repeated: dict[Cell, list[int]] = {}
        self._num_placed = 0
        for outcome in self.outcomes:
            self._place(outcome)

    def _place(self, outcome: Outcome) -> None:
        cell = (outcome.arm, outcome.level)
        planned = self._planned.setdefault(cell, {})
        self._num_placed += 1
        seed = -self._num_placed if outcome.seed is None else outcome.seed
        if seed in planned:
            if planned[seed] != outcome.run_id:
                self._repeated.setdefault(cell, []).append(seed)
            return
        planned[seed] = outcome.run_id
        value = self._value(outcome)
        if value is not None:
            self.values.setdefault(cell, {})[seed] = value
            if outcome.status is Status.diverged:
                self._diverged.setdefault(cell, []).append(seed)
            elif outcome.stuck:
                self._stuck.setdefault(cell, []).append(seed)
        else:
            self._absent.setdefault((cell, _why_absent(outcome)), []).append(seed)

    def _value(self, outcome: Outcome) -> float | None:
        if outcome.status not in (Status.finished, Status.diverged):
            return None
        if outcome.value is not None and math.isfinite(outcome.value):
            return outcome.value * self.scale.factor
        return self.chance if outcome.status is Status.diverged else None

    def cell(self, arm: str, level: str) -> Array:
        """The values of one arm at one level, in order of seed."""
        values = self.values.get((arm, level), {})
        return np.array([values[seed] for seed in sorted(values)], float)

    def interval(self, arm: str, level: str) -> Interval:
        """Mean and Student's 95 % interval of one arm at one level. That of an accuracy ends at 0 and 100 %."""
        mean = mean_interval(self.cell(arm, level))
        if level_unit(self.measure, self.scale.unit) != "%":
            return mean
        low, high = np.clip([mean.low, mean.high], 0.0, 100.0)
        return Interval(mean.estimate, float(low), float(high))

    def diverged(self, arm: str, level: str) -> list[int]:
        """Seeds of the diverged runs of one arm at one level."""
        return self._diverged.get((arm, level), [])

    def at_chance(self, arm: str, level: str) -> list[int]:
        """Seeds of the diverged runs of one arm at one level that count at chance; others count at their recorded value."""
        values = self.values.get((arm, level), {})
        return [] if self.chance is None else [s for s in self.diverged(arm, level) if math.isclose(values[s], self.chance)]

    def stuck(self, arm: str, level: str) -> list[int]:
        """Seeds of the stuck runs of one arm at one level; they keep their measured values."""
        return self._stuck.get((arm, level), [])

    def untrained(self, arm: str, level: str) -> list[int]:
        """Seeds of the runs of one arm at one level that diverged or are stuck."""
        return sorted(self.diverged(arm, level) + self.stuck(arm, level))

    def both_untrained(self, arm: str, baseline: str, level: str) -> set[int]:
        """Seeds of which neither run trained: their difference says nothing about the arms."""
        return set(self.untrained(arm, level)) & set(self.untrained(baseline, level))

    def was_planned(self, arm: str, level: str) -> bool:
        """Whether there is any run of an arm at a level, with or without a value."""
        return (arm, level) in self._planned

    def run_ids(self, arm: str, level: str) -> dict[int, str]:
        """Seed -> run id of the runs of one arm at one level that have a value."""
        planned = self._planned.get((arm, level), {})
        return {seed: planned[seed] for seed in sorted(self.values.get((arm, level), {}))}

    def missing(self, arm: str, level: str) -> int:
        """How many planned runs of one arm at one level have no value."""
        return len(self._planned.get((arm, level), ())) - len(self.values.get((arm, level), ()))

    def pair(self, arm: str, baseline: str, level: str) -> Pairs:
        """Both arms' values over the seeds for which both have one, in order of seed."""
        ours, theirs = self.values.get((arm, level), {}), self.values.get((baseline, level), {})
        both = {seed: (ours[seed], theirs[seed]) for seed in ours.keys() & theirs.keys()}
        return Pairs.of(both, len(self.both_untrained(arm, baseline, level)))

    def blocks(self) -> Array:
        """(seeds, arms) means over the levels, for the seeds that have a value in every arm at every level."""
        cells = [[self.values.get((arm, level), {}) for level in self.levels] for arm in self.arms]
        seeds = sorted(set.intersection(*(set(values) for row in cells for values in row)))
        return np.array([[np.mean([values[seed] for values in row]) for row in cells] for seed in seeds], float)

    def problems(self, contrasts: Iterable[tuple[str, str, str]]) -> list[str]:
        """One sentence per group of planned runs without a result, without a partner, or recorded twice.

        Args:
            contrasts: (arm, baseline, level) of what is compared over paired seeds.
        """
        found = [f"{place(*cell)}: {seed_text(seeds)} {why}." for (cell, why), seeds in self._absent.items()]
        for arm, baseline, level in contrasts:
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


def factor_names(results: Results) -> list[str]:
    """The keys of the study's factors, in order of appearance."""
    return list(dict.fromkeys(key for levels in results.factors.values() for key in levels))


def place(arm: str, level: str) -> str:
    """``after_pool at lr=0.01``, or the arm alone if the study has no factor."""
    return f"{arm} at {level}" if level else arm


def listed(names: Sequence[str], what: str, num_all: int = 0) -> str:
    """``a``, ``a and b``, ``a, b and c``; of more than three the first two and the number of the others.

    Args:
        names: at least one.
        what: what they name, in the plural; said if some are not named.
        num_all: of how many they are; said then, too. 0: not known.
    """
    if len(names) > 3:
        of = f" of {num_all}" if num_all else ""
        return f"{len(names)}{of} {what} ({names[0]}, {names[1]} and others)"
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def seed_text(seeds: Sequence[int]) -> str:
    """``seed 3`` or ``seeds 3, 4, 5``; ``2 runs`` of runs without seeds, see ``Results``.

    Of more than ``MOST_NAMED``, those in a row are ``seeds 3 to 99``; what is still too much then is counted: ``and 7 more``.
    """
    if min(seeds) < 0:
        return f"{len(seeds)} run{'' if len(seeds) == 1 else 's'}"
    if len(seeds) <= MOST_NAMED:
        return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(str(seed) for seed in sorted(seeds))
    rows = [[seed for _, seed in row] for _, row in groupby(enumerate(sorted(set(seeds))), key=lambda item: item[1] - item[0])]
    named = ", ".join(f"{row[0]} to {row[-1]}" if len(row) > 1 else str(row[0]) for row in rows[:MOST_NAMED])
    more = sum(map(len, rows[MOST_NAMED:]))
    return f"seeds {named}{f' and {more} more' if more else ''}"


def _why_absent(outcome: Outcome) -> str:
    if outcome.status is Status.failed:
        return "failed"
    if outcome.status is Status.missing:
        return "not run yet"
    if outcome.status is Status.damaged:
        return "with a damaged record"
    return f"{outcome.status} without a finite value of the metric"


_COMMON_NAMES = {"pp": "accuracy", "nats": "loss"}


def _shared_scale(metrics: Sequence[str]) -> Scale:
    """The scale of metrics that are compared with each other."""
    if len({metric_unit(metric) for metric in metrics}) > 1:
        named = ", ".join(f"{metric} ({metric_unit(metric) or 'as recorded'})" for metric in metrics)
        raise ConfigError(f"study.metrics compares metrics of different units: {named}; choose metrics of one unit.")
    return Scale.of(metrics[0])


def _chance_value(metric: str, scale: Scale, chance: float | None) -> float | None:
    """What a network that guesses would have; None if that is not known, as for what probes measure."""
    if chance is None or not scale.unit or metric.split("/")[0] not in ("train", "val", "test", "statistics"):
        return None
    if scale.unit == "pp":  # a network that guesses has no calibration error of its own: it depends on what it is confident of
        return chance * scale.factor if is_accuracy(metric) else None
    return -math.log(chance)
