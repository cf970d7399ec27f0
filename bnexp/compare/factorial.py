"""How the difference between two arms depends on the factors: interaction, and trend over ordered levels.

Both work on each seed's own differences, arm minus baseline. Where both runs of a pair diverged at a level, the difference
there is 0 only because both were put at chance. Such a 0 can look like an interaction or a trend as well as like their
absence, so a seed with one at any level that its contrast uses is not compared; where every seed has one, nothing is tested.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from bnexp.compare import stats
from bnexp.compare.contrast import Contrast, Inputs, Questions, Test
from bnexp.compare.pairing import Pairs, Results, factor_names, place, seed_text
from bnexp.compare.stats import Array
from bnexp.compare.text import quantity
from bnexp.config.schema import ConfigError

MIN_LEVELS = 3  # of Page's test


def interaction(asked: Inputs) -> Questions:
    """``analysis: interaction``: (arm - baseline) at a level minus (arm - baseline) at the first level, seed by seed.

    With several factors every combination of levels is measured from the first one. Raises ConfigError below two levels.
    """
    results = asked.results
    reference, *others = results.levels
    if not others:
        raise ConfigError("study.analysis=interaction needs a factor with at least two levels; add it to study.factors.")
    contrasts = [
        Contrast(
            arm=arm,
            baseline=baseline,
            level=level,
            measure=f"interaction with {' and '.join(factor_names(results))}, from {reference}",
            unit=results.scale.unit,
            margin=asked.margin,
            direction=asked.direction(level),
            pairs=_from_reference(results, arm, baseline, level, reference),
            reference=reference,
        )
        for level in others
        for arm, baseline in asked.pairs
    ]
    notes = [_differences_note(results, arm, baseline) for arm, baseline in asked.pairs]
    return Questions(contrasts, notes, [line for arm, baseline in asked.pairs for line in _lost_seeds(results, arm, baseline)])


def _from_reference(results: Results, arm: str, baseline: str, level: str, reference: str) -> Pairs:
    """The differences at ``level`` (as ``arm``) and at ``reference`` (as ``baseline``) over the seeds that have both."""
    here, there = _by_seed(results, arm, baseline, level), _by_seed(results, arm, baseline, reference)
    lost = results.both_diverged(arm, baseline, level) | results.both_diverged(arm, baseline, reference)
    seeds = tuple(_measured(sorted(here.keys() & there.keys()), lost))
    columns = [np.array([found[seed] for seed in seeds], float) for found in (here, there)]
    return Pairs(seeds, columns[0], columns[1], len(lost.intersection(seeds)))


def _by_seed(results: Results, arm: str, baseline: str, level: str) -> dict[int, float]:
    pairs = results.pair(arm, baseline, level)
    return dict(zip(pairs.seeds, map(float, stats.differences(pairs.arm, pairs.baseline)), strict=True))


def _measured(seeds: list[int], lost: set[int]) -> list[int]:
    """The seeds without those that are lost, or all where all are lost."""
    return [seed for seed in seeds if seed not in lost] or seeds


def _lost_seeds(results: Results, arm: str, baseline: str) -> list[str]:
    """A sentence for each level at which both runs of a pair diverged."""
    return [
        f"{place(f'{arm} minus {baseline}', level)}: both runs diverged with {seed_text(sorted(lost))}, so there is no "
        "difference to measure; these seeds are not compared there."
        for level in results.levels
        if (lost := results.both_diverged(arm, baseline, level))
    ]


def _differences_note(results: Results, arm: str, baseline: str) -> str:
    means = [(level, stats.mean_interval(list(_by_seed(results, arm, baseline, level).values()))) for level in results.levels]
    listed = ", ".join(f"{quantity(mean.estimate, results.scale.unit, sign=True)} at {level}" for level, mean in means)
    return f"{arm} minus {baseline}, means over seeds: {listed}."


def trend(asked: Inputs) -> Questions:
    """``analysis: trend``: whether arm - baseline rises or falls over the ordered levels of one factor (Page 1963).

    The effect is the mean over seeds of the least-squares slope, per octave where all levels are positive numbers, else per
    step; numbers are ordered by size, others as the study lists them. p: ``stats.page_trend`` in the direction of that mean.
    The margin is spread over the whole range of levels. Raises ConfigError unless there is one factor of three levels.
    """
    results = asked.results
    factor, levels, x, step = _ordered_levels(results)
    unit = f"{results.scale.unit}/{step}".removeprefix("/")
    contrasts, notes, unpaired = [], [], []
    for arm, baseline in asked.pairs:
        table = {level: _by_seed(results, arm, baseline, level) for level in levels}
        lost = set().union(*(results.both_diverged(arm, baseline, level) for level in levels))
        complete = _measured(sorted(set.intersection(*(set(found) for found in table.values()))), lost)
        courses = np.array([[table[level][seed] for level in levels] for seed in complete], float).reshape(-1, len(levels))
        slopes = stats.slopes(x, courses)
        contrasts.append(
            Contrast(
                arm=arm,
                baseline=baseline,
                level="",
                measure=f"trend over {factor}",
                unit=unit,
                margin=asked.margin / float(x[-1] - x[0]),
                direction=asked.study.direction,
                pairs=Pairs(tuple(complete), slopes, np.zeros_like(slopes), len(lost.intersection(complete))),
                test=Test.page,
                p_page=stats.page_trend(courses, rising=bool(slopes.mean() > 0)) if complete else math.nan,
            )
        )
        if complete:
            notes += _course_notes(results, arm, baseline, levels, courses.mean(0))
        unpaired += _lost_seeds(results, arm, baseline)
        if some := sorted({seed for found in table.values() for seed in found} - set(complete) - lost):
            unpaired.append(f"{arm} against {baseline}: {seed_text(some)} without a pair at every level; not compared.")
    return Questions(contrasts, notes, unpaired)


def _ordered_levels(results: Results) -> tuple[str, list[str], Array, str]:
    """The one factor, its levels in order, their places on the axis of slopes, and the name of that axis's unit."""
    names = factor_names(results)
    if len(names) != 1 or len(results.levels) < MIN_LEVELS:
        found = f"{' and '.join(names) or 'no factor'} with {len(results.levels)} level{'s' * (len(results.levels) != 1)}"
        raise ConfigError(f"study.analysis=trend needs one factor in study.factors with three or more levels, not {found}.")
    steps = np.arange(len(results.levels), dtype=float)
    try:
        values = {level: float(results.factors[level][names[0]]) for level in results.levels}
    except (TypeError, ValueError):
        return names[0], results.levels, steps, "step"
    levels = sorted(values, key=lambda level: values[level])
    if min(values.values()) > 0:
        return names[0], levels, np.log2([values[level] for level in levels]), "octave"
    return names[0], levels, steps, "step"


def _course_notes(results: Results, arm: str, baseline: str, levels: list[str], means: Array) -> list[str]:
    """The mean difference at each level, where it changes its sign, and levels at which nothing could be measured."""
    about = f"{arm} minus {baseline}"
    listed = ", ".join(
        f"{quantity(float(mean), results.scale.unit, sign=True)} at {level}" for level, mean in zip(levels, means, strict=True)
    )
    found = [f"{about}, means over seeds: {listed}."]
    signed = [(level, np.sign(mean)) for level, mean in zip(levels, means, strict=True) if mean != 0]
    crossings = [f"{one} and {other}" for (one, before), (other, after) in pairwise(signed) if before != after]
    found += [f"{about} changes its sign between {crossing}." for crossing in crossings]
    return found
