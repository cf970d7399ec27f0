"""How far a comparison is from being settled: at how many seeds, if the effect stays as it is, or at best."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from bnexp.comparison.looks import Look
from bnexp.comparison.power import MAX_PAIRS
from bnexp.comparison.result import Comparison, Test, Verdict
from bnexp.comparison.sequential import Rule, seeds_needed
from bnexp.comparison.stats import MIN_PAIRS, Array
from bnexp.config.options import Direction

BEST = 1.645  # standard errors by which the true effect may be more favourable: at 5 % of all questions it is further off


def is_open(c: Comparison) -> bool:
    """Whether a deciding comparison has no verdict yet."""
    return c.verdict in (Verdict.INCONCLUSIVE, Verdict.ESTIMATE)


def settled_at(c: Comparison, look: Look, family: int, optimism: float = 0.0) -> int | None:
    """The number of seeds at which an anytime-valid test is expected to show a difference or equivalence.

    Args:
        c: a deciding comparison that is open.
        look: the look at which it is open; without a rule, that of a further look is taken.
        family: number of deciding comparisons.
        optimism: standard errors by which the effect is taken to be more favourable than measured.

    Returns:
        The smaller of the two; None if neither comes below 10,000 seeds, or too few are there to tell.
    """
    d = np.array(c.differences, float)
    if d.size < 2 or not c.measured:
        return None
    rule = look.rule or Rule.again()
    alpha = rule.alpha / family
    shift = optimism * float(d.std(ddof=1)) / math.sqrt(d.size)
    ways = []
    if c.direction != Direction.equivalent:
        by_sign = c.test in (Test.sign_flip, Test.anytime_sign)
        ways.append(_signs_needed(d, alpha, optimism) if by_sign else seeds_needed(_moved(d, shift), rule, None, alpha))
    if math.isfinite(c.margin) and not c.unresolved and not c.both_untrained:
        ways.append(seeds_needed(_moved(d, -shift), rule, c.margin, alpha))
    return min((number for number in ways if number is not None), default=None)


def _signs_needed(d: Array, alpha: float, optimism: float) -> int | None:
    """The number of pairs at which ``sequential.sign_process`` reaches ``1 / alpha``, if ties and signs keep their shares."""
    num_signs, num_up = int(np.count_nonzero(d)), int(np.count_nonzero(d > 0))
    if not num_signs:
        return None
    part = max(num_up, num_signs - num_up) / num_signs
    part = min(1.0, part + optimism * math.sqrt(part * (1 - part) / num_signs))
    for n in range(max(MIN_PAIRS, d.size), MAX_PAIRS + 1):
        signs = n * num_signs // d.size
        if signs * math.log(2) + special.betaln(part * signs + 1, (1 - part) * signs + 1) >= -math.log(alpha):
            return n
    return None


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
