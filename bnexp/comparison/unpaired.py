"""Runs that were chosen after they had trained: paired by seed if they can be, else compared as two groups.

When runs are paired is decided by their seeds alone, never by their results, so it cannot be chosen to suit them:

- A seed that is not recorded, or that several runs of one arm and level have, pairs nothing there.
- Arms are paired if they share at least six seeds. If the smaller of them has fewer than six runs, half of these must be
  shared. Otherwise pairing would leave out most of the runs, and could come to no verdict although the runs allow one.

Groups are compared by Welch's test, and a verdict needs at least six runs of different seeds in each: a seed that is trained
twice, or a run that was imported from two files, is no second observation. The reason for six is not that of the pairs: an
exact permutation test of two groups can go below .05 from four runs each. But Welch's test holds its level only if the means
are about normal, and a group of three or four runs shows neither its spread nor an odd run. With one limit for both, there is
also nothing to gain from dropping seeds to get around the six pairs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from bnexp.comparison import power, welch
from bnexp.comparison.contrast import Contrast
from bnexp.comparison.pairing import Cell, Groups, Pairs, Results
from bnexp.comparison.result import Comparison, Test
from bnexp.comparison.stats import ALPHA, MIN_PAIRS


def matched(
    results: Results, arm: str, baseline: str, level: str, unseeded: Mapping[Cell, str], repeated: Mapping[str, int]
) -> Pairs | Groups:
    """The results of two arms at a level: pairs if enough seeds are shared, else groups.

    Args:
        results: the runs.
        arm: the arm.
        baseline: what it is compared with.
        level: the level.
        unseeded: (arm, level) -> why the seeds of its runs pair nothing, as a clause.
        repeated: run id -> seed, of the runs there that have one.
    """
    pairs = results.pair(arm, baseline, level)
    ours, theirs = results.cell(arm, level), results.cell(baseline, level)
    smaller, shared = min(ours.size, theirs.size), pairs.arm.size
    if shared and shared >= (MIN_PAIRS if smaller >= MIN_PAIRS else math.ceil(smaller / 2)):
        return pairs
    why = unseeded.get((arm, level)) or unseeded.get((baseline, level))
    why = why or (f"they share only {shared} seed{'s' * (shared > 1)}" if shared else "they share no seed")
    untrained = min(len(results.untrained(name, level)) for name in (arm, baseline))
    seeds = min(_num_seeds(results.run_ids(name, level).values(), repeated) for name in (arm, baseline))
    return Groups(ours, theirs, untrained, why, seeds)


def _num_seeds(run_ids: Iterable[str], repeated: Mapping[str, int]) -> int:
    """Number of different seeds. A run whose seed is not known, or that no other run has, counts as one."""
    return len({repeated.get(run_id, run_id) for run_id in run_ids})


def tested(groups: Groups) -> Groups:
    """What tests are made of: all values, or none if no pair of runs could be made of which one has trained."""
    if groups.both_untrained and groups.both_untrained == min(groups.arm.size, groups.baseline.size):
        return Groups(groups.arm[:0], groups.baseline[:0], groups.both_untrained, groups.why, groups.num_seeds)
    return groups


def beyond(contrast: Contrast, groups: Groups) -> float:
    """p that the difference lies outside the margin."""
    found = tested(groups)
    return welch.beyond_margin(found.arm, found.baseline, contrast.margin)


def estimate(contrast: Contrast, groups: Groups, family: int) -> Comparison:
    """The comparison of two groups with everything but what depends on the rest of its family.

    Args:
        contrast: what is compared.
        groups: its values.
        family: number of contrasts that decide.
    """
    found = tested(groups)
    arm, baseline = found.arm, found.baseline
    wide, narrow = welch.difference_interval(arm, baseline), welch.difference_interval(arm, baseline, 0.90)
    p, same = welch.welch_t(arm, baseline), ""
    if min(arm.size, baseline.size) > 1 and math.isnan(welch.Spread.of(arm, baseline).error):
        same = "the runs of either arm are all the same"
    untestable = bool(groups.both_untrained or same)
    effect = welch.hedges_g(arm, baseline)
    needed = None
    if effect and math.isfinite(effect):
        needed = power.runs_needed(effect, welch.degrees_ratio(arm, baseline), alpha=ALPHA / family)
    return Comparison(
        **contrast.asked(),
        n=groups.num_seeds,
        difference=welch.Spread.of(groups.arm, groups.baseline).difference,
        low=wide.low,
        high=wide.high,
        low90=narrow.low,
        high90=narrow.high,
        p_t=p,
        p_sign_flip=math.nan,
        p_adjusted=math.nan,
        p_equivalence=math.nan if untestable else welch.equivalence(arm, baseline, contrast.margin),
        effect=effect,
        superiority=welch.superiority(arm, baseline),
        superiority_low=math.nan,
        superiority_high=math.nan,
        n_needed=None if needed is None else max(needed, MIN_PAIRS),
        both_untrained=groups.both_untrained,
        unresolved=contrast.unresolved or same,
        test=Test.welch,
        p_test=p,
        seeds=[],
        differences=[],
        unpaired=groups.why,
        sizes=[groups.arm.size, groups.baseline.size],
    )
