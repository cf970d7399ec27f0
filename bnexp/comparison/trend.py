"""Whether the difference between two arms rises or falls over the ordered levels of one factor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bnexp.comparison import stats
from bnexp.comparison.contrast import Contrast, Inputs, Questions
from bnexp.comparison.factorial import Courses, Factorial, gain, lost_seeds, means_note
from bnexp.comparison.pairing import Pairs, Results, factor_names, seed_text
from bnexp.comparison.result import Comparison, Test
from bnexp.comparison.stats import Array
from bnexp.comparison.text import difference, interval, margin, quantity
from bnexp.comparison.words import factor_name, measure_name
from bnexp.config.schema import ConfigError

MIN_LEVELS = 3  # of Page's test
TREND, OVER = "trend", " over "


class Trend(Factorial):
    """``analysis: trend``: one contrast per pair of arms, the slope of arm - baseline, judged by Page's test (1963).

    The effect is the mean over seeds of the least-squares slope. Its p is that of ``stats.page_trend`` in the direction of that
    mean. The margin is spread over the whole range of levels.
    """

    def ask(self, asked: Inputs) -> Questions:
        axis = Axis.of(asked.results)
        return Questions.joined(self._over(asked, axis, arm, baseline) for arm, baseline in asked.pairs)

    def _over(self, asked: Inputs, axis: Axis, arm: str, baseline: str) -> Questions:
        results = asked.results
        found = Courses.of(results, arm, baseline, axis.levels)
        slopes = stats.slopes(axis.x, found.differences)
        measured = len(found.seeds) > found.num_lost
        contrast = Contrast(
            arm=arm,
            baseline=baseline,
            level="",
            measure=f"{TREND if results.scale.unit == 'pp' else results.measure}{OVER}{factor_name(axis.factor)}",
            unit=f"{results.scale.unit}/{axis.step}",
            margin=asked.margin / float(axis.x[-1] - axis.x[0]),
            pairs=Pairs(found.seeds, slopes, np.zeros_like(slopes), found.num_lost),
            test=Test.page,
            p_page=stats.page_trend(found.differences, rising=bool(slopes.mean() > 0)) if measured else math.nan,
        )
        means = list(zip(axis.levels, map(float, found.differences.mean(0)), strict=True)) if found.seeds else []
        notes = _notes(arm, baseline, means, results.scale.unit) if means else []
        unpaired = lost_seeds(results, arm, baseline)
        if found.incomplete:
            seeds = seed_text(found.incomplete)
            unpaired.append(f"{arm} against {baseline}: {seeds} without a pair at every level; not compared.")
        return Questions([contrast], notes, unpaired)

    def equivalent(self, c: Comparison) -> str:
        return f"{_gain(c)} neither grows nor falls over the {_factor(c)}, within {margin(c)} ({difference(c)})"

    def different(self, c: Comparison) -> str:
        unit, _, step = c.unit.rpartition("/")
        low, high = sorted((c.low, c.high)) if c.difference > 0 else sorted((-c.low, -c.high))
        by = f"{quantity(abs(c.difference), unit)} {interval(low, high, unit)}".rstrip()
        verb = "grows" if c.difference > 0 else "falls"
        each = f"with each doubling of the {_factor(c)}" if step == "doubling" else f"from each {_factor(c)} to the next"
        return f"{_gain(c)} {verb} by {by} {each}"


def _factor(c: Comparison) -> str:
    return c.measure.rpartition(OVER)[2]


def _gain(c: Comparison) -> str:
    """What is compared, with the name of the metric if it is no accuracy."""
    metric = c.measure.rpartition(OVER)[0]
    return gain(c) if metric == TREND else f"{gain(c)} in the {measure_name(metric)}"


@dataclass(frozen=True)
class Axis:
    """The ordered levels of the one factor.

    Args:
        factor: its key.
        levels: the texts of its levels, in order.
        x: (L,) their places, which slopes refer to.
        step: what 1 of ``x`` is: a doubling if all levels are positive numbers, else a step from one level to the next.
    """

    factor: str
    levels: list[str]
    x: Array
    step: str

    @classmethod
    def of(cls, results: Results) -> Axis:
        """Numbers are ordered by size, other levels as the study lists them.

        Raises:
            ConfigError: there is not exactly one factor, or it has fewer than three levels.
        """
        names, count = factor_names(results), len(results.levels)
        if len(names) != 1 or count < MIN_LEVELS:
            found = f"{' and '.join(names) or 'no factor'} with {count} level{'s' * (count != 1)}"
            raise ConfigError(f"study.analysis=trend needs one factor in study.factors with three or more levels, not {found}.")
        steps = np.arange(count, dtype=float)
        try:
            values = {level: float(results.factors[level][names[0]]) for level in results.levels}
        except (TypeError, ValueError):
            return cls(names[0], results.levels, steps, "step")
        levels = sorted(values, key=lambda level: values[level])
        if min(values.values()) > 0:
            return cls(names[0], levels, np.log2([values[level] for level in levels]), "doubling")
        return cls(names[0], levels, steps, "step")


def _notes(arm: str, baseline: str, means: Sequence[tuple[str, float]], unit: str) -> list[str]:
    """The mean difference at each level, and between which levels it changes its sign."""
    known = [(level, np.sign(mean)) for level, mean in means if mean != 0]
    crossings = [f"{one} and {other}" for (one, before), (other, after) in pairwise(known) if before != after]
    found = [f"{arm} minus {baseline} changes its sign between {crossing}." for crossing in crossings]
    return [means_note(arm, baseline, means, unit), *found]
