"""At how many seeds a comparison is expected to be settled, and when more seeds are futile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_outcomes import GAIN, from_values, only, pair, result, study

from bnexp.comparison.looks import FIRST, Look
from bnexp.comparison.prospects import futile, is_open, settled_at, standing
from bnexp.comparison.result import Comparison, Test, Verdict
from bnexp.comparison.sequential import Rule, seeds_needed, signs_needed
from bnexp.config.options import Analysis, Direction

DECLARED = Look(Rule.declared(40))


def comparison(d: list[float], **keys: object) -> Comparison:
    c = only(result(study("none", "after_pool", direction="greater"), pair(GAIN)))
    given = {"differences": d, "n": len(d), "margin": 0.2, "verdict": Verdict.INCONCLUSIVE} | keys
    return replace(c, **given)  # type: ignore[arg-type]


WEAK = [0.5, -0.3, 0.4, 0.1, -0.2, 0.6]


def test_a_difference_or_equivalence_whichever_comes_first() -> None:
    d = np.array(WEAK)
    by_difference = seeds_needed(d, Rule.declared(40), None, 0.05)
    assert settled_at(comparison(WEAK, margin=float("nan")), DECLARED, 1) == by_difference
    by_equivalence = seeds_needed(d, Rule.declared(40), 1.0, 0.05)
    assert by_equivalence is not None
    assert by_difference is not None
    assert (len(WEAK), by_equivalence) == (6, 6)  # it is open with six, so at least one more is needed
    assert settled_at(comparison(WEAK, margin=1.0), DECLARED, 1) == min(by_difference, 7)
    assert settled_at(comparison(WEAK, margin=1.0, direction="equivalent"), DECLARED, 1) == 7
    for blocked in ({"unresolved": "coarse"}, {"both_untrained": 1}):
        assert settled_at(comparison(WEAK, margin=1.0, **blocked), DECLARED, 1) == by_difference


def test_optimism_moves_the_mean_by_standard_errors() -> None:
    d = np.array([0.9, -0.4, 0.5, 0.2, -0.3, 0.7])
    error = float(d.std(ddof=1)) / np.sqrt(6)
    c = comparison(d.tolist(), margin=float("nan"))
    for optimism in (0.5, 1.0):
        assert settled_at(c, DECLARED, 1, optimism) == seeds_needed(d + optimism * error, Rule.declared(40), None, 0.05)


def test_what_is_never_settled_is_not_named_as_what_comes_next() -> None:
    never, soon = comparison([0.5, -0.5] * 3, margin=0.01), comparison(WEAK, arm="soon")
    assert settled_at(never, DECLARED, 2) is None
    about = settled_at(soon, DECLARED, 2)
    for both in ([never, soon], [soon, never]):
        assert standing(both, DECLARED) == (
            f"0 of 2 deciding comparisons settled; open: soon against none (about {about} seeds) and 1 more"
        )


def test_a_family_and_a_further_look_need_more() -> None:
    c = comparison(WEAK, margin=float("nan"))
    alone, family, again = settled_at(c, DECLARED, 1), settled_at(c, DECLARED, 3), settled_at(c, FIRST, 1)
    assert alone is not None
    assert family is not None
    assert again is not None
    assert alone < family < again


@pytest.mark.parametrize(("d", "seeds"), [([1.0] * 6, 8), ([1.0, 1.0, 0.0, 1.0, 1.0, 1.0], 10), ([-2.0] * 6, 8)])
def test_signs_need_as_many_as_their_process_says(d: list[float], seeds: int) -> None:
    """``2**m / (m + 1)`` with m equal signs reaches 20 at m = 8; a sixth of the pairs may be ties."""
    assert settled_at(comparison(d, test=Test.anytime_sign, unresolved="coarse"), DECLARED, 1) == seeds
    if 0.0 not in d:
        assert Rule.declared(40).p([d[0]] * seeds, signs=True) < 0.05 <= Rule.declared(40).p([d[0]] * (seeds - 1), signs=True)


def test_pairs_of_which_no_run_trained_promise_nothing() -> None:
    """Their differences are those of guessing, so that they tell nothing of how many seeds would do."""
    assert settled_at(comparison(WEAK, both_untrained=len(WEAK)), DECLARED, 1) is None
    assert settled_at(comparison(WEAK[:1]), DECLARED, 1) is None


def test_ties_alone_are_never_settled() -> None:
    c = comparison([0.0] * 6, test=Test.anytime_sign, unresolved="all differences are the same")
    assert settled_at(c, DECLARED, 1) is None
    assert futile(c, DECLARED, 1, 40)


def test_an_effect_that_may_be_larger_than_it_looks_is_not_given_up() -> None:
    weak = comparison([0.9, -0.7, 0.8, -0.4, 0.6, -0.5], margin=0.01)
    expected = settled_at(weak, DECLARED, 1)
    assert expected is None or expected > 40
    assert not futile(weak, DECLARED, 1, 40)
    nothing = comparison([0.5, -0.5] * 15, margin=0.01)
    assert futile(nothing, DECLARED, 1, 40)


def test_what_is_settled_is_said_with_the_nearest_open_one() -> None:
    done = comparison(WEAK, verdict=Verdict.SUPPORTED)
    near, far = comparison([0.5, -0.1, 0.5, 0.2, 0.1, 0.4], level="lr=0.1"), comparison(WEAK, level="lr=0.2")
    assert [is_open(c) for c in (done, near)] == [False, True]
    assert standing([done], DECLARED) == "1 of 1 deciding comparison settled"
    assert standing([done, comparison(WEAK[:1])], DECLARED) == (
        "1 of 2 deciding comparisons settled; open: after_pool against none"
    )
    said = standing([done, far, near], DECLARED)
    assert said.startswith("1 of 3 deciding comparisons settled; open: after_pool against none at lr=0.1 (about ")
    assert said.endswith(" seeds) and 1 more")


def by_signs(look: Look) -> Comparison:
    """Seven seeds, in all of which ``bn`` trains at one level or two further."""
    outcomes = []
    for place, lr in enumerate((0.01, 0.02, 0.04, 0.08, 0.16, 0.32)):
        further = [99.0 if place <= 2 + extra else 10.0 for extra in (1, 2, 2, 2, 1, 1, 2)]
        outcomes += from_values({"none": [99.0 if place <= 2 else 10.0] * 7, "bn": further}, optim__lr=lr)
    made = study("none", "bn", direction="greater", analysis=Analysis.sensitivity)
    return result(made, outcomes, look=look).deciding[0]


@pytest.mark.parametrize(("look", "needed"), [(DECLARED, 8), (Look(Rule.again()), 11)])
def test_a_comparison_by_signs_is_not_promised_the_seeds_of_a_t_test(look: Look, needed: int) -> None:
    c = by_signs(look)
    assert c.test is Test.anytime_sign
    assert c.verdict is Verdict.INCONCLUSIVE
    assert (settled_at(c, look, 1), c.n_needed) == (needed, needed)
    assert 2**needed / (needed + 1) > 1 / look.alpha > 2 ** (needed - 1) / needed


def test_signs_are_promised_no_fewer_pairs_than_their_smallest_p_asks_for() -> None:
    """With four comparisons the smallest p of seven pairs is 4 * 2 / 2**7 = .0625, of eight .031."""
    outcomes = []
    for place, lr in enumerate((0.01, 0.02, 0.04, 0.08, 0.16, 0.32)):
        further = [99.0 if place <= 2 + extra else 10.0 for extra in (1, 2, 2, 2, 1, 1)]
        arms = {"none": [99.0 if place <= 2 else 10.0] * 6} | dict.fromkeys(("a", "b", "c", "d"), further)
        outcomes += from_values(arms, optim__lr=lr)
    made = study("none", "a", "b", "c", "d", direction="greater", analysis=Analysis.sensitivity)
    for c in result(made, outcomes).deciding:
        assert (c.test, c.verdict, c.n_needed) == (Test.sign_flip, Verdict.INCONCLUSIVE, 8)


def test_what_is_open_needs_more_seeds_than_there_are() -> None:
    c = by_signs(DECLARED)
    assert settled_at(c, DECLARED, 1) == 8 == c.n + 1


def test_a_claim_of_equivalence_that_is_about_to_be_refuted_is_not_futile() -> None:
    gain = [0.75, 0.2, 0.5, 0.1, 0.65, 0.38]  # the margin is 0.2
    c = only(result(study("none", "after_pool", direction="equivalent"), pair(gain), look=DECLARED))
    assert (c.verdict, c.direction) == (Verdict.INCONCLUSIVE, Direction.equivalent)
    about = settled_at(c, DECLARED, 1)
    assert about is not None
    assert 6 < about < 40
    assert about == seeds_needed(np.array(c.differences) - c.margin, DECLARED.rule or Rule.again())
    assert not futile(c, DECLARED, 1, 40)


def test_without_optimism_the_signs_keep_their_shares() -> None:
    mixed = [1.0, 1.0, 1.0, -1.0, 1.0, 1.0]
    expected, best = signs_needed(mixed, 0.05), signs_needed(mixed, 0.05, 1.0)
    assert expected == signs_needed(mixed, 0.05, 0.0)
    assert expected is not None
    assert best is not None
    assert best < expected


def test_at_least_as_much_is_settled_by_the_distance_from_the_lower_margin() -> None:
    rule = Rule.declared(40)
    d = 1.3 * np.array([0.05, -0.3, 0.25, -0.1, 0.35, -0.2, 0.15, 0.1])
    least = only(result(study("none", "after_pool", direction="at_least"), pair([*d, 0.0, 0.1]), look=Look(rule)))
    same = only(result(study("none", "after_pool", direction="equivalent"), pair([*d, 0.0, 0.1]), look=Look(rule)))
    found = settled_at(least, Look(rule), 1)
    assert found == seeds_needed(np.array(least.differences) + 0.2, rule, None, 0.05)
    assert found is not None
    assert found < (settled_at(same, Look(rule), 1) or 10_000)
    assert settled_at(replace(least, unresolved="too coarse"), Look(rule), 1) is None
