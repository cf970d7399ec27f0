"""The statistics of two groups of runs that cannot be paired by seed, as pure functions of arrays.

``arm`` and ``baseline`` are always ``(n,)`` arrays of values, not necessarily of one length, in the unit of the margin. A value
that cannot be computed is NaN, never an exception. Differences are arm minus baseline.

All tests are Welch's: the two groups may differ in spread as well as in size. So a difference in spread alone is not found as
a difference in the mean.

References: Welch (1947), "The generalization of Student's problem when several different population variances are involved";
Satterthwaite (1946), "An approximate distribution of estimates of variance components"; Schuirmann (1987), "A comparison of the
two one-sided tests procedure"; Delacre et al. (2021), "Why Hedges' g*s based on the non-pooled standard deviation should be
reported with Welch's t-test"; Vargha & Delaney (2000), "A critique and improvement of the CL common language effect size".
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from bnexp.comparison.stats import MIN_VALUES, Array, Interval, is_constant


class Spread(NamedTuple):
    """What two groups tell of the difference of their means.

    Args:
        difference: mean of the arm minus mean of the baseline.
        error: its standard error, ``sqrt(s1^2 / n1 + s2^2 / n2)``.
        degrees: degrees of freedom by Welch and Satterthwaite.
    """

    difference: float
    error: float
    degrees: float

    @classmethod
    def of(cls, arm: ArrayLike, baseline: ArrayLike) -> Spread:
        """From the values. Error and degrees are NaN if a group has fewer than two values, or if no group has a spread."""
        a, b = np.asarray(arm, float), np.asarray(baseline, float)
        if not (a.size and b.size):
            return cls(math.nan, math.nan, math.nan)
        # The same tolerance as for paired differences: what is a tie up to rounding is a tie.
        difference = float(a.mean() - b.mean())
        if abs(difference) <= 1e-12 * (abs(a.mean()) + abs(b.mean())):
            difference = 0.0
        if min(a.size, b.size) < 2 or (is_constant(a) and is_constant(b)):
            return cls(difference, math.nan, math.nan)
        parts = [_variance(x) / x.size for x in (a, b)]
        total = sum(parts)
        return cls(
            difference, math.sqrt(total), total**2 / sum(p**2 / (x.size - 1) for p, x in zip(parts, (a, b), strict=True))
        )

    def p_above(self, bound: float) -> float:
        """One-sided p of the true difference being at most ``bound``: small if they differ by more. NaN without an error."""
        if math.isnan(bound) or math.isnan(self.error):
            return math.nan
        return float(special.stdtr(self.degrees, -(self.difference - bound) / self.error))

    def p_below(self, bound: float) -> float:
        """One-sided p of the true difference being at least ``bound``."""
        if math.isnan(bound) or math.isnan(self.error):
            return math.nan
        return float(special.stdtr(self.degrees, (self.difference - bound) / self.error))


def difference_interval(arm: ArrayLike, baseline: ArrayLike, level: float = 0.95) -> Interval:
    """Difference of the means with Welch's (1947) t interval.

    Args:
        arm: (n1,) values.
        baseline: (n2,) values.
        level: confidence level of the interval.

    Returns:
        The bounds are NaN if a group has fewer than three values, or if all values of both groups are the same.
    """
    spread = Spread.of(arm, baseline)
    if min(np.size(arm), np.size(baseline)) < MIN_VALUES or math.isnan(spread.error):
        return Interval(spread.difference, math.nan, math.nan)
    half = float(special.stdtrit(spread.degrees, (1 + level) / 2)) * spread.error
    return Interval(spread.difference, spread.difference - half, spread.difference + half)


def welch_t(arm: ArrayLike, baseline: ArrayLike) -> float:
    """Two-sided p of Welch's (1947) t test that both groups have the same mean.

    Returns:
        1 if all values of both groups are the same. NaN if a group has fewer than two values, and if neither group has a spread
        but their means differ: t is then infinite, which is no evidence of an infinite effect.
    """
    spread = Spread.of(arm, baseline)
    if math.isnan(spread.error):
        return 1.0 if spread.difference == 0 and min(np.size(arm), np.size(baseline)) >= 2 else math.nan
    return min(1.0, 2 * min(spread.p_above(0.0), spread.p_below(0.0)))


def equivalence(arm: ArrayLike, baseline: ArrayLike, margin: float) -> float:
    """p of two one-sided Welch tests (TOST, Schuirmann 1987) that the means differ by less than ``margin``.

    Below .05 exactly if the 90 % interval of ``difference_interval`` lies inside the margin, for groups of three or more.

    Args:
        arm: (n1,) values.
        baseline: (n2,) values.
        margin: half width of what counts as equivalent; NaN gives NaN.
    """
    spread = Spread.of(arm, baseline)
    above, below = spread.p_above(-margin), spread.p_below(margin)
    return math.nan if math.isnan(above) else max(above, below)


def beyond_margin(arm: ArrayLike, baseline: ArrayLike, margin: float) -> float:
    """Two-sided p that the means differ by more than ``margin``. Arguments as for ``equivalence``."""
    spread = Spread.of(arm, baseline)
    above, below = spread.p_above(margin), spread.p_below(-margin)
    return math.nan if math.isnan(above) else min(1.0, 2 * min(above, below))


def hedges_g(arm: ArrayLike, baseline: ArrayLike) -> float:
    """Standardised difference of the means for unequal spreads, Hedges' ``g*_s`` (Delacre et al. 2021, eqs. 14 to 16).

    The difference divided by ``sqrt((s1^2 + s2^2) / 2)``, times the small-sample correction ``J`` of ``stats.hedges_dz`` at
    ``(n1 - 1)(n2 - 1)(s1^2 + s2^2)^2 / ((n2 - 1) s1^4 + (n1 - 1) s2^4)`` degrees of freedom.

    Returns:
        0 if all values are the same. NaN if a group has fewer than two values, or if neither has a spread but their means
        differ.
    """
    a, b = np.asarray(arm, float), np.asarray(baseline, float)
    spread = Spread.of(a, b)
    if math.isnan(spread.error):
        return 0.0 if spread.difference == 0 and min(a.size, b.size) >= 2 else math.nan
    va, vb = _variance(a), _variance(b)
    m = (va + vb) ** 2 / (va**2 / (a.size - 1) + vb**2 / (b.size - 1))
    correction = math.exp(math.lgamma(m / 2) - math.lgamma((m - 1) / 2)) / math.sqrt(m / 2) if m > 1 else math.nan
    return correction * spread.difference / math.sqrt((va + vb) / 2)


def superiority(arm: ArrayLike, baseline: ArrayLike) -> float:
    """Fraction of all pairs of a run of the arm with one of the baseline in which the arm has the larger value.

    Vargha & Delaney's (2000) A, the statistic of Mann and Whitney divided by ``n1 n2``. A tie counts half.
    """
    a, b = np.asarray(arm, float), np.asarray(baseline, float)
    if not (a.size and b.size):
        return math.nan
    return float(np.mean((np.sign(a[:, None] - b[None, :]) + 1) / 2))


def degrees_ratio(arm: ArrayLike, baseline: ArrayLike) -> float:
    """Degrees of freedom that each further run per group adds, for two groups of one size with these spreads: 1 to 2."""
    va, vb = _variance(np.asarray(arm, float)), _variance(np.asarray(baseline, float))
    return float((va + vb) ** 2 / (va**2 + vb**2))


def _variance(x: Array) -> float:
    return 0.0 if is_constant(x) else float(x.var(ddof=1))
