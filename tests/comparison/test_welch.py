"""Groups that cannot be paired: against SciPy, by hand, and by simulation with unequal spreads and sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as reference

from bnexp.comparison import power, unpaired, welch
from bnexp.comparison.contrast import Contrast
from bnexp.comparison.pairing import Groups
from bnexp.comparison.result import Comparison, Test, Verdict
from bnexp.comparison.verdict import judge
from bnexp.config.options import Direction

A, B = np.array([3.0, 4.0, 5.0, 6.5, 2.0, 4.5]), np.array([1.0, 2.0, 2.5, 0.5, 1.5, 3.0, 1.2, 2.2])


def judged(arm: np.ndarray, baseline: np.ndarray, margin: float = math.nan, untrained: int = 0) -> Comparison:
    groups = Groups(arm, baseline, untrained, "no seed is recorded", min(len(arm), len(baseline)))
    (found,) = judge([Contrast("a", "b", "", "test/accuracy", "pp", margin, groups, direction=Direction.different)])
    return found


def test_test_and_intervals_are_scipys() -> None:
    expected = reference.ttest_ind(A, B, equal_var=False)
    assert welch.welch_t(A, B) == pytest.approx(expected.pvalue, rel=1e-10)
    for level in (0.9, 0.95):
        assert welch.difference_interval(A, B, level)[1:] == pytest.approx(tuple(expected.confidence_interval(level)))
    assert welch.difference_interval(A, B).estimate == pytest.approx(A.mean() - B.mean())


@pytest.mark.parametrize("margin", [0.5, 2.5, 4.0])
def test_one_sided_tests_are_scipys_of_shifted_groups(margin: float) -> None:
    def p(shift: float, side: str) -> float:
        return float(reference.ttest_ind(A - shift, B, equal_var=False, alternative=side).pvalue)

    assert welch.equivalence(A, B, margin) == pytest.approx(max(p(-margin, "greater"), p(margin, "less")))
    beyond = 2 * min(p(margin, "greater"), p(-margin, "less"))
    assert welch.beyond_margin(A, B, margin) == pytest.approx(min(1.0, beyond))


def test_effect_size_by_hand() -> None:
    # variances 1 and 3 of three values each: standardiser sqrt(2), m = (4 * 2)^2... = 2 * 16 / 10
    a, b = np.array([9.0, 10.0, 11.0]), np.array([0.0, math.sqrt(3), 2 * math.sqrt(3)])
    m = 2 * 16 / 10
    j = math.gamma(m / 2) / (math.sqrt(m / 2) * math.gamma((m - 1) / 2))
    assert welch.hedges_g(a, b) == pytest.approx(j * (10 - math.sqrt(3)) / math.sqrt(2))
    assert welch.degrees_ratio(a, b) == pytest.approx(16 / 10)


def test_superiority_is_the_statistic_of_mann_and_whitney() -> None:
    assert welch.superiority(A, B) == pytest.approx(reference.mannwhitneyu(A, B).statistic / (A.size * B.size))
    assert welch.superiority([1.0, 2.0], [1.0, 2.0]) == 0.5


def test_groups_without_a_spread_have_no_test() -> None:
    same, other = np.full(6, 0.3), np.full(6, 0.1 + 0.2)
    assert welch.welch_t(same, other) == 1  # equal up to rounding
    assert welch.hedges_g(same, other) == 0
    apart = judged(same, same + 1, margin=0.5)
    assert math.isnan(apart.p_t)
    assert apart.unresolved == "the runs of either arm are all the same"
    assert (apart.verdict, apart.n_needed) == (Verdict.INCONCLUSIVE, None)
    assert math.isnan(welch.equivalence(same, other, 1.0))
    assert math.isnan(welch.welch_t([1.0], B))
    assert math.isnan(welch.difference_interval([1.0, 2.0], B).low)  # as for pairs, from three values on


def test_runs_needed_reach_the_power() -> None:
    n = power.runs_needed(1.0, 2.0)
    assert n == 17  # of the tables for two groups at 80 % power
    assert power.power_welch(1.0, 17) >= 0.8 > power.power_welch(1.0, 16)
    rng = np.random.default_rng(3)
    arm, baseline = rng.normal(1, 0.5, (4000, 17)), rng.normal(0, math.sqrt(2 - 0.25), (4000, 17))
    found = np.mean(reference.ttest_ind(arm, baseline, axis=1, equal_var=False).pvalue < 0.05)
    assert found == pytest.approx(
        power.power_welch(1.0, 17, welch.degrees_ratio([0, 0.5, 1], [0, 1.75**0.5, 7**0.5])), abs=0.025
    )


def test_a_comparison_of_groups_says_what_it_is_and_is_judged_like_one_of_pairs() -> None:
    found = judged(A, B, margin=0.5)
    assert (found.test, found.unpaired, found.sizes, found.n) == (Test.welch, "no seed is recorded", [6, 8], 6)
    assert (found.verdict, found.seeds, found.differences) == (Verdict.SUPPORTED, [], [])
    assert (found.counted, found.equivalence_test) == ("6 and 8 runs", "Welch's TOST")
    assert judged(A, A[::-1] + 0.01, margin=3.0).verdict is Verdict.EQUIVALENT
    assert judged(A, A[::-1] + 0.5, margin=0.1).verdict is Verdict.INCONCLUSIVE


def test_fewer_than_six_runs_in_either_group_allow_an_estimate_only() -> None:
    assert judged(A[:5], B).verdict is Verdict.ESTIMATE
    assert judged(B, A[:5]).verdict is Verdict.ESTIMATE
    assert judged(A, B[:6]).verdict is Verdict.SUPPORTED


def test_groups_that_never_trained_are_not_tested() -> None:
    found = judged(A, B[:6], margin=9.0, untrained=6)
    assert math.isnan(found.p_t)
    assert (found.verdict, found.n, found.measured) == (Verdict.INCONCLUSIVE, 6, 0)
    assert math.isnan(judged(A, B, margin=9.0, untrained=1).p_equivalence)  # an untrained run is no evidence of it


@pytest.mark.parametrize(("n", "m", "ratio"), [(6, 6, 1), (6, 6, 5), (6, 20, 1), (6, 20, 5), (20, 6, 5), (12, 20, 3)])
def test_equal_means_are_told_apart_in_at_most_5_percent(n: int, m: int, ratio: float) -> None:
    trials = 20_000
    rng = np.random.default_rng([n, m, ratio])
    arm, baseline = rng.normal(0, ratio, (trials, n)), rng.normal(0, 1, (trials, m))
    p = np.array([welch.welch_t(a, b) for a, b in zip(arm[:2000], baseline[:2000], strict=True)])
    exact = reference.ttest_ind(arm, baseline, axis=1, equal_var=False).pvalue  # the same test, for many more trials
    assert p == pytest.approx(exact[:2000])
    # Welch's degrees of freedom are estimated: up to 0.4 percentage points more with six wide runs against twenty narrow ones.
    assert np.mean(exact < 0.05) <= 0.05 + 0.004 + 3.5 * math.sqrt(0.05 * 0.95 / trials)


def test_few_shared_seeds_are_no_pairs_but_all_of_a_small_group_are() -> None:
    from bnexp.comparison.pairing import Pairs, Results
    from bnexp.comparison.result import Outcome, Status

    def kind(ours: range, theirs: range) -> object:
        outcomes = [
            Outcome(arm, "", {}, seed, Status.finished, 0.5 + seed / 100, f"{arm}{seed}")
            for arm, seeds in (("a", ours), ("b", theirs))
            for seed in seeds
        ]
        return unpaired.matched(Results(outcomes, "test/accuracy", metrics={}), "a", "b", "", {}, {})

    assert isinstance(kind(range(10), range(4, 14)), Pairs)  # six
    few = kind(range(10), range(5, 15))
    assert isinstance(few, Groups)
    assert (few.why, few.arm.size, few.baseline.size) == ("they share only 5 seeds", 10, 10)
    assert isinstance(kind(range(3), range(10)), Pairs)  # all three
    assert isinstance(kind(range(4), range(2, 12)), Pairs)  # two of four
    lost = Results(
        [Outcome("a", "", {}, None, Status.diverged, 0.1, f"a{n}") for n in range(6)]
        + [Outcome("b", "", {}, None, Status.finished, 0.5 + n / 100, f"b{n}") for n in range(6)],
        "test/accuracy",
        metrics={},
    )
    groups = unpaired.matched(lost, "a", "b", "", {("a", ""): "no seed is recorded for a"}, {})
    assert isinstance(groups, Groups)
    assert (groups.both_untrained, groups.why) == (0, "no seed is recorded for a")  # one of each pair has trained
    none = kind(range(4), range(3, 12))
    assert isinstance(none, Groups)
    assert none.why == "they share only 1 seed"
