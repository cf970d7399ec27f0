"""Flips between arms against churn between seeds, and McNemar's test, on made predictions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_outcomes import MadeRecords, outcome, result, study
from numpy.typing import NDArray

from bnexp.comparison import stats
from bnexp.comparison.predictions import churn, flips
from bnexp.comparison.result import Status, StudyResult, Verdict
from bnexp.config.options import Analysis

TRIALS = 250
Guesses = NDArray[np.int64]


def compared(guesses: dict[str, list[Guesses]], truth: Guesses, **keys: object) -> StudyResult:
    outcomes = [outcome(arm, seed, 0.9) for arm, rows in guesses.items() for seed in range(len(rows))]
    records = MadeRecords(predicted={o.run_id: np.stack([guesses[o.arm][o.seed], truth], 1) for o in outcomes})
    made = study(*guesses, analysis=Analysis.predictions, **keys)  # type: ignore[arg-type]
    return result(made, outcomes, records=records)


def test_flips_and_churn_by_hand() -> None:
    truth = np.zeros(10, np.int64)
    none = [np.where(np.arange(10) < seed, 1, 0) for seed in range(6)]  # neighbours differ in one image, the ends in five
    bn = [np.where(np.arange(10) >= 7, 2, row) for row in none]  # other than none in three images
    found = compared({"none": none, "bn": bn}, truth, direction="greater")
    (c,) = found.comparisons
    assert c.differences == pytest.approx([40 - 10] * 5 + [80 - 50])
    assert (c.measure, c.unit) == ("flips beyond seed-to-seed churn", "pp")
    flipped = (
        "bn against none: 46.67 % of the test images change class between the two arms at different seeds, 16.67 % between "
    )
    assert f"{flipped}seeds of one arm." in found.notes
    (mcnemar,) = [note for note in found.notes if "McNemar" in note]
    assert "only bn is right on 0.0 images, only none on 3.0 (means)" in mcnemar
    assert "after Holm bn is right more often with 0 of 6 seeds, none with 0 (smallest p = 1.00)" in mcnemar


def test_the_churn_of_a_seed_is_against_the_next_one_and_of_the_last_against_the_first() -> None:
    seeds = {3: np.array([0, 0, 1, 1]), 1: np.array([0, 0, 0, 0]), 2: np.array([0, 0, 0, 1])}
    assert churn(seeds) == {1: 0.25, 2: 0.25, 3: 0.5}
    assert churn({1: seeds[1], 2: seeds[2]}) == {1: 0.25, 2: 0.25}
    assert churn({1: seeds[1]}) == {}


def test_flips_are_between_the_arms_at_different_seeds_both_ways() -> None:
    ours = {0: np.array([0, 0, 0, 0]), 1: np.array([1, 1, 0, 0]), 2: np.array([1, 1, 1, 1])}
    theirs = {0: np.array([0, 0, 0, 1]), 1: np.array([0, 0, 0, 0]), 2: np.array([0, 1, 1, 1])}
    assert flips(ours, theirs) == {0: (0 + 0.75) / 2, 1: (0.75 + 1) / 2, 2: (0.75 + 0.75) / 2}
    assert flips({0: ours[0]}, {0: theirs[0]}) == {}


def test_an_arm_whose_seeds_differ_more_does_not_disagree_more_with_the_other_for_that() -> None:
    rng = np.random.default_rng(3)
    truth = np.zeros(2000, np.int64)
    steady = [np.zeros(2000, np.int64) for _ in range(8)]
    erratic = [(rng.random(2000) < 0.2).astype(np.int64) for _ in range(8)]  # wrong anywhere, anew with each seed
    (c,) = compared({"none": steady, "bn": erratic}, truth, direction="greater").comparisons
    assert c.difference == pytest.approx(20 - (0 + 32) / 2, abs=1)  # flips less the mean churn of both


def test_an_arm_that_is_better_on_the_same_images_is_found_by_mcnemar() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 10, 400)
    none = [np.where(rng.random(400) < 0.3, (truth + 1) % 10, truth) for _ in range(6)]
    bn = [np.where(rng.random(400) < 0.02, (truth + 1) % 10, truth) for _ in range(6)]
    found = compared({"none": none, "bn": bn}, truth)
    assert any("bn is right more often with 6 of 6 seeds, none with 0 (smallest p < .001)" in note for note in found.notes)
    worse = compared({"none": bn, "bn": none}, truth)
    assert any("bn is right more often with 0 of 6 seeds, none with 6 (smallest p < .001)" in note for note in worse.notes)


def test_a_study_that_recorded_no_predictions_still_answers() -> None:
    outcomes = [outcome(arm, seed, 0.9) for arm in ("none", "bn") for seed in range(4)]
    found = result(study("none", "bn", analysis=Analysis.predictions), outcomes, records=MadeRecords())
    assert found.verdict is Verdict.ESTIMATE
    assert not any("change class" in note for note in found.notes)


def test_mcnemar_is_the_exact_binomial_test() -> None:
    assert stats.mcnemar(0, 0) == 1
    assert stats.mcnemar(0, 6) == stats.mcnemar(6, 0) == 2 / 2**6
    assert stats.mcnemar(1, 4) == pytest.approx(2 * (1 + 5) / 2**5)


def test_a_run_with_another_number_of_test_images_is_not_compared() -> None:
    outcomes = [outcome(arm, seed, 0.9) for arm in ("none", "bn") for seed in range(4)]
    made = {o.run_id: np.zeros((3 if (o.arm, o.seed) == ("bn", 1) else 5, 2), np.int64) for o in outcomes}
    asked = study("none", "bn", analysis=Analysis.predictions)
    found = result(asked, outcomes, records=MadeRecords(predicted=made))
    assert found.comparisons[0].seeds == [0, 2, 3]
    assert "bn against none: seed 1 without predictions of both arms and of two seeds; not compared." in found.unpaired


def test_runs_without_predictions_are_listed() -> None:
    truth = np.zeros(4, np.int64)
    outcomes = [outcome(arm, seed, 0.9) for arm in ("none", "bn") for seed in range(4)]
    records = MadeRecords(predicted={o.run_id: np.stack([truth, truth], 1) for o in outcomes[1:]})
    found = result(study("none", "bn", analysis=Analysis.predictions), outcomes, records=records)
    assert found.comparisons[0].seeds == [1, 2, 3]
    assert "bn against none: seed 0 without predictions of both arms and of two seeds; not compared." in found.unpaired


def test_runs_without_a_result_are_no_runs_without_predictions() -> None:
    truth = np.zeros(4, np.int64)
    outcomes = [outcome(arm, seed, 0.9) for arm in ("none", "bn") for seed in range(5)]
    records = MadeRecords(predicted={o.run_id: np.stack([truth, truth], 1) for o in outcomes if o.seed != 3})
    outcomes[4] = replace(outcomes[4], status=Status.failed, value=None)
    outcomes[3], outcomes[8] = (replace(outcomes[k], stuck="training accuracy 10 %") for k in (3, 8))
    found = result(study("none", "bn", analysis=Analysis.predictions), outcomes, records=records)
    assert found.unpaired == [
        "none: seed 4 failed.",
        "bn against none: seed 3 without predictions of both arms and of two seeds; not compared.",
    ]
    assert (found.comparisons[0].seeds, found.comparisons[0].both_untrained) == ([0, 1, 2], 0)


@pytest.mark.parametrize("n", [6, 10])
def test_arms_that_differ_as_seeds_do_are_told_apart_falsely_in_at_most_5_percent(n: int) -> None:
    """Churns of neighbouring seeds share a run; the test must keep its rate in spite of that."""
    rng = np.random.default_rng(n)
    hardness = rng.beta(0.5, 3, 300)
    truth = np.zeros(300, np.int64)
    wrong = 0
    for _ in range(TRIALS):
        careless = rng.gamma(20, 1 / 20, (2, n, 1))  # some runs are worse than others
        guesses = (rng.random((2, n, 300)) < careless * hardness).astype(np.int64)
        (c,) = compared({"none": list(guesses[0]), "bn": list(guesses[1])}, truth).comparisons
        wrong += c.p_adjusted < 0.05
    assert wrong / TRIALS <= 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / TRIALS)


def test_an_arm_of_its_own_opinion_is_supported() -> None:
    rng = np.random.default_rng(1)
    hardness = rng.beta(0.5, 3, 500)
    truth = np.zeros(500, np.int64)
    none = [(rng.random(500) < hardness).astype(np.int64) for _ in range(8)]
    bn = [(rng.random(500) < hardness[::-1]).astype(np.int64) for _ in range(8)]
    found = compared({"none": none, "bn": bn}, truth, direction="greater")
    assert found.verdict is Verdict.SUPPORTED
    assert "bn and none disagree on 4.95 pp [4.08, 5.82] more of the test images than two seeds of one arm do" in found.answer


def test_too_few_seeds_for_churn_are_listed_without_notes_on_flips() -> None:
    truth = np.zeros(10, np.int64)
    found = compared({"none": [truth] * 2, "bn": [truth] * 2}, truth)
    assert not [note for note in found.notes if "change class" in note or "McNemar" in note]
    assert "bn against none: seeds 0, 1 without predictions of both arms and of two seeds; not compared." in found.unpaired
