"""A metric of two arms where their trainings are equally far, by the training loss for instance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bnexp.comparison.contrast import Contrast, History, Inputs, Questions, is_finite, ratio_margin
from bnexp.comparison.method import Method
from bnexp.comparison.pairing import Pairs, Scale, place, seed_text
from bnexp.comparison.result import Comparison
from bnexp.comparison.stats import Array
from bnexp.comparison.text import RATIO, factor, number, times
from bnexp.comparison.words import at_level, measure_name
from bnexp.config.keys import COMPARED_BY_RATIO, STEP_PROBES, grows_in_training, metric_unit

NUM_VALUES = 11  # of the matched metric at which measurements at single steps are compared
MATCHED = " at matched "


@dataclass(frozen=True)
class Course:
    """One run: a metric over the progress of its training.

    Args:
        progress: (E,) the matched metric, with its sign changed if it falls in training, in the order of steps.
        values: (E,) the metric.
    """

    progress: Array
    values: Array

    @classmethod
    def of(cls, history: History, matched: str, metric: str) -> Course | None:
        """Read from the lines of a run that have both metrics; None if no line has.

        Lines of single steps go before lines of epochs: there, both are means over the epoch. A metric that is compared by
        ratios is read as its base-2 logarithm.
        """
        both = [row for row in history if is_finite(row, matched) and is_finite(row, metric)]
        if metric in COMPARED_BY_RATIO:
            both = [row | {metric: math.log2(row[metric])} for row in both if row[metric] > 0]
        rows = [row for row in both if "epoch" not in row] or both
        if not rows:
            return None
        sign = 1 if grows_in_training(matched) else -1
        progress, values = np.array([(sign * row[matched], row[metric]) for row in rows], float).T
        return cls(progress, values)

    def at(self, progress: Array) -> Array:
        """The metric when the run first gets to each of ``progress``, (L,), interpolated linearly between its lines.

        Each value lies within the run: at least its first progress and at most its largest.
        """
        found = []
        for goal in progress:
            i = int(np.flatnonzero(self.progress >= goal)[0])
            before = max(i - 1, 0)
            whole = self.progress[i] - self.progress[before]
            part = (self.progress[i] - goal) / whole if whole else 0.0
            found.append(self.values[i] - part * (self.values[i] - self.values[before]))
        return np.array(found, float)

    def trained(self, least: float) -> Course | None:
        """The course from the first line on at which the progress is at least ``least``; None if there is no such line."""
        there = np.flatnonzero(self.progress >= least)
        return Course(self.progress[there[0] :], self.values[there[0] :]) if there.size else None

    def smoothed(self) -> Course:
        """The course with progress that never falls: the least-squares fit of that kind, and the mean metric of each stretch.

        The loss of single batches is noisy. The more of them a run has near some loss, the earlier one of them is below it by
        chance. So at first crossings the slower of two runs is measured too early.

        Source: Ayer et al. 1955, "An empirical distribution function for sampling with incomplete information".
        """
        stretches: list[tuple[float, float, int]] = []  # progress, metric, number of lines
        for progress, value in zip(self.progress, self.values, strict=True):
            last = (float(progress), float(value), 1)
            while stretches and stretches[-1][0] >= last[0]:
                before = stretches.pop()
                n = before[2] + last[2]
                x, y = ((before[k] * before[2] + last[k] * last[2]) / n for k in (0, 1))
                last = (x, y, n)
            stretches.append(last)
        found = np.array(stretches, float)
        return Course(found[:, 0], found[:, 1])


@dataclass(frozen=True)
class Span:
    """The progress that both runs of a pair cover.

    Args:
        first: where it begins: both runs have begun.
        last: where it ends: the furthest that both runs get.
    """

    first: float
    last: float

    @classmethod
    def of(cls, a: Course, b: Course) -> Span | None:
        """None if there is none."""
        first = max(float(a.progress[0]), float(b.progress[0]))
        last = min(float(a.progress.max()), float(b.progress.max()))
        return cls(first, last) if first <= last else None


class Matched(Method):
    """``analysis: matched``: the study's metric where both runs of a pair have the same ``study.match``, such as training loss.

    Seed by seed, only values of it are used that both runs pass, each at its first crossing, and only of networks that are
    at least half way from guessing to perfect: losses below half of ln K, accuracies above (1 + 1/K) / 2, for K classes. A run
    counts from its first line there. Nothing is interpolated from a line before it: a fast run may have none in between.

    - What probes measure at single steps is noisy, and so is the loss there, and the whole course counts. So the course is
      smoothed first (``Course.smoothed``), and compared by its mean over 11 values, evenly spaced over the whole common range.
    - Anything else is measured on many images and compared at the furthest point that both runs reach. The difference in
      validation loss at the same training loss is also that of the generalisation gap.

    Positive quantities without a natural scale (``COMPARED_BY_RATIO``) are compared by the base-2 logarithm of arm over
    baseline, and ``study.margin`` is a ratio. Of others the difference is taken, and the margin is in their unit. Pairs with a
    diverged or stuck run, and pairs without such a point, are listed as not compared.
    """

    def ask(self, asked: Inputs) -> Questions:
        matched, metric = asked.study.match, asked.study.metric
        by_ratio = metric in COMPARED_BY_RATIO
        margin = ratio_margin(asked.study) if by_ratio else asked.margin
        unit = RATIO if by_ratio else metric_unit(metric)
        runs = asked.read(lambda run_id: Course.of(asked.history(run_id), matched, metric))
        return Questions.joined(
            _at(asked, unit, margin, runs[arm, level], runs[baseline, level], (arm, baseline, level))
            for arm, baseline in asked.pairs
            for level in asked.results.levels
        )

    def statement(self, c: Comparison) -> str:
        if c.n:
            return super().statement(c)
        matched = c.measure.partition(MATCHED)[2]
        return f"{c.arm} and {c.baseline}{at_level(c)} have no {measure_name(matched)} in common at which both have trained"

    def equivalent(self, c: Comparison) -> str:
        metric, same = _names(c)
        if c.unit != RATIO:
            return f"{same} {super().equivalent(replace(c, measure=metric))}"
        within = f"within a factor of {factor(c.margin)} ({times(c, c.low90, c.high90)})"
        return f"{same} the {measure_name(metric)} is the same with {c.arm} as with {c.baseline}{at_level(c)} {within}"

    def different(self, c: Comparison) -> str:
        metric, same = _names(c)
        if c.unit != RATIO:
            return f"{same} {super().different(replace(c, measure=metric))}"
        size = times(c, c.low, c.high)
        return f"{same} with {c.arm} the {measure_name(metric)} is {size} what it is with {c.baseline}{at_level(c)}"


def _names(c: Comparison) -> tuple[str, str]:
    """The metric that is compared, and ``at the same training loss,``."""
    metric, _, matched = c.measure.partition(MATCHED)
    return metric, f"at the same {measure_name(matched)},"


def _at(
    asked: Inputs,
    unit: str,
    margin: float,
    ours: Mapping[int, Course | None],
    theirs: Mapping[int, Course | None],
    where: tuple[str, str, str],
) -> Questions:
    """The question about one arm and its baseline at one level; ``ours`` and ``theirs``: seed -> run."""
    arm, baseline, level = where
    metric, matched = asked.study.metric, asked.study.match
    both = sorted(ours.keys() & theirs.keys())
    untrained = {*asked.results.untrained(arm, level), *asked.results.untrained(baseline, level)}
    known = {s: (a, b) for s in both if (a := ours[s]) and (b := theirs[s]) and s not in untrained}
    least = half_way(matched, asked.chance)
    averaged = metric.split("/")[0] in STEP_PROBES
    counted = {s: (_counted(a, least, averaged), _counted(b, least, averaged)) for s, (a, b) in known.items()}
    runs = {s: (a, b) for s, (a, b) in counted.items() if a and b}
    spans = {s: span for s, pair in runs.items() if (span := Span.of(*pair))}
    scale = 1.0 if unit == RATIO else Scale.of(metric).factor
    pairs = {s: _pair(*runs[s], span, averaged, scale) for s, span in spans.items()}
    about, unpaired = place(f"{arm} against {baseline}", level), []
    if apart := sorted(known.keys() - spans.keys()):
        limit = "" if math.isinf(least) else f" {_limit(matched, least)}"
        unpaired.append(
            f"{about}: {seed_text(apart)} not compared, for there is no {matched}{limit} that both runs pass; train longer."
        )
    if lost := [s for s in both if s not in known]:
        unpaired.append(f"{about}: {seed_text(lost)} untrained or without {matched} and {metric}; not compared.")
    contrast = Contrast(*where, f"{metric}{MATCHED}{matched}", unit, margin, Pairs.of(pairs))
    notes = [f"{about}: {_matched_at(matched, list(spans.values()), averaged)}"] if spans else []
    return Questions([contrast], notes, unpaired)


def half_way(matched: str, chance: float | None) -> float:
    """The progress half way from guessing to perfect; minus infinity if it is not known what guessing gives."""
    if chance is None:
        return -math.inf
    return (1 + chance) / 2 if grows_in_training(matched) else math.log(chance) / 2


def _counted(run: Course, least: float, averaged: bool) -> Course | None:
    """The part of a run that counts: trained to ``least``, and smoothed if measurements at single steps are averaged."""
    trained = run.trained(least)
    return trained.smoothed() if trained and averaged else trained


def _pair(a: Course, b: Course, span: Span, averaged: bool, scale: float) -> tuple[float, float]:
    goals = np.linspace(span.first, span.last, NUM_VALUES) if averaged else np.array([span.last])
    return scale * float(a.at(goals).mean()), scale * float(b.at(goals).mean())


def _limit(matched: str, trained: float) -> str:
    """``below 1.151``, ``above 55 %``."""
    return f"{'above' if grows_in_training(matched) else 'below'} {_level(matched, trained)}"


def _level(matched: str, progress: float) -> str:
    """The value of the matched metric at a progress: ``1.151`` of a loss, ``55 %`` of an accuracy."""
    return f"{number(100 * progress, '')} %" if grows_in_training(matched) else number(abs(progress), "")


def _matched_at(matched: str, spans: list[Span], averaged: bool) -> str:
    """The values of the matched metric at which arms are compared, in the mean over seeds."""
    first, last = (_level(matched, float(np.mean([getattr(span, end) for span in spans]))) for end in ("first", "last"))
    many = f"{NUM_VALUES} values of {matched} from {first} to {last}, evenly spaced" if averaged else f"{matched} = {last}"
    return f"compared at {many} (mean over {len(spans)} seed{'s' * (len(spans) != 1)})."
