"""A plan that cannot reach a verdict says so before anything trains."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_outcomes import outcome, result, study

from bnexp.comparison import sequential, stats
from bnexp.comparison.power import largest_sd
from bnexp.comparison.reach import out_of_reach, visible_effect, what_it_sees
from bnexp.comparison.text import p_equals
from bnexp.config.options import Analysis
from bnexp.config.schema import Decides, StudyConfig
from bnexp.rng import numpy_generator

RATES = {"optim.lr": [0.1, 0.2, 0.4]}


def timed(**keys: Any) -> StudyConfig:
    return study("none", "a", "b", analysis=Analysis.time_to_target, **keys)


def test_too_few_seeds_for_any_verdict() -> None:
    assert out_of_reach(study("none", "a"), 2) == "2 seeds allow an estimate but no verdict, which needs 6: study.seeds=6."
    assert out_of_reach(study("none", "a"), 1).startswith("1 seed allows")
    assert out_of_reach(study("none", "a"), 6) == ""


def test_signs_of_several_comparisons_need_more_seeds() -> None:
    said = "With 6 seeds 2 deciding comparisons by the signs of the differences cannot go below p = .062, so there can be no "
    assert out_of_reach(timed(), 6) == said + "verdict; 7 seeds can: study.seeds=7."
    assert out_of_reach(timed(), 7) == ""
    assert out_of_reach(timed(decides=[Decides(arm="a")]), 6) == ""
    largest = study("none", "a", "b", "c", analysis=Analysis.sensitivity, factors=RATES)
    assert out_of_reach(largest, 6).endswith("7 seeds can: study.seeds=7.")
    largest.decides = [Decides(measure="area")]
    assert out_of_reach(largest, 6) == ""


def test_a_comparison_by_a_t_test_does_not_count_among_the_signs() -> None:
    """Holm's correction multiplies by the number of tests that are left, and the t test may come first."""
    assert stats.holm([1e-4, stats.sign_flip_floor(6)])[1] == stats.sign_flip_floor(6) < 0.05
    parts = [Decides(measure="largest_stable"), Decides(measure="area")]
    assert out_of_reach(study("none", "a", analysis=Analysis.sensitivity, factors=RATES, decides=parts), 6) == ""
    two = study("none", "a", "b", analysis=Analysis.sensitivity, factors=RATES, decides=parts)
    assert out_of_reach(two, 6).startswith("With 6 seeds 2 deciding comparisons by the signs of the differences ")
    assert out_of_reach(two, 6).endswith("7 seeds can: study.seeds=7.")


@pytest.mark.parametrize("num_seeds", [6, 9, 13])
def test_the_smallest_p_is_that_of_the_tests_themselves(num_seeds: int) -> None:
    """What is said of a plan is what its tests find if all differences have one sign."""
    d = 1 + 0.1 * np.arange(num_seeds)
    fixed = stats.sign_flip(d, numpy_generator(0, "test"))
    growing = sequential.Rule.declared(num_seeds).p(d, signs=True)
    for keys, p in (({}, fixed), ({"max_seeds": num_seeds}, growing)):
        said = out_of_reach(timed(decides=[Decides(arm="a")], **keys), num_seeds)
        assert (said == "") == (p < 0.05)
        assert not said or f"cannot go below {p_equals(p)}," in said


def test_what_a_plan_sees_is_what_its_tests_find_in_80_percent() -> None:
    rng, plan = np.random.default_rng(0), study("none", "a", "b")  # two deciding comparisons
    effect = visible_effect(plan, 10)
    assert effect is not None
    found = [stats.paired_t(rng.normal(effect, 1, 10)) < 0.05 / 2 for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)
    assert what_it_sees(plan, 10, 0.2, "pp") == [
        f"With 10 seeds a difference of {effect:.2f} standard deviations over the seeds in any of 2 deciding comparisons is "
        "found in 80 % of such studies."
    ]
    assert what_it_sees(plan, 5, 0.2, "pp") == []  # which allow no verdict


def test_a_plan_for_equivalence_says_how_much_its_differences_may_vary() -> None:
    alike = study("none", "a", direction="equivalent")
    (said,) = what_it_sees(alike, 10, 1.0, "pp")
    sd = float(re.findall(r"at most ([\d.]+) pp", said)[0])
    rng = np.random.default_rng(0)
    shown = [stats.equivalence(rng.normal(0, sd, 10), 1.0) < 0.05 for _ in range(2000)]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.04)
    (both,) = what_it_sees(study("none", "a", "b", direction="equivalent"), 10, 1.0, "pp")
    assert both.endswith(f"at most {largest_sd(10, 1.0, alpha=0.05 / 2):.2f} pp.")
    assert what_it_sees(alike, 10, math.nan, "") == []
    assert visible_effect(alike, 10) is None


def test_recorded_seeds_turn_standard_deviations_into_the_unit_of_the_metric() -> None:
    plan = study("none", "a")
    recorded = result(plan, [outcome(arm, s, 0.9 + 0.01 * s * (arm == "a")) for arm in ("none", "a") for s in range(3)])
    (said,) = what_it_sees(plan, 10, 0.2, "pp", recorded.comparisons)  # differences 0, 1 and 2 pp
    wider = [replace(c, differences=[2 * d for d in c.differences]) for c in recorded.comparisons]
    assert what_it_sees(plan, 10, 0.2, "pp", wider) == [said.replace(": 1.00 pp", ": 1.99 pp")]
    assert said.endswith(
        "a difference of 1.00 standard deviations over the seeds is found in 80 % of such studies: 1.00 pp, by the "
        "seeds recorded so far."
    )


def test_spreads_are_those_of_deciding_comparisons_with_enough_seeds_in_the_unit_of_the_margin() -> None:
    plan = study("none", "a", direction="at_least")
    few = result(plan, [outcome(arm, s, 0.9 + 0.01 * s * (arm == "a")) for arm in ("none", "a") for s in range(3)])
    (c,) = few.comparisons  # differences 0, 1 and 2 pp
    (said,) = what_it_sees(plan, 10, 1.0, "pp", [c])
    assert said.endswith(" pp; so far they vary by up to 1.00 pp.")
    wide = [0.0, 9.0, 18.0]
    for other in ({"decides": False}, {"unit": "nats"}, {"n": 2}):
        assert what_it_sees(plan, 10, 1.0, "pp", [c, replace(c, differences=wide, **other)]) == [said]  # type: ignore[arg-type]


def test_a_growing_plan_is_told_its_own_largest_number() -> None:
    assert out_of_reach(timed(max_seeds=7), 7).endswith("9 seeds can: study.max_seeds=9.")
