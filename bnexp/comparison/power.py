"""How many pairs, or runs per group, a test needs to find what is there: the power of t tests and of TOST."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import special

MAX_PAIRS = 10_000  # the search for the number of pairs needed stops here


def power_paired_t(effect: float, n: int, alpha: float = 0.05) -> float:
    """Power of the two-sided paired t test, by the noncentral t distribution.

    Args:
        effect: the true standardised effect ``d_z``.
        n: number of pairs.
        alpha: level of the test.
    """
    return _power_t(abs(effect) * math.sqrt(n), n - 1, alpha)


def power_welch(effect: float, n: int, ratio: float = 2.0, alpha: float = 0.05) -> float:
    """Power of Welch's two-sided t test with two groups of one size, by the noncentral t distribution.

    Args:
        effect: the true difference divided by ``sqrt((s1^2 + s2^2) / 2)``.
        n: number of runs in each group.
        ratio: ``welch.degrees_ratio``: 2 if both groups have the same spread, 1 if one has none.
        alpha: level of the test.
    """
    return _power_t(abs(effect) * math.sqrt(n / 2), ratio * (n - 1), alpha)


def power_equivalence(difference: float, sd: float, margin: float, n: int, alpha: float = 0.05) -> float:
    """Power of TOST, by the noncentral t distribution.

    ``P(T(d + margin) > t) + P(T(d - margin) < -t) - 1``: a lower bound, and exact whenever the power is high enough to be of
    use.

    Args:
        difference: the true mean difference.
        sd: the true standard deviation of the differences.
        margin: half width of what counts as equivalent.
        n: number of pairs.
        alpha: level of the test.
    """
    bound, se = special.stdtrit(n - 1, 1 - alpha), sd / math.sqrt(n)
    # The worse side is (margin - |d|) / se away, the better one (margin + |d|) / se; both tests must reject.
    sides = [_noncentral_t(n - 1, (margin + sign * abs(difference)) / se, bound) for sign in (-1, 1)]
    return max(0.0, 1 - sum(sides))


def pairs_needed(effect: float, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """Smallest number of pairs with which a two-sided paired t test reaches a power.

    Args:
        effect: the true standardised effect ``d_z``.
        power: the power to reach.
        alpha: level of the test.

    Returns:
        None if the effect is 0 or not finite, or if more than 10,000 pairs would be needed.
    """
    if not math.isfinite(effect):
        return None
    return _smallest_n(lambda n: power_paired_t(effect, n, alpha) >= power)


def pairs_needed_equivalence(
    difference: float, sd: float, margin: float, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """Smallest number of pairs with which TOST reaches a power.

    Args:
        difference: the true mean difference.
        sd: the true standard deviation of the differences.
        margin: half width of what counts as equivalent.
        power: the power to reach.
        alpha: level of the test.

    Returns:
        None if the difference is not inside the margin, if the standard deviation is not above 0, or if more than 10,000 pairs
        would be needed.
    """
    if not (abs(difference) < margin and sd > 0):
        return None
    return _smallest_n(lambda n: power_equivalence(difference, sd, margin, n, alpha) >= power)


def runs_needed(effect: float, ratio: float, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """Smallest number of runs in each of two groups with which Welch's two-sided t test reaches a power.

    Args:
        effect: the true difference divided by ``sqrt((s1^2 + s2^2) / 2)``.
        ratio: as for ``power_welch``.
        power: the power to reach.
        alpha: level of the test.

    Returns:
        As for ``pairs_needed``.
    """
    if not math.isfinite(effect):
        return None
    return _smallest_n(lambda n: power_welch(effect, n, ratio, alpha) >= power)


def smallest_effect(n: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest standardised effect ``d_z`` that a two-sided paired t test finds with a power.

    Args:
        n: number of pairs, at least 2.
        power: the power to reach.
        alpha: level of the test.
    """
    return _crossing(lambda effect: power_paired_t(effect, n, alpha) - power)


def largest_sd(n: int, margin: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """The largest standard deviation of the differences at which TOST shows equivalence with a power, if their mean is 0.

    Args:
        n: number of pairs, at least 2.
        margin: half width of what counts as equivalent.
        power: the power to reach.
        alpha: level of the test.
    """
    return margin / _crossing(lambda precision: power_equivalence(0.0, 1 / precision, 1.0, n, alpha) - power)


def _crossing(f: Callable[[float], float]) -> float:
    """Where a function that rises with its argument, from below 0, crosses 0. To import scipy.optimize for it takes .1 s."""
    low, high = 0.0, 1.0
    while f(high) < 0:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) < 0 else (low, middle)
    return high


def _smallest_n(enough: Callable[[int], bool]) -> int | None:
    """The smallest n from 2 that is enough, by doubling and then halving the step; None above ``MAX_PAIRS``."""
    high = 2
    while not enough(high):
        if high == MAX_PAIRS:
            return None
        high = min(2 * high, MAX_PAIRS)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return max(high, 2)


def _power_t(shift: float, degrees: float, alpha: float) -> float:
    """Power of a two-sided t test whose statistic is shifted by this many standard errors."""
    bound = special.stdtrit(degrees, 1 - alpha / 2)
    return 1 - _noncentral_t(degrees, shift, bound) + _noncentral_t(degrees, shift, -bound)


def _noncentral_t(degrees: float, shift: float, bound: float) -> float:
    """P(T <= bound). SciPy gives NaN if the probability is too small to resolve, 1e-6 and less: then it is 0."""
    p = float(special.nctdtr(degrees, shift, bound))
    return 0.0 if math.isnan(p) else p
