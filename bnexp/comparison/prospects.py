"""How far a comparison is from being settled: at how many seeds, if the effect stays as it is, or at best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from bnexp.comparison.looks import Look
from bnexp.comparison.result import Comparison, Verdict
from bnexp.comparison.sequential import Rule, seeds_needed, signs_needed
from bnexp.comparison.stats import Array

BEST = 1.645  # standard errors by which the true effect may be more favourable: at 5 % of all questions it is further off


def is_open(c: Comparison) -> bool:
    """Whether a deciding comparison has no verdict yet."""
    return c.verdict in (Verdict.INCONCLUSIVE, Verdict.ESTIMATE)


def settled_at(c: Comparison, look: Look, family: int, optimism: float = 0.0) -> int | None:
    """The number of seeds at which an anytime-valid test is expected to settle a comparison, whatever it will show.

    Args:
        c: a deciding comparison that is open.
        look: the look at which it is open; without a rule, that of a further look is taken.
        family: number of deciding comparisons.
        optimism: standard errors by which the effect is taken to be more favourable than measured.

    Returns:
        The smallest number with which a difference, equivalence, or, if equivalence is claimed, a difference beyond the margin
        is shown: at least one more than there are. None if it is not below 10,000, or if there are too few seeds to tell.
    """
    d = np.array(c.differences, float)
    if d.size < 2 or not c.measured:
        return None
    rule = look.rule or Rule.again()
    alpha, shift = rule.alpha / family, optimism * float(d.std(ddof=1)) / math.sqrt(d.size)
    away = _moved(d, shift)
    ways = []
    if not c.tolerates:
        ways.append(signs_needed(d, alpha, optimism) if c.by_signs else seeds_needed(away, rule, None, alpha))
    elif abs(away.mean()) > c.margin:
        ways.append(seeds_needed(away - math.copysign(c.margin, away.mean()), rule, None, alpha))
    if not c.unresolved and not c.both_untrained:
        one, both = (_moved(d + c.margin, shift), None), (_moved(d, -shift), c.margin)
        values, margin = one if c.one_sided else both
        ways.append(seeds_needed(values, rule, margin, alpha))
    return min((max(number, d.size + 1) for number in ways if number is not None), default=None)


def within_plan(rule: Rule, needed: Callable[[Rule], int | None]) -> int | None:
    """The seeds that are needed: by the rule up to the number that it declares, beyond it by that of a further look.

    Args:
        rule: the rule of a look.
        needed: the number of seeds by a rule; None if there is none.
    """
    number = needed(rule)
    if rule.max_seeds is None or (number is not None and number <= rule.max_seeds):
        return number
    return needed(Rule.again())


def futile(c: Comparison, look: Look, family: int, most: int) -> bool:
    """Whether a comparison would stay open with ``most`` seeds, even if its effect is as favourable as it may well be."""
    best = settled_at(c, look, family, BEST)
    return best is None or best > most


def standing(deciding: Sequence[Comparison], look: Look) -> str:
    """What is settled so far: ``1 of 2 deciding comparisons settled; open: bn against none (about 14 seeds)``."""
    undecided = [c for c in deciding if is_open(c)]
    settled = f"{len(deciding) - len(undecided)} of {len(deciding)} deciding comparison{'s' * (len(deciding) != 1)} settled"
    if not undecided:
        return settled
    first = min(undecided, key=lambda c: settled_at(c, look, len(deciding)) or math.inf)
    about = settled_at(first, look, len(deciding))
    seeds = f" (about {about} seeds)" if about is not None else ""
    more = f" and {len(undecided) - 1} more" if len(undecided) > 1 else ""
    level = f" at {first.level}" if first.level else ""
    return f"{settled}; open: {first.arm} against {first.baseline}{level}{seeds}{more}"


def _moved(d: Array, shift: float) -> Array:
    """The differences with their mean moved away from 0 by ``shift``, or towards it if that is negative, but not beyond."""
    mean = float(d.mean())
    return d + math.copysign(max(shift, -abs(mean)), mean)
