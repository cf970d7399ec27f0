"""Statistics against values worked out by hand, against SciPy's own tests, and against the properties they must have."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as reference

from bnexp.comparison import power, stats

NO_DRAWS = np.random.default_rng(0)
numbers = st.integers(-1000, 1000).map(lambda k: k / 100)
samples = st.integers(2, 9).flatmap(lambda n: arrays(float, n, elements=numbers))
p_values = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=8)


def test_mean_interval_by_hand() -> None:
    # mean 3, sd sqrt(2.5), t(4, .975) = 2.776445
    estimate, low, high = stats.mean_interval([1, 2, 3, 4, 5])
    assert estimate == 3
    assert high - 3 == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)
    assert low == pytest.approx(6 - high)


@pytest.mark.parametrize("values", [[2.0], [1.0, 3.0], [2.0, 2.0, 2.0]])
def test_mean_interval_needs_three_values_that_vary(values: list[float]) -> None:
    estimate, low, high = stats.mean_interval(values)
    assert estimate == 2
    assert math.isnan(low)
    assert math.isnan(high)
    assert math.isnan(stats.mean_interval([]).estimate)


def test_paired_t_is_scipys() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(1, 1, 12), rng.normal(0.5, 1, 12)
    d = stats.differences(a, b)
    expected = reference.ttest_rel(a, b)
    assert stats.paired_t(d) == pytest.approx(expected.pvalue, rel=1e-10)
    for level in (0.9, 0.95):
        assert stats.mean_interval(d, level)[1:] == pytest.approx(tuple(expected.confidence_interval(level)))


def test_equal_results_are_ties_in_spite_of_rounding() -> None:
    d = stats.differences([0.1 + 0.2, 98.94], [0.3, 98.94])
    assert not d.any()
    assert stats.paired_t(d) == 1
    constant = stats.differences([98.96 + 0.1, 98.86 + 0.2, 97.0 + 0.3], [98.96, 98.86 + 0.1, 97.2])
    assert stats.is_constant(constant)
    assert math.isnan(stats.paired_t(constant))
    assert math.isnan(stats.hedges_dz(constant))
    assert math.isnan(stats.mean_interval(constant).low)


def test_sign_flip_by_hand() -> None:
    # |sum| of the 8 patterns of (1, 2, 3): 6 4 2 0 0 2 4 6
    assert stats.sign_flip([1, 2, 3], NO_DRAWS) == 2 / 8
    assert stats.sign_flip([-1, 2, 3], NO_DRAWS) == 4 / 8
    assert stats.sign_flip([0, 0], NO_DRAWS) == 1
    assert math.isnan(stats.sign_flip([], NO_DRAWS))


@pytest.mark.parametrize("n", [5, 9])
def test_sign_flip_is_scipys_permutation_test(n: int) -> None:
    d = np.random.default_rng(n).normal(0.6, 1, n)
    expected = reference.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert stats.sign_flip(d, NO_DRAWS) == pytest.approx(expected.pvalue)


def test_sampled_sign_flip_agrees_with_exact_and_never_reaches_zero() -> None:
    d = np.random.default_rng(3).normal(0.5, 1, 15)
    signs = ((np.arange(2**15)[:, None] >> np.arange(15)) & 1) * 2.0 - 1.0
    exact = np.mean(np.abs(signs @ d) >= abs(d.sum()) - 1e-9)
    assert stats.sign_flip(d, np.random.default_rng(0)) == pytest.approx(exact, abs=4 * math.sqrt(exact / 9_999))
    for n in (15, 30):  # 15 pairs have more patterns than are drawn
        assert stats.sign_flip(np.arange(1.0, n + 1), np.random.default_rng(0)) >= 1 / 10_000
    assert stats.sign_flip(np.ones(30) + d.mean(), np.random.default_rng(0)) == 1 / 10_000


@given(samples)
def test_sign_flip_knows_no_side_and_keeps_its_floor(d: np.ndarray) -> None:
    p = stats.sign_flip(d, NO_DRAWS)
    assert p == stats.sign_flip(-d, NO_DRAWS)
    assert stats.sign_flip_floor(d.size) <= p <= 1


def test_equivalence_is_two_one_sided_tests() -> None:
    d = np.random.default_rng(4).normal(0.1, 0.3, 10)
    above = reference.ttest_1samp(d, -0.2, alternative="greater").pvalue
    below = reference.ttest_1samp(d, 0.2, alternative="less").pvalue
    assert stats.equivalence(d, 0.2) == pytest.approx(max(above, below), rel=1e-10)
    assert math.isnan(stats.equivalence(d, math.nan))


@given(samples, st.floats(0.01, 5, allow_subnormal=False))
def test_equivalence_says_what_its_90_percent_interval_says(d: np.ndarray, margin: float) -> None:
    if stats.is_constant(d) or d.size < stats.MIN_VALUES:
        return
    _, low, high = stats.mean_interval(d, 0.90)
    if min(abs(low + margin), abs(high - margin)) > 1e-6:
        assert (stats.equivalence(d, margin) < 0.05) == (-margin < low and high < margin)
    _, low, high = stats.mean_interval(d, 0.95)
    if min(abs(low - margin), abs(high + margin)) > 1e-6:
        assert (stats.beyond_margin(d, margin) < 0.05) == (low > margin or high < -margin)


def test_differences_without_variance_are_judged_by_signs_alone() -> None:
    assert math.isnan(stats.equivalence(np.zeros(6), 0.2))  # ties are no evidence of equivalence
    assert math.isnan(stats.equivalence(np.full(6, 0.1), 0.2))
    assert stats.beyond_margin(np.full(6, 0.3), 0.2) == 2**-5
    assert stats.hedges_dz(np.zeros(6)) == 0


def test_hedges_dz_by_hand() -> None:
    # mean 3, sd sqrt(2.5); J(4) = gamma(2) / (sqrt(2) gamma(1.5)) = 1 / (sqrt(2) sqrt(pi) / 2)
    assert stats.hedges_dz([1, 2, 3, 4, 5]) == pytest.approx(3 / math.sqrt(2.5) * 2 / math.sqrt(2 * math.pi))
    assert math.isnan(stats.hedges_dz([1, 2]))


def test_hedges_correction_removes_the_bias() -> None:
    rng = np.random.default_rng(5)
    effects = [stats.hedges_dz(d) for d in rng.normal(0.8, 1, (4_000, 6))]
    assert np.mean(effects) == pytest.approx(0.8, abs=4 * float(np.std(effects)) / math.sqrt(4_000))


def test_superiority_counts_ties_half_with_wilsons_interval() -> None:
    assert stats.superiority([1, 0, -1, 0]).estimate == 0.5
    expected = reference.binomtest(8, 10).proportion_ci(method="wilson")
    assert stats.superiority([1.0] * 8 + [-1.0] * 2) == pytest.approx((0.8, expected.low, expected.high))
    assert stats.superiority([1.0] * 5).high == 1


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.5, 0.9]) == [1, 1]
    adjusted = stats.holm([0.01, math.nan, 0.03])
    assert adjusted[0] == 0.02
    assert math.isnan(adjusted[1])
    assert adjusted[2] == 0.03


@given(p_values)
def test_holm_is_monotone_and_between_raw_and_bonferroni(p: list[float]) -> None:
    adjusted = stats.holm(p)
    order = np.argsort(p, kind="stable")
    assert all(np.diff(np.array(adjusted)[order]) >= 0)
    assert all(raw <= a <= min(1, raw * len(p)) for raw, a in zip(p, adjusted, strict=True))
    assert stats.holm(p[::-1]) == adjusted[::-1]


@given(p_values)
def test_benjamini_yekutieli_is_scipys(p: list[float]) -> None:
    assert stats.benjamini_yekutieli(p) == pytest.approx(reference.false_discovery_control(p, method="by"), rel=1e-12)


def test_benjamini_yekutieli_by_hand() -> None:
    # m = 3 tests were made, c(3) = 11/6: .01 * 5.5 / 1, .03 * 5.5 / 2, .04 * 5.5 / 3
    q = stats.benjamini_yekutieli([0.04, math.nan, 0.01, 0.03])
    assert math.isnan(q[1])
    assert [q[0], q[2], q[3]] == pytest.approx([0.22 / 3, 0.055, 0.22 / 3])
    assert stats.benjamini_yekutieli([]) == []


def test_friedman_is_scipys() -> None:
    table = np.random.default_rng(6).normal([0, 0, 0.5, 1], 1, (8, 4))
    assert stats.friedman(table) == pytest.approx(reference.friedmanchisquare(*table.T).pvalue)
    assert stats.friedman(np.ones((5, 3))) == 1
    assert math.isnan(stats.friedman(table[:, :2]))


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_the_bootstrap_interval_of_a_skewed_sample_is_scipys_on_the_same_draws(level: float) -> None:
    d = np.random.default_rng(7).exponential(1, 12)
    draws = stats.bootstrap_draws(12, np.random.default_rng(8))
    same = SimpleNamespace(bootstrap_distribution=d[draws].mean(axis=1))
    keys: dict[str, Any] = {"method": "BCa", "n_resamples": 0, "bootstrap_result": same}
    expected = reference.bootstrap((d,), np.mean, confidence_level=level, **keys).confidence_interval
    assert stats.bca_interval(d, draws, level) == pytest.approx((d.mean(), expected.low, expected.high), rel=1e-9)


def test_the_bootstrap_interval_of_a_sample_with_ties_is_scipys() -> None:
    d = np.array([0.0, 0, 0, 1, 1, 2, 3, 9])
    draws = stats.bootstrap_draws(8, np.random.default_rng(8))
    same = SimpleNamespace(bootstrap_distribution=d[draws].mean(axis=1))
    keys: dict[str, Any] = {"method": "BCa", "n_resamples": 0, "bootstrap_result": same}
    expected = reference.bootstrap((d,), np.mean, **keys).confidence_interval
    assert (same.bootstrap_distribution == d.mean()).any()
    assert stats.bca_interval(d, draws) == pytest.approx((d.mean(), expected.low, expected.high), rel=1e-9)


@pytest.mark.parametrize("effect", [0.1, 0.8, 3.0, 40.0])
def test_power_is_a_probability_that_grows_with_pairs(effect: float) -> None:
    found = [power.power_paired_t(effect, n, 0.01) for n in range(2, 400)]
    assert all(0 <= value <= 1 for value in found)
    assert min(np.diff(found)) > -1e-9
    assert power.power_paired_t(0.0, 12, 0.01) == pytest.approx(0.01)


@pytest.mark.parametrize(("effect", "pairs"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_pairs_needed_are_those_of_gpower(effect: float, pairs: int) -> None:
    assert power.pairs_needed(effect) == power.pairs_needed(-effect) == pairs


@given(st.floats(0.03, 50, allow_subnormal=False), st.sampled_from([0.05, 0.01]))
def test_pairs_needed_is_the_smallest_number(effect: float, alpha: float) -> None:
    n = power.pairs_needed(effect, alpha=alpha)
    if n is None:
        assert power.power_paired_t(effect, power.MAX_PAIRS, alpha) < 0.8
    else:
        assert power.power_paired_t(effect, n, alpha) >= 0.8
        assert n == 2 or power.power_paired_t(effect, n - 1, alpha) < 0.8


@pytest.mark.parametrize("effect", [0.0, math.nan, math.inf, 0.001])
def test_no_number_of_pairs_where_there_is_no_effect_or_a_tiny_one(effect: float) -> None:
    assert power.pairs_needed(effect) is None


def test_the_largest_number_of_pairs_named_is_10_000() -> None:
    assert power.pairs_needed(0.0280192) == 10_000
    assert power.pairs_needed(0.0280178) is None  # 10,001


@pytest.mark.parametrize(("n", "alpha"), [(3, 0.05), (6, 0.05), (6, 0.005), (10, 0.025)])
def test_the_smallest_effect_and_the_largest_spread_are_found_with_the_power_asked_for(n: int, alpha: float) -> None:
    assert power.power_paired_t(power.smallest_effect(n, alpha=alpha), n, alpha) == pytest.approx(0.8, abs=1e-4)
    assert power.power_equivalence(0.0, power.largest_sd(n, 2.0, alpha=alpha), 2.0, n, alpha) == pytest.approx(0.8, abs=1e-4)


def test_pairs_needed_for_equivalence() -> None:
    n = power.pairs_needed_equivalence(0.05, 0.3, 0.2)
    assert n is not None
    assert power.power_equivalence(0.05, 0.3, 0.2, n) >= 0.8 > power.power_equivalence(0.05, 0.3, 0.2, n - 1)
    assert power.pairs_needed_equivalence(-0.05, 0.3, 0.2) == n
    assert power.pairs_needed_equivalence(0.2, 0.3, 0.2) is None
    assert power.pairs_needed_equivalence(0.05, 0.0, 0.2) is None


def test_an_interval_by_resampling_needs_three_values() -> None:
    generator = np.random.default_rng(0)
    two, three = (stats.bca_interval(d, stats.bootstrap_draws(len(d), generator)) for d in ([1.0, 2.0], [1.0, 2.0, 4.0]))
    assert math.isnan(two.low)
    assert 1.0 <= three.low < three.estimate < three.high <= 4.0


def test_page_is_twice_scipys_one_sided_p_also_with_rows_of_ties() -> None:
    table = np.array([[1.0, 2.0, 3.0], [2.0, 2.0, 2.0], [1.0, 3.0, 2.0], [0.0, 1.0, 5.0], [1.0, 2.0, 4.0]])
    assert stats.page_trend(table, rising=True) == pytest.approx(2 * reference.page_trend_test(table).pvalue)
    assert stats.page_trend(table, rising=False) == 1.0
    assert stats.page_trend(np.ones((5, 3)), rising=True) == 1.0


def test_friedman_needs_no_more_than_two_rows() -> None:
    table = [[1.0, 2.0, 3.0], [1.5, 2.5, 3.5]]
    assert stats.friedman(table) == pytest.approx(reference.friedmanchisquare(*np.transpose(table)).pvalue)
    assert math.isnan(stats.friedman(table[:1]))
