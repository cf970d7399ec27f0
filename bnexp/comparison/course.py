"""How much an arm depends on one numeric factor: three measures of a run's course over the factor's levels.

A course is the accuracy of one arm at one seed over all levels. ``x`` are their base-2 logarithms: one octave is a factor
of 2. The measures compare arms without asking at which level to compare them.

``area``            mean accuracy over the logarithmic range, pp: trapezoids over ``x``, divided by the range
``width``           octaves around the best level over which accuracy, interpolated linearly in ``x``, stays within 1 pp
                    of the course's own best; it ends at the grid's ends
``largest_stable``  ``x`` of the largest level that trains: that ends above the middle between chance and the best accuracy
                    of the whole study, and neither diverged nor is stuck. If none trains, one step below the smallest

The largest stable level is known to within the step to the next level, at which that run does not train. ``study.refine``
adds levels there until the step is small (``refined``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnexp.comparison.pairing import Pairs, Results, seed_text
from bnexp.comparison.stats import Array
from bnexp.comparison.text import OCTAVES, factor
from bnexp.comparison.words import factor_name
from bnexp.config.schema import ConfigError, RefineConfig

WITHIN = 1.0  # pp below the best that still count as its neighbourhood
OCTAVE_MARGIN = 1.0  # a factor of 2 is the smallest change of a level worth acting on


def area(x: Array, y: Array) -> float:
    """Mean accuracy over the range of levels, by trapezoids.

    Args:
        x: (L,) places of the levels, increasing.
        y: (L,) accuracy at each, in pp.
    """
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / (x[-1] - x[0]))


def width(x: Array, y: Array, within: float = WITHIN) -> float:
    """Length of the stretch around the best level over which accuracy stays near its best.

    Args:
        x: (L,) places of the levels, increasing.
        y: (L,) accuracy at each, in pp; between levels it is interpolated linearly.
        within: how much lower still counts as near, in pp.
    """
    best, floor = int(np.argmax(y)), float(np.max(y)) - within
    return _reach(x[best:], y[best:], floor) + _reach(-x[best::-1], y[best::-1], floor)


def _reach(x: Array, y: Array, floor: float) -> float:
    """How far ``x`` goes from its first element until ``y`` falls below ``floor``."""
    below = np.flatnonzero(y < floor)
    if not below.size:
        return float(x[-1] - x[0])
    i = int(below[0])
    part = (y[i - 1] - floor) / (y[i - 1] - y[i])
    return float(x[i - 1] + part * (x[i] - x[i - 1]) - x[0])


def largest_stable(x: Array, trains: NDArray[np.bool_]) -> float:
    """The place of the largest level that trains; one step below the smallest if none does.

    Args:
        x: (L,) places of the levels, increasing.
        trains: (L,) whether each trains.
    """
    return float(x[trains].max()) if trains.any() else float(2 * x[0] - x[1])


@dataclass(frozen=True)
class Measure:
    """One measure of a course.

    Args:
        key: its short name.
        name: what it is.
        unit: its unit.
        margin: the difference in it that is of practical interest.
    """

    key: str
    name: str
    unit: str
    margin: float


class Courses:
    """The measures of every arm and seed of a study over its one numeric factor.

    A seed that lacks a level in an arm has no measures there; ``incomplete`` says so.

    Args:
        results: the runs of the study.
        accuracy_margin: that of an accuracy, in pp.
        chance: accuracy of guessing, a fraction; None if it is not known.
        refine: how levels are added; for the advice on finer ones.

    Attributes:
        factor: the key of the factor.
        name: what it is called in sentences.
        levels: the texts of its levels, in order of size.
        numbers: the levels themselves.
        x: their base-2 logarithms.
        measures: the three measures.
        values: arm -> seed -> the three measures.

    Raises:
        ConfigError: the metric is no accuracy, or there is not exactly one factor of two or more positive numbers.
    """

    def __init__(self, results: Results, accuracy_margin: float, chance: float | None, refine: RefineConfig) -> None:
        if results.scale.unit != "pp":
            raise ConfigError("study.analysis=sensitivity needs an accuracy as study.metric; set study.metric=test/accuracy.")
        self.results, self._refine = results, refine
        self.factor, numbers = _numeric_factor(results)
        self.name = factor_name(self.factor)
        self.levels = sorted(numbers, key=lambda level: numbers[level])
        self.numbers = [numbers[level] for level in self.levels]
        self.x = np.log2(self.numbers)
        self.measures = (
            Measure("largest_stable", f"the largest {self.name} at which an arm trains", OCTAVES, OCTAVE_MARGIN),
            Measure(
                "area",
                f"mean accuracy over {self.name} from {2 ** self.x[0]:g} to {2 ** self.x[-1]:g}",
                "pp",
                accuracy_margin,
            ),
            Measure(
                "width", f"the range of the {self.name} within {WITHIN:g} pp of the best of an arm", OCTAVES, OCTAVE_MARGIN
            ),
        )
        floor = 100 * (chance or 0.0)
        best = max((value for values in results.values.values() for value in values.values()), default=floor)
        threshold = (floor + best) / 2
        self._courses = {arm: {seed: self._course(arm, seed) for seed in self._complete(arm)} for arm in results.arms}
        self._trains = {
            arm: {seed: (y > threshold) & ~self._lost(arm, seed) for seed, y in courses.items()}
            for arm, courses in self._courses.items()
        }
        self.values = {arm: {seed: self._measure(arm, seed) for seed in courses} for arm, courses in self._courses.items()}

    def pair(self, arm: str, baseline: str, index: int) -> Pairs:
        """One measure of both arms, over the seeds whose courses are complete in both.

        A pair counts as ``both_untrained`` if neither arm trained at any level.

        Args:
            arm: the arm.
            baseline: what it is compared with.
            index: of the measure, in ``measures``.
        """
        ours, theirs = self.values[arm], self.values[baseline]
        both = {seed: (ours[seed][index], theirs[seed][index]) for seed in ours.keys() & theirs.keys()}
        lost = [seed for seed in both if not self._trains[arm][seed].any() and not self._trains[baseline][seed].any()]
        return Pairs.of(both, len(lost))

    def unresolved(self, arm: str, baseline: str, measure: Measure) -> str:
        """Why equivalence in a measure cannot be tested on this grid; empty if it can."""
        if measure.unit != OCTAVES:
            return ""
        seeds = sorted(self.values[arm].keys() & self.values[baseline].keys())
        if (step := self._step(arm, baseline, seeds, measure)) > measure.margin + 1e-9:
            return f"levels a factor of {factor(step)} apart do not resolve a factor of {factor(measure.margin)}"
        open_ended = [seed for seed in seeds if any(self._at_end(name, seed, measure) for name in (arm, baseline))]
        if not open_ended:
            return ""
        return f"in {len(open_ended)} of {len(seeds)} seeds it may lie beyond the levels of the {self.name}"

    def _step(self, arm: str, baseline: str, seeds: Sequence[int], measure: Measure) -> float:
        """The widest step between levels, octaves, that a measure of both arms rests on; 0 if it rests on none."""
        steps = np.diff(self.x)
        if measure.key != "largest_stable":
            return float(steps.max())
        places = {self.boundaries(name)[seed] for name in (arm, baseline) for seed in seeds}
        return max((float(steps[place]) for place in places if 0 <= place < len(steps)), default=0.0)

    def boundaries(self, arm: str) -> dict[int, int]:
        """Seed -> the place of the largest level that trains, in ``levels``; -1 if none does."""
        return {seed: int(np.flatnonzero(t)[-1]) if t.any() else -1 for seed, t in self._trains[arm].items()}

    def bound(self, arm: str, baseline: str, measure: Measure) -> str:
        """``at least`` or ``at most`` if the largest stable levels beyond the grid could only be further apart."""
        if measure.key != "largest_stable":
            return ""
        ours, theirs, last = self.boundaries(arm), self.boundaries(baseline), len(self.levels) - 1
        seeds = ours.keys() & theirs.keys()
        up = any(ours[seed] == last or theirs[seed] < 0 for seed in seeds)
        down = any(theirs[seed] == last or ours[seed] < 0 for seed in seeds)
        return "" if up == down else "at least" if up else "at most"

    def finer(self, measure: Measure) -> str:
        """The override with levels that resolve the margin, two octaves beyond an end at which some course ends.

        Where levels are added anyway, all that can be lacking upwards is that the grid may grow more often.
        """
        if measure.unit != OCTAVES:
            return ""
        ends = np.array([t[[0, -1]] for seeds in self._trains.values() for t in seeds.values()], bool).reshape(-1, 2)
        if self._refine.ratio is not None and measure.key == "largest_stable" and ends[:, 0].all():
            return f"study.refine.extensions={self._refine.extensions + 2}" if ends[:, 1].any() else ""
        low = self.x[0] - 2 * bool((~ends[:, 0]).any())
        high = self.x[-1] + 2 * bool(ends[:, 1].any())
        count = 1 + math.ceil((high - low) / measure.margin - 1e-9)
        return f"{self.factor}={','.join(f'{level:.3g}' for level in 2 ** np.linspace(low, high, count))}"

    def _at_end(self, arm: str, seed: int, measure: Measure) -> bool:
        """Whether the course of a seed ends at an end of the grid before the measure does."""
        y, trains = self._courses[arm][seed], self._trains[arm][seed]
        if measure.key == "largest_stable":
            return bool(trains[-1]) or not trains.any()
        near = y >= y.max() - WITHIN
        return bool(near[0] or near[-1])

    def incomplete(self) -> list[str]:
        """One sentence per arm of which some seeds lack a level and so have no measures."""
        found = []
        for arm in self.results.arms:
            some = {seed for level in self.levels for seed in self.results.values.get((arm, level), {})}
            if seeds := sorted(some - self._courses[arm].keys()):
                found.append(f"{arm}: {seed_text(seeds)} without a result at every {self.name}; not compared.")
        return found

    def notes(self) -> list[str]:
        """Each arm's mean measures, and what the grid of levels is too short to show."""
        found = []
        for arm in self.results.arms:
            if not self._courses[arm]:
                continue
            stable, mean, octaves = np.mean(list(self.values[arm].values()), axis=0)
            found.append(
                f"{arm} over the {self.name}: mean accuracy {mean:.2f} %; within {WITHIN:g} pp of its best over "
                f"{octaves:.2f} octaves, a factor of {2**octaves:.3g}; largest stable level {2**stable:.3g} (geometric mean)."
            )
            found += self._edges(arm)
        return [*found, "One octave is a factor of 2."] if found else []

    def _edges(self, arm: str) -> list[str]:
        trains, courses, last = self._trains[arm].values(), self._courses[arm].values(), len(self.levels) - 1
        cases = {
            f"the largest {self.name} still trains, so the largest stable level is at least that": sum(
                bool(t[last]) for t in trains
            ),
            f"no {self.name} trains; the largest stable level counts as one step below the grid": sum(
                not t.any() for t in trains
            ),
            f"the best {self.name} lies at an end of the grid; extend the grid for all arms": sum(
                int(np.argmax(y)) in (0, last) for y in courses
            ),
            f"a {self.name} does not train, though a smaller and a larger one do; the largest that trains counts": sum(
                bool((np.diff(np.flatnonzero(t)) > 1).any()) for t in trains
            ),
        }
        return [f"{arm}: in {count} of {len(courses)} seeds {what}." for what, count in cases.items() if count]

    def _complete(self, arm: str) -> list[int]:
        return sorted(set.intersection(*(set(self.results.values.get((arm, level), {})) for level in self.levels)))

    def _course(self, arm: str, seed: int) -> Array:
        return np.array([self.results.values[arm, level][seed] for level in self.levels], float)

    def _lost(self, arm: str, seed: int) -> NDArray[np.bool_]:
        """(L,) whether the run at each level diverged or is stuck."""
        return np.array([seed in self.results.untrained(arm, level) for level in self.levels])

    def _measure(self, arm: str, seed: int) -> tuple[float, float, float]:
        y, trains = self._courses[arm][seed], self._trains[arm][seed]
        return largest_stable(self.x, trains), area(self.x, y), width(self.x, y)


def _numeric_factor(results: Results) -> tuple[str, dict[str, float]]:
    """The study's one factor and the number of each level text."""
    factors = {key for outcome in results.outcomes for key in outcome.levels}
    if len(factors) != 1:
        named = ", ".join(sorted(factors)) or "none"
        raise ConfigError(f"study.analysis=sensitivity needs exactly one factor in study.factors; there is {named}.")
    factor = factors.pop()
    numbers: dict[str, float] = {}
    for outcome in results.outcomes:
        try:
            number = float(outcome.levels[factor])
        except (KeyError, TypeError, ValueError):
            number = math.nan
        if not (number > 0 and math.isfinite(number)):
            raise ConfigError(
                f"study.analysis=sensitivity needs positive numbers as levels of {factor}, not {outcome.level or 'nothing'}; "
                "use study.analysis=levels."
            )
        numbers[outcome.level] = number
    if len(numbers) < 2:
        raise ConfigError(f"study.analysis=sensitivity needs at least two levels of {factor}; add levels to study.factors.")
    return factor, numbers
