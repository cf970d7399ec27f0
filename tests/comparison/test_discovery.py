"""How many of several claims have a wrong verdict: which p stands for a claim, and what the list of them promises."""

from __future__ import annotations

import numpy as np
import pytest
from made_outcomes import BASE, GAIN, NOISE, from_values, pair, result, study

from bnexp.comparison import stats
from bnexp.comparison.discovery import claim_p, discoveries
from bnexp.comparison.looks import PastLook, look_at
from bnexp.comparison.result import StudyResult, Verdict

SMALL = [x / 4 + 0.04 for x in NOISE]  # smaller than GAIN, but with less spread


def three(first: list[float], second: list[float], **definition: object) -> StudyResult:
    """Two arms against a baseline, with these differences."""
    table = {"none": BASE, "a": [b + d for b, d in zip(BASE, first, strict=True)]}
    table["b"] = [b + d for b, d in zip(BASE, second, strict=True)]
    return result(study("none", "a", "b", **definition), from_values(table))


def test_a_claim_of_several_parts_is_supported_as_well_as_its_weakest_part() -> None:
    found = three(GAIN, SMALL, direction="greater")
    assert found.verdict is Verdict.SUPPORTED
    assert claim_p(found) == max(c.p_adjusted for c in found.comparisons) > min(c.p_adjusted for c in found.comparisons)


def test_a_claim_of_several_parts_is_refuted_by_the_clearest_part() -> None:
    found = three([-d for d in GAIN], [-d for d in SMALL], direction="greater")
    assert found.verdict is Verdict.REFUTED
    assert claim_p(found) == min(c.p_adjusted for c in found.comparisons)
    partly = three(SMALL, [-d for d in GAIN], direction="greater")
    shown, refuted = partly.comparisons
    assert partly.verdict is Verdict.REFUTED
    assert claim_p(partly) == refuted.p_adjusted > shown.p_adjusted


def test_that_not_all_arms_are_alike_needs_one_difference() -> None:
    for second in (NOISE, SMALL):
        found = three(GAIN, second, baseline=None, direction="different")
        assert found.verdict is Verdict.SUPPORTED
        assert claim_p(found) == min(c.p_adjusted for c in found.comparisons)
    alike = three(NOISE, [2 * x for x in NOISE[::-1]], baseline=None, direction="different")
    assert alike.verdict is Verdict.REFUTED
    assert claim_p(alike) == max(c.p_equivalence_adjusted for c in alike.comparisons)
    assert claim_p(alike) != min(c.p_equivalence_adjusted for c in alike.comparisons)


def test_equivalence_has_the_p_of_its_own_test_and_is_refuted_by_that_of_a_difference_beyond_the_margin() -> None:
    made = study("none", "after_pool", direction="equivalent")
    same = result(made, pair(NOISE))
    assert claim_p(same) == same.comparisons[0].p_equivalence_adjusted < 0.05
    unlike = result(made, pair(GAIN), margin=0.2)
    assert unlike.verdict is Verdict.REFUTED
    assert claim_p(unlike) == stats.beyond_margin(unlike.comparisons[0].differences, 0.2) > unlike.comparisons[0].p_adjusted


def test_an_unsettled_claim_has_no_q_but_counts_and_one_that_could_not_be_settled_does_not() -> None:
    made = study("none", "after_pool", direction="greater")
    shown, unsettled, short = (result(made, pair(d)) for d in (GAIN, [20 * x for x in NOISE], GAIN[:5]))
    found = discoveries([shown, unsettled, short])
    p = shown.comparisons[0].p_adjusted
    assert found.q == [pytest.approx(p * 2 * 1.5), None, None]
    assert (found.num_tested, found.num_verdicts, found.num_kept, found.expected_false) == (2, 1, 1, 0.1)


def test_a_verdict_that_is_weak_for_the_number_of_claims_is_not_kept() -> None:
    made = study("none", "after_pool", direction="greater")
    weak, unsettled = result(made, pair([0.1, 0.4, 0.2, 0.6, 0.0, 0.5])), result(made, pair([20 * x for x in NOISE[:6]]))
    assert 0.01 < (claim_p(weak) or 0) < 0.05
    found = discoveries([weak, unsettled])
    assert (found.num_tested, found.num_verdicts, found.num_kept) == (2, 1, 0)


def test_a_question_that_was_concluded_before_pays_for_its_second_chance() -> None:
    made = study("none", "after_pool", direction="greater")
    first = result(made, pair(GAIN))
    again = result(made, pair(GAIN), look=look_at([PastLook("abc", 6, "INCONCLUSIVE", "2026-01-01")], None, unfinished=False))
    assert again.verdict is Verdict.SUPPORTED
    assert claim_p(again) == pytest.approx(5 * again.comparisons[0].p_adjusted)
    assert discoveries([first, first]).expected_false == pytest.approx(0.1)
    assert discoveries([first, again]).expected_false == pytest.approx(0.12)


def test_of_what_is_kept_at_most_five_per_cent_is_wrong_in_the_long_run() -> None:
    # 12 claims that share a baseline and so depend on each other; 4 hold by 1 sd of a difference, 8 are null, 10 seeds.
    rng = np.random.default_rng(0)
    true = np.arange(12) < 4
    wrong, rounds = 0.0, 300
    for _ in range(rounds):
        baseline, arms = rng.standard_normal(10), rng.standard_normal((12, 10)) + 1.4 * true[:, None]
        differences = arms - baseline
        q = np.asarray(stats.benjamini_yekutieli([stats.paired_t(d) for d in differences]))
        kept = q <= stats.ALPHA
        false = kept & (~true | (differences.mean(axis=1) < 0))
        wrong += false.sum() / max(kept.sum(), 1)
    assert 0 < wrong / rounds <= stats.ALPHA
