"""Measures of a course over a numeric factor: worked out by hand, and compared over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_outcomes import outcome, result, study

from bnexp.comparison.course import area, largest_stable, width
from bnexp.comparison.result import Comparison, Outcome, Status, Verdict
from bnexp.comparison.tables import comparison_rows
from bnexp.config.options import Analysis
from bnexp.config.schema import ConfigError, Decides

RATES = [0.001 * 2**k for k in range(8)]
X = np.arange(5.0)


def test_area_is_the_mean_over_the_logarithmic_range() -> None:
    assert area(X, np.full(5, 90.0)) == 90
    assert area(X, np.array([0.0, 100, 100, 100, 0])) == 75
    assert area(np.array([0.0, 1, 3]), np.array([0.0, 60, 60])) == pytest.approx((30 + 120) / 3)


def test_width_ends_where_interpolated_accuracy_is_one_point_below_the_best() -> None:
    # best 90 at 2; to the right 89.5 at 3, then 87.5 at 4: below 89 after a quarter; to the left 80 at 1: after a tenth
    assert width(X, np.array([95.0 - 25, 80, 90, 89.5, 87.5])) == pytest.approx(0.1 + 1.25)
    assert width(X, np.full(5, 50.0)) == 4
    assert width(X, np.array([90, 89, 89.5, 89, 89.2])) == 4  # one point below is still near
    # a second hill does not count: the stretch is around the best
    assert width(X, np.array([89.9, 10, 10, 10, 90])) == pytest.approx(1 / 80)


def test_largest_stable_level() -> None:
    assert largest_stable(X, np.array([True, True, False, True, False])) == 3
    assert largest_stable(X, np.zeros(5, bool)) == -1


courses = st.integers(2, 8).flatmap(lambda n: arrays(float, n, elements=st.integers(0, 100).map(float)))


@given(courses, st.integers(-5, 5))
def test_measures_do_not_depend_on_where_the_grid_lies(y: np.ndarray, shift: int) -> None:
    x = np.arange(float(y.size))
    assert area(x + shift, y) == pytest.approx(area(x, y))
    assert width(x + shift, y) == pytest.approx(width(x, y))
    assert width(x, y) == pytest.approx(width(-x[::-1], y[::-1])) or np.sum(y == y.max()) > 1
    assert y.min() - 1e-9 <= area(x, y) <= y.max() + 1e-9
    assert 0 <= width(x, y) <= x[-1]


def courses_of(edges: dict[str, int], seeds: int = 7) -> list[Outcome]:
    """Runs that reach 97 to 98 % up to an edge that varies a little with the seed, and diverge beyond it."""
    found = []
    for k, rate in enumerate(RATES):
        for arm, edge in edges.items():
            for seed in range(seeds):
                lost = k > edge + (seed % 3 == 0 and arm != "none")
                value = 0.1 if lost else 0.97 + 0.001 * k + 0.0001 * seed * (k % 2)
                status = Status.diverged if lost else Status.finished
                found.append(outcome(arm, seed, value, status, optim__lr=rate))
    return found


def test_a_wider_range_is_found_and_reported_in_octaves() -> None:
    made = study("none", "bn", question="Does it allow higher rates?", direction="greater", analysis=Analysis.sensitivity)
    found = result(made, courses_of({"none": 3, "bn": 5}))
    assert [(c.measure, c.unit, c.n, c.level) for c in found.comparisons] == [
        ("the largest learning rate at which an arm trains", "octaves", 7, ""),
        ("mean accuracy over learning rate from 0.001 to 0.128", "pp", 7, ""),
        ("the range of the learning rate within 1 pp of the best of an arm", "octaves", 7, ""),
    ]
    assert [(c.decides, c.test) for c in found.comparisons] == [(True, "sign flip"), (False, "paired t"), (False, "paired t")]
    assert [row["test"] for row in comparison_rows(found)] == ["sign flip", "paired t", "paired t"]
    assert found.comparisons[0].difference == pytest.approx(2 + 3 / 7)
    assert found.verdict is Verdict.SUPPORTED
    assert found.answer.startswith(
        "Yes: the largest learning rate at which bn trains is 5.38 times [3.82, 7.58] that of none on mnist with learning rate "
        "0.01, 10 epochs (n = 7 paired seeds, sign-flip test p = .016; larger than the margin of a factor of 2)"
    )
    assert any(note.startswith("none over the learning rate: mean accuracy ") for note in found.notes)
    assert any(note.endswith("largest stable level 0.008 (geometric mean).") for note in found.notes)
    assert not any("in 0 of" in note or "rate trains; the largest stable level counts" in note for note in found.notes)
    assert len(found.arms) == 16  # every arm at every level is still shown


def peaked(**edges: int) -> list[Outcome]:
    """Runs most accurate at the fourth rate, that train up to an edge; bn trains one rate further with seed 3."""
    found = []
    for k, rate in enumerate(RATES):
        for arm, edge in edges.items():
            for seed in range(8):
                trains = k <= edge + ((arm, seed) == ("bn", 3))
                found.append(outcome(arm, seed, 0.97 - 0.05 * abs(k - 3) if trains else 0.1, optim__lr=rate))
    return found


def test_a_range_that_is_the_same_is_told_by_a_factor_and_a_mean_by_points() -> None:
    made = study("none", "bn", analysis=Analysis.sensitivity, direction="equivalent")
    found = result(made, peaked(none=4, bn=4))
    assert found.verdict is Verdict.SUPPORTED
    assert found.answer.startswith(
        "Yes: the largest learning rate at which bn trains is the same as for none, within a factor of 2 (1.09 times "
    )
    mean = study("a", "b", analysis=Analysis.sensitivity, direction="equivalent", decides=[Decides(measure="area")])
    flat = [replace(o, value=0.9 + 0.0001 * (o.seed * len(o.level) * (o.arm == "a") % 5)) for o in peaked(a=4, b=4)]
    assert "the same as for a, within ±0.20 pp (" in result(mean, flat).answer


def test_a_mean_over_the_levels_is_told_as_more_or_less_accurate() -> None:
    made = study("none", "bn", analysis=Analysis.sensitivity, decides=[Decides(measure="area")])
    shifted = [replace(o, value=(o.value or 0) + 0.02 * (o.arm == "bn") + 0.0001 * o.seed**2) for o in peaked(none=4, wide=4)]
    arms = {"none": "none", "wide": "bn"}
    for sign, word in ((1, "more"), (-1, "less")):
        rows = [
            replace(o, arm=arms[o.arm], value=(o.value or 0) + sign * (o.arm == "wide") * (0.02 + 0.0001 * o.seed))
            for o in shifted
        ]
        answer = result(made, rows).answer
        assert answer.startswith("Yes: over learning rate from 0.001 to 0.128 bn is 2.0")
        assert f"] {word} accurate than none on average on mnist" in answer


def test_a_range_may_decide_a_study() -> None:
    made = study("none", "bn", analysis=Analysis.sensitivity, decides=[Decides(measure="width")])
    (c,) = result(made, courses_of({"none": 3, "bn": 5})).deciding
    assert c.measure == "the range of the learning rate within 1 pp of the best of an arm"


def test_a_measure_that_may_lie_beyond_the_levels_is_not_called_equivalent() -> None:
    made = study("none", "bn", analysis=Analysis.sensitivity)
    largest, _, range_ = result(made, peaked(none=4, bn=7)).comparisons
    assert largest.unresolved == "in 8 of 8 seeds it may lie beyond the levels of the learning rate"  # that of bn alone does
    assert math.isnan(largest.p_equivalence)
    assert "beyond" not in range_.unresolved
    open_above = {"none": [0.90, 0.97, 0.90], "bn": [0.90, 0.97, 0.965]}
    rows = [outcome(arm, 0, y, optim__lr=lr) for arm, ys in open_above.items() for lr, y in zip(RATES, ys, strict=False)]
    assert result(made, rows).comparisons[2].unresolved == "in 1 of 1 seeds it may lie beyond the levels of the learning rate"


def test_three_arms_are_also_tested_together() -> None:
    made = study("none", "bn", "wide", analysis=Analysis.sensitivity)
    p = result(made, peaked(none=3, bn=4, wide=6)).omnibus_p
    assert p is not None
    assert p < 0.05


def test_a_level_trains_above_the_middle_between_chance_and_the_best() -> None:
    made = study("none", "bn", analysis=Analysis.sensitivity)  # of ten classes: 10 %; the middle to 97 % is 53.5 %
    courses = {"none": [0.97, 0.9, 0.535], "bn": [0.96, 0.9, 0.5352]}
    rows = [outcome(arm, 0, y, optim__lr=lr) for arm, ys in courses.items() for lr, y in zip(RATES, ys, strict=False)]
    assert result(made, rows).comparisons[0].difference == 1


def test_levels_are_ordered_by_size_and_the_order_of_runs_does_not_matter() -> None:
    made = study("none", "bn", analysis=Analysis.sensitivity)
    outcomes = courses_of({"none": 3, "bn": 5})
    assert result(made, outcomes[::-1]).comparisons == result(made, outcomes).comparisons


def test_ends_of_the_grid_are_named() -> None:
    made = study("none", "bn", analysis=Analysis.sensitivity)
    notes = " ".join(result(made, courses_of({"none": -1, "bn": 7})).notes)
    assert "none: in 7 of 7 seeds no learning rate trains; the largest stable level counts as one step below the grid." in notes
    assert "bn: in 7 of 7 seeds the largest learning rate still trains" in notes
    assert "bn: in 7 of 7 seeds the best learning rate lies at an end of the grid; extend the grid for all arms." in notes
    falling = [outcome(arm, 0, 0.9 - 0.1 * k, optim__lr=lr) for arm in ("none", "bn") for k, lr in enumerate(RATES)]
    assert "none: in 1 of 1 seeds the best learning rate lies at an end of the grid" in " ".join(result(made, falling).notes)


def at_rates(rates: Sequence[float], edges: dict[str, Sequence[float]], **keys: Any) -> list[Outcome]:
    """Runs at 97 % up to the edge of their arm and seed, and at chance beyond it."""
    return [
        outcome(arm, seed, 0.97 if rate <= edge else 0.1, optim__lr=rate, **keys)
        for rate in rates
        for arm, own in edges.items()
        for seed, edge in enumerate(own)
    ]


def largest(outcomes: list[Outcome], **keys: Any) -> Comparison:
    return result(study("none", "bn", analysis=Analysis.sensitivity, **keys), outcomes).comparisons[0]


ALIKE = {"none": [0.04] * 6, "bn": [0.04, 0.04, 0.06, 0.04, 0.04, 0.04]}


def test_only_the_steps_next_to_the_largest_level_that_trains_decide_whether_it_is_resolved() -> None:
    wide_elsewhere = largest(at_rates([0.001, 0.04, 0.06, 0.08, 10.0], ALIKE), direction="greater")
    assert (wide_elsewhere.unresolved, wide_elsewhere.verdict) == ("", Verdict.REFUTED)
    wide_there = largest(at_rates([0.001, 0.002, 0.004, 0.04, 0.06, 0.2], ALIKE), direction="greater")
    assert wide_there.unresolved == "levels a factor of 3.33 apart do not resolve a factor of 2"
    assert wide_there.verdict is Verdict.INCONCLUSIVE


def test_six_seeds_can_settle_it_by_their_signs() -> None:
    found = largest(at_rates([0.01, 0.02, 0.03, 0.04], {"none": [0.01] * 6, "bn": [0.02, 0.03] * 3}), direction="greater")
    assert (found.p_test, found.verdict) == (2 / 2**6, Verdict.SUPPORTED)


def test_a_run_that_diverged_or_is_stuck_does_not_train_however_accurate_it_is() -> None:
    rows = at_rates([0.01, 0.02], {"none": [0.02], "bn": [0.02]})
    assert largest(rows).difference == 0
    for why in ({"status": Status.diverged}, {"stuck": "training accuracy 10.0 %"}):
        lost = [replace(o, **why) if (o.arm, o.levels["optim.lr"]) == ("none", 0.02) else o for o in rows]
        assert largest(lost).difference == 1


@pytest.mark.parametrize(
    ("none", "bn", "bound"),
    [
        ([0.02, 0.02], [0.03, 0.03], ""),
        ([0.02, 0.02], [0.03, 0.04], "at least"),  # the largest rate is 0.04
        ([0.02, 0.04], [0.03, 0.03], "at most"),
        ([0.02, 0.001], [0.03, 0.03], "at least"),  # the smallest is 0.01
        ([0.02, 0.02], [0.001, 0.02], "at most"),
        ([0.02, 0.04], [0.04, 0.02], ""),  # it could go either way
    ],
)
def test_what_lies_beyond_the_levels_makes_a_difference_a_bound(none: list[float], bn: list[float], bound: str) -> None:
    found = result(
        study("none", "bn", analysis=Analysis.sensitivity), at_rates([0.01, 0.02, 0.03, 0.04], {"none": none, "bn": bn})
    )
    assert [c.bound for c in found.comparisons] == [bound, "", ""]
    assert (f"trains is {bound} " in found.answer) == bool(bound)


def test_a_level_between_others_that_does_not_train_is_named() -> None:
    rows = at_rates([0.01, 0.02, 0.03, 0.04], {"none": [0.03], "bn": [0.03]})
    odd = [replace(o, value=0.1) if (o.arm, o.levels["optim.lr"]) == ("bn", 0.02) else o for o in rows]
    told = (
        "bn: in 1 of 1 seeds a learning rate does not train, though a smaller and a larger one do; the largest that trains "
        "counts."
    )
    made = study("none", "bn", analysis=Analysis.sensitivity)
    assert told in result(made, odd).notes
    assert not [note for note in result(made, rows).notes if "does not train" in note]
    assert result(made, odd).comparisons[0].difference == 0


def test_a_course_with_a_hole_is_left_out_and_listed() -> None:
    made = study("none", "bn", analysis=Analysis.sensitivity)
    outcomes = courses_of({"none": 3, "bn": 5})
    outcomes[2] = replace(outcomes[2], status=Status.failed, value=None)
    found = result(made, outcomes)
    assert {c.n for c in found.comparisons} == {6}
    assert "none: seed 2 without a result at every learning rate; not compared." in found.unpaired


def test_a_study_stopped_before_its_last_level_says_that_no_course_is_whole() -> None:
    made = study("none", "bn", analysis=Analysis.sensitivity)
    whole = courses_of({"none": 3, "bn": 5}, seeds=2)
    found = result(made, [replace(o, status=Status.missing, value=None) if o.levels["optim.lr"] > 0.1 else o for o in whole])
    assert found.verdict is Verdict.ESTIMATE
    assert not any("octave" in note for note in found.notes)
    assert "bn: seeds 0, 1 without a result at every learning rate; not compared." in found.unpaired


@pytest.mark.parametrize(
    ("keys", "levels", "message"),
    [
        ({"metric": "test/loss"}, {"optim__lr": 0.1}, "needs an accuracy as study.metric"),
        ({}, {}, "needs exactly one factor in study.factors; there is none"),
        ({}, {"norm": "none"}, "needs positive numbers as levels of norm, not norm=none"),
        ({}, {"optim__lr": math.inf}, "needs positive numbers as levels of optim.lr, not lr=inf"),
        ({}, {"optim__lr": 0.1}, "needs at least two levels of optim.lr"),
        ({}, {"optim__lr": 0.1, "norm__eps": 0.1}, "needs exactly one factor in study.factors; there is norm.eps, optim.lr"),
    ],
)
def test_what_cannot_be_a_course_is_an_error(keys: dict[str, str], levels: dict[str, Any], message: str) -> None:
    made = study("none", "bn", analysis=Analysis.sensitivity, **keys)
    with pytest.raises(ConfigError, match=message):
        result(made, [outcome(arm, 0, 0.9, **levels) for arm in ("none", "bn")])


@pytest.mark.parametrize("why", [{"status": Status.diverged}, {"stuck": "training accuracy 10.0 %"}])
def test_courses_that_train_nowhere_are_not_tested(why: dict[str, Any]) -> None:
    made = study("none", "bn", analysis=Analysis.sensitivity, direction="greater")
    found = result(made, [replace(o, **why, value=0.1) for o in courses_of({"none": -1, "bn": -1})])
    assert {(c.both_untrained, c.verdict) for c in found.comparisons} == {(7, Verdict.INCONCLUSIVE), (7, None)}
    assert "no run of bn or none trained, so nothing was tested," in found.answer


def test_measures_are_finite_for_every_complete_seed() -> None:
    made = study("none", "bn", analysis=Analysis.sensitivity)
    found = result(made, courses_of({"none": -1, "bn": -1}))
    assert all(math.isfinite(c.difference) for c in found.comparisons)


def test_levels_are_ordered_as_numbers_not_as_texts() -> None:
    """As texts ``lr=10.0`` would come before ``lr=2.0``."""
    rows = [outcome(arm, 0, y, optim__lr=rate) for arm in ("none", "bn") for rate, y in ((2.0, 0.9), (10.0, 0.1), (20.0, 0.1))]
    found = result(study("none", "bn", analysis=Analysis.sensitivity), rows)
    assert "none over the learning rate: mean accuracy" in " ".join(found.notes)
    assert "largest stable level 2 (geometric mean)" in " ".join(found.notes)
    assert found.comparisons[1].measure.endswith("from 2 to 20")


def test_a_level_of_0_has_no_place_on_a_logarithmic_axis() -> None:
    rows = [outcome(arm, 0, 0.9, optim__lr=rate) for arm in ("none", "bn") for rate in (0.0, 0.1)]
    with pytest.raises(ConfigError, match=r"needs positive numbers as levels of optim.lr, not lr=0.0"):
        result(study("none", "bn", analysis=Analysis.sensitivity), rows)


def test_rates_at_which_hardly_any_network_learns_ask_for_longer_training_not_for_other_rates() -> None:
    """After four updates one lucky run stands out. At one level each of the other runs is as good as a guess."""
    made = study("none", "bn", direction="greater", analysis=Analysis.sensitivity, decides=[Decides(measure="largest_stable")])
    made.factors = {"optim.lr": RATES}
    runs = [
        outcome(arm, seed, 0.4 if (arm, seed, rate) == ("none", 5, RATES[4]) else 0.1 + 0.01 * (seed % 3), optim__lr=rate)
        for arm in ("none", "bn")
        for seed in range(6)
        for rate in RATES
    ]
    settings = {"train.epochs": "1"}
    found = result(made, runs, settings=settings, overrides=["data=digits"])
    (c,) = found.deciding
    assert (c.both_untrained, found.verdict) == (5, Verdict.INCONCLUSIVE)
    assert "neither run trained in 5 of 6 pairs" in found.answer
    assert found.remedy is not None
    assert "train longer" in found.remedy.text
    assert found.remedy.command == "bnexp study made data=digits train.epochs=2"
