"""Accuracies at the ceiling or at chance: the answer says that the task is at fault, instead of asking for more seeds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_outcomes import from_values, outcome, result, study

from bnexp.comparison.result import StudyResult, Verdict

PERFECT = [100.0] * 10
NEARLY = [100.0, 99.7, 100.0, 99.4, 100.0, 100.0, 99.7, 100.0, 100.0, 99.7]
OVERRIDES = ["data=digits", "study.seeds=10"]


def asked(none: list[float], bn: list[float], margin: float = 1.0, **keys: object) -> StudyResult:
    made = study("none", "bn", direction="greater", seeds=len(none))
    made = replace(made, metric=str(keys.pop("metric", "test/accuracy")))
    return result(made, from_values({"none": none, "bn": bn}), margin, overrides=OVERRIDES, num_test=360, **keys)


def edge_note(found: StudyResult) -> str:
    return next((note for note in found.notes if note.startswith(("Too easy", "No better than guessing"))), "")


@pytest.mark.parametrize(("bn", "wrong"), [(PERFECT, "0.00"), (NEARLY, "0.15")])
def test_where_all_are_nearly_perfect_no_more_seeds_are_asked_for(bn: list[float], wrong: str) -> None:
    found = asked(PERFECT, bn, margin=0.2)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert edge_note(found) == (
        f"Too easy to tell apart: bn and none are on average wrong on at most {wrong} % of the images, and the margin is 0.20 "
        "pp, so none can be better by more. On harder data, or with fewer training images (data.train_size), they may differ."
    )
    assert found.remedy is not None
    assert found.remedy.text == (
        "The task is too easy to tell the arms apart, so more seeds would not help: take harder data or fewer training "
        "images (data.train_size). Another metric may still differ:"
    )
    assert found.remedy.command == "bnexp report made --metric test/loss"
    assert not any("standard error" in note for note in found.notes)


def test_equivalence_of_nearly_perfect_arms_comes_with_the_note() -> None:
    found = asked(PERFECT, NEARLY)
    assert (found.verdict, found.remedy) == (Verdict.REFUTED, None)
    assert "0.15 %" in edge_note(found)


def test_a_difference_between_nearly_perfect_arms_is_not_called_too_small_to_tell() -> None:
    found = asked([99.5, 99.4, 99.6, 99.5, 99.4, 99.6], [99.9, 99.8, 99.9, 100.0, 99.8, 99.9])
    assert found.verdict is Verdict.SUPPORTED
    assert not edge_note(found)


def test_more_seeds_still_show_that_nearly_perfect_arms_are_equivalent() -> None:
    made = study("none", "bn", direction="equivalent", seeds=6)
    values = {"none": [100.0, 98.6, 100.0, 99.7, 100.0, 99.2], "bn": [98.9, 100.0, 99.4, 100.0, 98.6, 100.0]}
    found = result(made, from_values(values), 0.7, overrides=OVERRIDES, num_test=360)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert edge_note(found).startswith("Too easy")
    assert found.remedy is not None
    assert "seeds would settle it at this estimate" in found.remedy.text


def test_few_seeds_of_nearly_perfect_arms_need_another_task_first() -> None:
    found = asked(PERFECT[:3], PERFECT[:3])
    assert found.verdict is Verdict.ESTIMATE
    assert found.remedy is not None
    assert found.remedy.text.startswith("The task is too easy")


@pytest.mark.parametrize("metric", ["gap/accuracy", "test/ece", "test/loss"])
def test_only_accuracies_have_a_ceiling(metric: str) -> None:
    assert not edge_note(asked(PERFECT, NEARLY, metric=metric))


def test_arms_with_room_for_the_margin_are_not_at_the_ceiling() -> None:
    found = asked([98.9, 98.7, 99.1, 98.8, 99.0, 98.9], [99.1, 98.6, 99.2, 98.7, 99.3, 98.8])
    assert not edge_note(found)
    assert any("standard error" in note for note in found.notes)
    one_is_worse = asked([97.0, 99.9, 97.0, 99.9, 97.0, 99.9], PERFECT[:6])
    assert not edge_note(one_is_worse)
    assert one_is_worse.remedy is not None
    assert "seeds" in one_is_worse.remedy.text


def test_levels_at_the_ceiling_are_named() -> None:
    made = study("none", "bn", direction="greater", factors={"lr": [0.01, 0.1]})
    easy = from_values({"none": PERFECT, "bn": NEARLY}, lr=0.1)
    hard = from_values({"none": [80.0 + i % 3 for i in range(10)], "bn": [80.0 + i % 4 for i in range(10)]}, lr=0.01)
    found = result(made, hard + easy, 0.2, overrides=OVERRIDES, num_test=360)
    assert edge_note(found).startswith("Too easy to tell apart: bn and none at lr=0.1 are on average wrong")
    assert found.remedy is not None
    assert "too easy" not in found.remedy.text  # the harder level may still be settled


def test_of_many_comparisons_the_most_that_any_guesses_right_is_told() -> None:
    made = study("none", "bn", direction="greater", factors={"lr": [0.1, 0.2, 0.3, 0.4]})
    levels = {0.1: 9.0, 0.2: 11.0, 0.3: 10.0, 0.4: 9.5}
    outcomes = [
        one
        for lr, mean in levels.items()
        for one in from_values({"none": [mean - 0.5] * 6, "bn": [mean - 5, mean + 6] * 3}, lr=lr)
    ]
    assert edge_note(result(made, outcomes, 0.2, overrides=OVERRIDES, num_test=360)).startswith(
        "No better than guessing: 4 comparisons (bn and none at lr=0.1, bn and none at lr=0.2 and others) are on average right "
        "on at most 11.50 % of the images"
    )


def test_runs_that_trained_but_guess_on_test_images_need_other_data_or_more_training() -> None:
    found = asked([10.0, 10.6, 9.4, 10.3, 9.7, 10.0], [10.3, 9.7, 10.6, 9.4, 10.0, 10.8], margin=0.2)
    assert edge_note(found) == (
        "No better than guessing: bn and none are on average right on at most 10.13 % of the images, and guessing reaches up "
        "to 12.78 %, so they say nothing of the arms."
    )
    assert found.remedy is not None
    assert found.remedy.text == (
        "No arm is better than guessing on new images, so more seeds would not help: train longer, take more training images, "
        "or check that the labels fit the images."
    )
    assert found.remedy.command == "bnexp study made data=digits study.seeds=10 train.epochs=20"


def test_what_guessing_reaches_is_known_of_test_images_alone() -> None:
    guesses = [10.0, 10.6, 9.4, 10.3, 9.7, 10.0]
    for metric in ("train/accuracy", "val/accuracy"):
        assert not edge_note(asked(guesses, guesses[::-1], margin=0.2, metric=metric))


def test_runs_that_never_trained_are_still_advised_to_train_longer() -> None:
    made = study("none", "bn", direction="greater", seeds=6)
    stuck = [replace(outcome(arm, seed, 0.1), stuck="training accuracy 10 %") for arm in made.arms for seed in range(6)]
    found = result(made, stuck, overrides=OVERRIDES, num_test=360)
    assert not edge_note(found)
    assert found.remedy is not None
    assert found.remedy.text == "Neither bn nor none trains: train longer, or change what is held fixed."
