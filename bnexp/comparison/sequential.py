"""Tests that stay valid when one looks at the results, adds pairs and looks again.

``d`` is always a ``(n,)`` array of paired differences, as in ``stats``, in the order in which the seeds came. Each test is a
betting score that starts at 1. If the null hypothesis holds, each bet is fair, so the score ever reaches ``1 / alpha`` with a
probability of at most ``alpha``, whenever and why ever one stops (Ville 1939). Nothing is watched before
``stats.MIN_PAIRS`` pairs.

With ``K = 1 + n g``, ``v = n - 1`` and Student's ``t`` of n pairs, the mixture t process is::

    E_n = K^(-1/2) ((1 + t^2 / v) / (1 + t^2 / (v K)))^(n / 2) = K^(-1/2) (1 - w^2 g / K)^(-n / 2)

with ``w = sum(d) / sqrt(sum(d^2))``. It is the likelihood ratio of the t statistics so far between a standardised effect drawn
from N(0, g) and the effect 0. Its distribution under normal differences of mean 0 is therefore known, whatever their spread.
Differences of arms that are exchangeable are symmetric; with symmetric differences of other kinds the rates are kept as well
(simulated in the tests). With a mean of 0 but a strong skew they are not, nor are those of the t test itself.

References: Ville (1939), "Étude critique de la notion de collectif"; Lai (1976), "On confidence sequences"; Wang & Ramdas
(2023), "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance", arXiv:2310.03722.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from bnexp.comparison.power import MAX_PAIRS
from bnexp.comparison.sequential_null import DECLARED_G, LARGEST_LOG, log_t_process, null_boundary, null_p
from bnexp.comparison.stats import ALPHA, MIN_PAIRS, MIN_VALUES, Array, Interval, is_constant

AGAIN_G, AGAIN_ALPHA = 1.0, 0.01


def t_process(d: ArrayLike, g: float, shift: float = 0.0) -> Array:
    """Mixture t process: the score against the null that the mean difference is ``shift`` (Lai 1976; Wang & Ramdas 2023).

    Differences that are all the same have no spread to measure a mean by. While the first k are, the value is that of the
    exact sign-flip test instead: ``2**(k - 1)``, one over its p, and 1 if all are equal to ``shift``. This is a bet, too:
    twice the stake for each further difference on the same side, half of it on either side.

    Args:
        d: (n,) differences.
        g: variance of the standardised effects that the process bets on. It reaches small effects late if g is large.
        shift: the mean under the null.

    Returns:
        (n,) values E_k of the first k differences; 1 below six pairs.
    """
    x = np.asarray(d, float)
    k = np.arange(1, x.size + 1)
    same = k <= _constant_run(x)
    signs = np.where(x != shift, np.exp2(np.minimum(k - 1, LARGEST_LOG)), 1.0)
    return _watched(np.where(same, signs, _exp(log_t_process(x - shift, g))))


def sign_process(d: ArrayLike) -> Array:
    """Score against the null that a difference which is not 0 is as likely positive as negative.

    ``E = 2**m B(j + 1, m - j + 1)`` with m differences that are not 0, j of them positive, and the beta function B: the
    likelihood ratio of a chance drawn uniformly from 0 to 1 to the chance 1/2 (Ville 1939). Ties leave it as it is. It needs
    no normal differences, and suits measures with ties or with censored values.

    Args:
        d: (n,) differences.

    Returns:
        (n,) values of the first k differences; 1 below six pairs.
    """
    x = np.asarray(d, float)
    m, j = np.cumsum(x != 0), np.cumsum(x > 0)
    log_e = m * math.log(2) + special.betaln(j + 1, m - j + 1)
    return _watched(np.where(np.isnan(np.cumsum(x)), math.nan, _exp(log_e)))


@dataclass(frozen=True)
class Rule:
    """What a look at the results needs to reach a verdict, so that looking often does not make false verdicts frequent.

    ``p(d) < alpha`` exactly if the interval of some look so far, at level ``1 - alpha``, left out 0. The exception are first
    differences that are all the same: they have a p, that of the exact sign-flip test, but no interval.

    Attributes:
        name: ``declared`` or ``again``.
        g: variance of the standardised effects that the process bets on.
        alpha: the level that p must reach.
        max_seeds: the last look that was declared; later differences are ignored. None if there is none.
    """

    name: str
    g: float
    alpha: float
    max_seeds: int | None = None

    @classmethod
    def declared(cls, max_seeds: int) -> Rule:
        """The rule of a plan that was made before the first run: looks at any time up to ``max_seeds`` pairs, level .05.

        Raises:
            ValueError: if ``max_seeds`` is below 6.
        """
        if max_seeds < MIN_PAIRS:
            raise ValueError(f"max_seeds is {max_seeds}, but a verdict needs at least {MIN_PAIRS} pairs")
        return cls("declared", DECLARED_G, ALPHA, max_seeds)

    @classmethod
    def again(cls) -> Rule:
        """The rule of later looks at a question that was already concluded: any number of pairs, level .01."""
        return cls("again", AGAIN_G, AGAIN_ALPHA)

    def boundary(self, alpha: float) -> float:
        """The value that the process must reach for a p of ``alpha``, so that p is ``alpha`` exactly at this value."""
        if self.max_seeds is None:
            return 1 / alpha
        return null_boundary(alpha, self.max_seeds)

    def p(self, d: ArrayLike, signs: bool = False) -> float:
        """Two-sided p that the mean difference is 0, valid at every look.

        Args:
            d: (n,) differences.
            signs: whether to use ``sign_process``, with p = 1 / its largest value.

        Returns:
            1 below six pairs, and if all differences are 0; NaN if a difference is NaN.
        """
        if signs:
            e = sign_process(np.asarray(d, float)[: self.max_seeds])
            return 1 / float(e.max(initial=1.0))
        return self._p(d, 0.0, (-1, 1))

    def p_equivalence(self, d: ArrayLike, margin: float) -> float:
        """p that the mean difference lies within ``±margin``, valid at every look.

        It is the larger of the p values of ``mean <= -margin`` and ``mean >= margin``, each from the looks at which the mean
        so far lay on the inner side. It is below alpha exactly if some interval so far, at level ``1 - alpha``, lay above
        ``-margin`` and some interval lay below ``margin``. So each side has a level of about alpha / 2.

        Args:
            d: (n,) differences.
            margin: half width of what counts as equivalent, in the unit of ``d``; NaN gives NaN.
        """
        return max(self._p(d, -margin, (1,)), self._p(d, margin, (-1,)))

    def p_not_below(self, d: ArrayLike, margin: float) -> float:
        """p that the mean difference lies above ``-margin``, valid at every look: one side of ``p_equivalence``.

        Args:
            d: (n,) differences.
            margin: how much less still counts as no less, in the unit of ``d``; NaN gives NaN.
        """
        return self._p(d, -margin, (1,))

    def p_beyond(self, d: ArrayLike, margin: float) -> float:
        """p that the mean difference lies outside ``±margin``; below alpha exactly if some interval so far lay outside.

        Args:
            d: (n,) differences.
            margin: half width of what counts as equivalent, in the unit of ``d``; NaN gives NaN.
        """
        return min(self._p(d, margin, (1,)), self._p(d, -margin, (-1,)))

    def interval(self, d: ArrayLike, level: float | None = None) -> Interval:
        """Mean with the confidence sequence at n: all means that the process of n differences does not reject.

        All intervals of a course together contain the true mean with a chance of at least ``level``. With the boundary b and
        ``c = (b sqrt(K))^(2 / n)`` it is ``mean ± sd sqrt(v K (c - 1) / (n (K - c)))``.

        Args:
            d: (n,) differences.
            level: confidence level; None is ``1 - alpha``.

        Returns:
            The bounds are NaN below six pairs, if all differences are the same, and if the interval is unbounded.
        """
        x = np.asarray(d, float)[: self.max_seeds]
        mean = float(x.mean()) if x.size else math.nan
        if x.size < MIN_PAIRS or is_constant(x):
            return Interval(mean, math.nan, math.nan)
        boundary = self.boundary(self.alpha if level is None else 1 - level)
        half = float(_half_width(np.array([x.size]), self.g, boundary)[0] * x.std(ddof=1))
        return Interval(mean, mean - half, mean + half)

    def course(self, d: ArrayLike, level: float | None = None) -> list[Interval]:
        """The interval of each look, ``interval(d[:k])`` for k = 1 to n."""
        x = np.asarray(d, float)[: self.max_seeds]
        return [self.interval(x[:k], level) for k in range(1, x.size + 1)]

    def _p(self, d: ArrayLike, shift: float, sides: tuple[int, ...]) -> float:
        """p of the null that the mean is ``shift``, from the looks with a mean on one of the sides: above 1, below -1.

        One side of the two-sided test serves for the nulls ``mean <= shift`` and ``mean >= shift`` as well: with a mean further
        from the side every t is further from it, too.
        """
        x = np.asarray(d, float)[: self.max_seeds]
        if math.isnan(shift) or np.isnan(x).any():
            return math.nan
        k = np.arange(1, x.size + 1)
        e = t_process(x, self.g, shift)
        seen = (k >= MIN_PAIRS) & np.isin(np.sign(np.cumsum(x - shift)), sides)
        same = k <= _constant_run(x)
        # The law of the t process says nothing of differences that are all the same; their bet needs Ville's inequality.
        p_same = 1 / float(e[seen & same].max(initial=1.0))
        highest = float(e[seen & ~same].max(initial=0.0))
        p_t = null_p(highest, self.max_seeds) if self.max_seeds is not None else 1 / max(highest, 1.0)
        return min(p_same, p_t)


def seeds_needed(d: ArrayLike, rule: Rule, margin: float | None = None, alpha: float | None = None) -> int | None:
    """The number of pairs at which a rule is expected to settle, if the mean and the spread stay as they are.

    Args:
        d: (n,) differences so far.
        rule: the rule.
        margin: None if a difference is to be shown; otherwise the margin inside which the interval must come to lie.
        alpha: the level to reach, for example after a division by Holm's method; None is that of the rule.

    Returns:
        At least n and 6. It may be above ``rule.max_seeds``: such a plan is futile. None if it would never settle, if more than
        10,000 pairs would be needed, or if there are fewer than three pairs.
    """
    x = np.asarray(d, float)[: rule.max_seeds]
    if x.size < MIN_VALUES:
        return None
    alpha = rule.alpha if alpha is None else alpha
    mean, least = abs(float(x.mean())), max(MIN_PAIRS, x.size)
    if is_constant(x):
        shown = mean > 0 if margin is None else mean < margin
        return max(least, 1 + math.ceil(-math.log2(alpha))) if shown else None
    n = np.arange(least, MAX_PAIRS + 1)
    half = _half_width(n, rule.g, rule.boundary(alpha)) * x.std(ddof=1)
    enough = n[half < mean if margin is None else half < margin - mean]
    return int(enough[0]) if enough.size else None


def signs_needed(d: ArrayLike, alpha: float, optimism: float = 0.0) -> int | None:
    """The number of pairs at which ``sign_process`` is expected to reach ``1 / alpha``, if ties and signs keep their shares.

    Args:
        d: (n,) differences so far.
        alpha: the level to reach.
        optimism: standard errors by which the share of the more frequent sign is taken to be larger.

    Returns:
        At least n and 6. None if there is no difference, or if more than 10,000 pairs would be needed.
    """
    x = np.asarray(d, float)
    num_signs, num_up = int(np.count_nonzero(x)), int(np.count_nonzero(x > 0))
    if not num_signs:
        return None
    part = max(num_up, num_signs - num_up) / num_signs
    part = min(1.0, part + optimism * math.sqrt(part * (1 - part) / num_signs))
    n = np.arange(max(MIN_PAIRS, x.size), MAX_PAIRS + 1)
    signs = n * num_signs // x.size
    log_e = signs * math.log(2) + special.betaln(part * signs + 1, (1 - part) * signs + 1)
    enough = n[log_e >= -math.log(alpha)]
    return int(enough[0]) if enough.size else None


def _exp(log_e: Array) -> Array:
    return np.asarray(np.exp(np.minimum(log_e, LARGEST_LOG)), float)


def _watched(e: Array) -> Array:
    e[: MIN_PAIRS - 1] = 1.0
    return e


def _constant_run(x: Array) -> int:
    """How many of the first values are all the same, as ``stats.is_constant`` has it."""
    spread = np.maximum.accumulate(x) - np.minimum.accumulate(x)
    same = spread <= 1e-9 * np.maximum.accumulate(np.abs(x))
    return x.size if same.all() else int(np.argmin(same))


def _half_width(n: ArrayLike, g: float, boundary: float) -> Array:
    """Half width of the interval of n pairs in standard deviations: where E_n is the boundary. NaN if it never is."""
    count = np.asarray(n, float)
    total = 1 + count * g
    c = np.exp((2 * math.log(boundary) + np.log(total)) / count)
    inside = (c >= 1) & (c < total)
    t2 = np.where(inside, (count - 1) * total * (c - 1), math.nan) / np.where(inside, total - c, 1.0)
    return np.asarray(np.sqrt(t2 / count), float)
