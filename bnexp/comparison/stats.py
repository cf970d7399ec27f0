"""The statistics of paired comparisons, as pure functions of arrays.

``d`` is always a ``(n,)`` array of paired differences, arm minus baseline, one per seed, in the unit of the margin (pp,
nats). A value that cannot be computed is NaN, never an exception: there are too few values, or a t test is asked of
differences that are all the same.

References: Student (1908), "The probable error of a mean"; Fisher (1935), "The Design of Experiments", ch. 3 (sign flips);
Phipson & Smyth (2010), "Permutation p-values should never be zero"; Hedges (1981), "Distribution theory for Glass's
estimator of effect size"; Wilson (1927), "Probable inference"; Schuirmann (1987), "A comparison of the two one-sided tests
procedure"; Holm (1979), "A simple sequentially rejective multiple test procedure"; Friedman (1937), "The use of ranks";
Page (1963), "Ordered hypotheses for multiple treatments"; McNemar (1947), "Note on the sampling error of the difference
between correlated proportions"; Efron (1987), "Better bootstrap confidence intervals"; Benjamini & Yekutieli (2001), "The
control of the false discovery rate in multiple testing under dependency".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]

ALPHA = 0.05  # level of every test
MIN_PAIRS = 6  # of a verdict: with fewer, the exact sign-flip test cannot reach ALPHA
MIN_VALUES = 3  # of an interval
EXACT_SIGN_FLIPS = 14  # up to this many pairs all sign patterns are tried
SIGN_FLIP_DRAWS = 9_999
BOOTSTRAP_DRAWS = 2_000


class Interval(NamedTuple):
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float


def differences(arm: ArrayLike, baseline: ArrayLike) -> Array:
    """``arm - baseline`` element by element. Rounding noise is set to exactly 0, so that equal results count as ties.

    Args:
        arm: (n,) values of the arm.
        baseline: (n,) values of the baseline, in the same order.

    Returns:
        (n,) differences.
    """
    a, b = np.asarray(arm, float), np.asarray(baseline, float)
    d = a - b
    return np.where(np.abs(d) <= 1e-12 * (np.abs(a) + np.abs(b)), 0.0, d)


def is_constant(d: ArrayLike) -> bool:
    """Whether two or more values are all the same up to rounding: their variance is 0 and a t test is undefined."""
    values = np.asarray(d, float)
    return values.size >= 2 and bool(np.ptp(values) <= 1e-9 * np.abs(values).max())


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean with Student's (1908) t interval: ``mean ± t(n - 1, (1 + level) / 2) sd / sqrt(n)``.

    Args:
        values: (n,) values.
        level: confidence level of the interval.

    Returns:
        The bounds are NaN below three values: with one degree of freedom t is 12.7, and the interval of two accuracies would
        lie far outside 0 to 100 %. They are NaN as well if all values are the same, because the spread is then unknown.
    """
    x = np.asarray(values, float)
    mean = float(x.mean()) if x.size else math.nan
    if x.size < MIN_VALUES or is_constant(x):
        return Interval(mean, math.nan, math.nan)
    half = float(special.stdtrit(x.size - 1, (1 + level) / 2)) * _standard_error(x)
    return Interval(mean, mean - half, mean + half)


def paired_t(d: ArrayLike) -> float:
    """Two-sided p of the paired t test (Student 1908) that the mean difference is 0.

    ``t = mean / (sd / sqrt(n))`` with n - 1 degrees of freedom.

    Returns:
        1 if all differences are 0. NaN below two pairs, and if all differences are the same but not 0: the variance is then 0
        and t infinite, which is no evidence of an infinite effect.
    """
    x = np.asarray(d, float)
    if x.size < 2:
        return math.nan
    if is_constant(x):
        return 1.0 if not x.any() else math.nan
    return float(2 * special.stdtr(x.size - 1, -abs(x.mean()) / _standard_error(x)))


def sign_flip(d: ArrayLike, generator: np.random.Generator) -> float:
    """Two-sided p of the sign-flip permutation test on the mean (Fisher 1935).

    If arm and baseline are exchangeable, each difference was as likely to have the other sign. p is the fraction of all
    ``2**n`` sign patterns whose mean is at least as far from 0, so it is never below ``2 / 2**n``.

    Args:
        d: the differences.
        generator: draws 9,999 patterns if n is above 14; the observed pattern is added (Phipson & Smyth 2010). Up to 14 all
            patterns are tried.

    Returns:
        NaN without pairs.
    """
    x = np.asarray(d, float)
    n = x.size
    if n == 0:
        return math.nan
    bound = abs(x.sum()) - 1e-9 * np.abs(x).sum()  # ties must count, whatever the order of summation
    if n <= EXACT_SIGN_FLIPS:
        return float(np.mean(np.abs(_sign_patterns(n) @ x) >= bound))
    signs = generator.integers(0, 2, size=(SIGN_FLIP_DRAWS, n)) * 2.0 - 1.0
    return float((np.count_nonzero(np.abs(signs @ x) >= bound) + 1) / (SIGN_FLIP_DRAWS + 1))


def sign_flip_floor(n: int) -> float:
    """The smallest p that the exact two-sided sign-flip test of ``n`` pairs can reach: ``2 / 2**n``."""
    return 2.0 ** (1 - n)


def equivalence(d: ArrayLike, margin: float) -> float:
    """p of two one-sided t tests (TOST, Schuirmann 1987) that the mean difference lies within ``±margin``.

    It is the larger of the p values of ``mean <= -margin`` and ``mean >= margin``, and below .05 exactly if the 90 % interval
    lies inside the margin. If all differences are the same it is NaN: without a spread nothing says how far the mean may lie
    from what was measured, and equal values of a coarse measure would look like equivalence.

    Args:
        d: the differences.
        margin: half width of what counts as equivalent, in the unit of ``d``; NaN gives NaN.
    """
    return math.nan if is_constant(d) else max(_p_above(d, -margin), _p_below(d, margin))


def not_below(d: ArrayLike, margin: float) -> float:
    """p of the one-sided t test that the mean difference lies above ``-margin`` (non-inferiority); one side of ``equivalence``.

    Args:
        d: the differences. If all are the same it is NaN, as for equivalence.
        margin: how much less still counts as no less, in the unit of ``d``; NaN gives NaN.
    """
    return math.nan if is_constant(d) else _p_above(d, -margin)


def beyond_margin(d: ArrayLike, margin: float) -> float:
    """Two-sided p that the mean difference lies outside ``±margin``; below .05 exactly if the 95 % interval lies outside.

    If all differences are the same, the exact one-sided sign-flip test replaces the t test: ``2**-n`` outside, 1 inside.

    Args:
        d: the differences.
        margin: half width of what counts as equivalent, in the unit of ``d``; NaN gives NaN.
    """
    return min(1.0, 2 * min(_p_above(d, margin), _p_below(d, -margin)))


def hedges_dz(d: ArrayLike) -> float:
    """Standardised mean difference of pairs, ``d_z = mean / sd``, times Hedges's (1981) exact small-sample correction.

    ``J(m) = gamma(m / 2) / (sqrt(m / 2) gamma((m - 1) / 2))`` with m = n - 1.

    Returns:
        0 if all differences are 0. NaN below three pairs, and if all differences are the same but not 0.
    """
    x = np.asarray(d, float)
    if x.size < 3:
        return math.nan
    if is_constant(x):
        return 0.0 if not x.any() else math.nan
    m = x.size - 1
    correction = math.exp(math.lgamma(m / 2) - math.lgamma((m - 1) / 2)) / math.sqrt(m / 2)
    return correction * float(x.mean() / x.std(ddof=1))


def superiority(d: ArrayLike, level: float = 0.95) -> Interval:
    """Fraction of the pairs in which the arm has the larger value, with Wilson's (1927) interval. A tie counts half.

    Args:
        d: the differences.
        level: confidence level of the interval.
    """
    x = np.asarray(d, float)
    if x.size == 0:
        return Interval(math.nan, math.nan, math.nan)
    n, part = x.size, float(np.mean((np.sign(x) + 1) / 2))
    z2 = float(special.ndtri((1 + level) / 2)) ** 2
    centre = (part + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * part * (1 - part) / n + (z2 / (2 * n)) ** 2) / (1 + z2 / n)
    return Interval(part, max(0.0, centre - half), min(1.0, centre + half))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p values: with ``p(1) <= .. <= p(m)`` the running maximum of ``(m - i + 1) p(i)``, at most 1.

    Args:
        p_values: p of each test of the family. NaN stands for a test that could not be made; it does not count in m.

    Returns:
        The adjusted values in the order given; NaN stays NaN.
    """
    p = np.asarray(p_values, float)
    order = [i for i in np.argsort(p, kind="stable") if not math.isnan(p[i])]
    adjusted, largest = np.full(p.size, math.nan), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p[i]))
        adjusted[i] = largest
    return [float(value) for value in adjusted]


def benjamini_yekutieli(p_values: Sequence[float]) -> list[float]:
    """q values by Benjamini & Yekutieli (2001, theorem 1.3), valid whatever the dependence between the tests.

    With ``p(1) <= .. <= p(m)`` and ``c(m) = 1 + 1/2 + .. + 1/m`` the q of the i-th is the running minimum from the right of
    ``m c(m) p(i) / i``, at most 1. If everything with q of at most a fixed level is believed, the expected fraction of what is
    wrong in it is at most that level.

    Args:
        p_values: p of each test. NaN stands for a test that could not be made; it does not count in m.

    Returns:
        The q values in the order given; NaN stays NaN.
    """
    p = np.asarray(p_values, float)
    order = [i for i in np.argsort(p, kind="stable") if not math.isnan(p[i])]
    m, q, least = len(order), np.full(p.size, math.nan), 1.0
    factor = m * sum(1 / k for k in range(1, m + 1))
    for rank in range(m, 0, -1):
        least = min(least, factor * p[order[rank - 1]] / rank)
        q[order[rank - 1]] = least
    return [float(value) for value in q]


def friedman(blocks: ArrayLike) -> float:
    """p of Friedman's (1937) rank test that no column tends to larger values.

    Args:
        blocks: (seeds, arms) values.

    Returns:
        1 if every row is all ties. NaN below two rows or three columns.
    """
    table = np.asarray(blocks, float)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 3:
        return math.nan
    if not np.ptp(table, axis=1).any():
        return 1.0
    from scipy.stats import friedmanchisquare  # here, because scipy.stats takes half a second to import

    return float(friedmanchisquare(*table.T).pvalue)


def slopes(x: Array, courses: Array) -> Array:
    """Least-squares slope of each course.

    Args:
        x: (L,) places of the levels.
        courses: (n, L) values.

    Returns:
        (n,) slopes, per unit of ``x``.
    """
    centred = x - x.mean()
    return np.asarray(courses @ centred / (centred @ centred), float)


def page_trend(courses: ArrayLike, rising: bool) -> float:
    """p of Page's (1963) test that the columns rise, or fall, in the order given.

    It is twice the one-sided p, because the direction is taken from the data: so a rising and a falling trend together are
    found falsely in at most 5 %. SciPy decides whether it is exact or a normal approximation.

    Args:
        courses: (seeds, levels) values.
        rising: whether to test for a rise, not for a fall.

    Returns:
        1 if every row is all ties. NaN below two rows or three columns.
    """
    table = np.asarray(courses, float)
    if table.shape[0] < 2 or table.shape[1] < 3:
        return math.nan
    if not np.ptp(table, axis=1).any():
        return 1.0
    from scipy.stats import page_trend_test

    return min(1.0, 2 * float(page_trend_test(table if rising else table[:, ::-1]).pvalue))


def mcnemar(only_arm: int, only_baseline: int) -> float:
    """Two-sided exact p of McNemar's (1947) test that an image which only one of two runs gets right is as likely either's.

    Args:
        only_arm: number of images that only the arm's run gets right.
        only_baseline: number of images that only the baseline's run gets right.

    Returns:
        1 if there is no such image.
    """
    if not only_arm + only_baseline:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(only_arm, only_arm + only_baseline).pvalue)


def bootstrap_draws(n: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """(2,000, n) indices of values, drawn with replacement from ``n``."""
    return generator.integers(0, n, size=(BOOTSTRAP_DRAWS, n))


def bca_interval(d: ArrayLike, draws: NDArray[np.intp], level: float = 0.95) -> Interval:
    """Mean with the bias-corrected and accelerated bootstrap interval (Efron 1987).

    For display only: with five values a 95 % interval covers 87 %. ``scipy.stats.bootstrap`` gives the same, but takes twenty
    times as long, because it draws anew for every sample.

    Args:
        d: (n,) values.
        draws: ``bootstrap_draws`` of n; the same draws serve every sample of n values.
        level: confidence level of the interval.

    Returns:
        The bounds are NaN below three values, and if all values are the same.
    """
    x = np.asarray(d, float)
    mean = float(x.mean()) if x.size else math.nan
    if x.size < MIN_VALUES or is_constant(x):
        return Interval(mean, math.nan, math.nan)
    means = x[draws].mean(axis=1)
    bias = special.ndtri((np.mean(means < mean) + np.mean(means <= mean)) / 2)
    deviations = x - mean  # proportional to the jackknife's
    acceleration = np.sum(deviations**3) / (6 * np.sum(deviations**2) ** 1.5)
    shifted = bias + special.ndtri([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(means, special.ndtr(bias + shifted / (1 - acceleration * shifted)))
    return Interval(mean, float(low), float(high))


def _standard_error(x: Array) -> float:
    return float(x.std(ddof=1)) / math.sqrt(x.size)


def _p_above(d: ArrayLike, bound: float) -> float:
    """One-sided p of the mean being at most ``bound``: small if the differences lie above it."""
    x = np.asarray(d, float)
    if x.size < 2 or math.isnan(bound):
        return math.nan
    if is_constant(x):
        return 2.0**-x.size if x.mean() > bound else 1.0
    return float(special.stdtr(x.size - 1, -(x.mean() - bound) / _standard_error(x)))


def _p_below(d: ArrayLike, bound: float) -> float:
    return _p_above(-np.asarray(d, float), -bound)


@cache
def _sign_patterns(n: int) -> Array:
    """(2**(n-1), n) patterns of ±1 whose last sign is +; the others are their mirror images with the same |mean|."""
    bits = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1
    return 1.0 - 2.0 * bits.astype(np.float64)
