"""Notes on how trainings end: still improving, or moving from epoch to epoch as much as from seed to seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_outcomes import SETTINGS, MadeRecords, outcome, result, study, with_histories

import bnexp
from bnexp.comparison.endings import Course
from bnexp.config.options import Analysis

Rows = Sequence[Sequence[float]]  # one row of accuracies in per cent for each seed
SETTLED = np.array([60.0, 90.0, 97.0, 98.4, 98.9, 99.0, 99.02, 99.03, 99.03, 99.04])


def around(mean: Sequence[float], scatter: float, between: float, seeds: int = 8) -> Rows:
    """Courses that scatter around each seed's own level by ``scatter`` pp, with levels ``between`` pp apart."""
    rng = np.random.default_rng(3)
    own = between * (np.arange(seeds) - (seeds - 1) / 2)
    return np.asarray(mean) + own[:, None] + scatter * rng.standard_normal((seeds, len(mean)))  # type: ignore[return-value]


def said(courses: Mapping[Any, Rows], key: str = "val/accuracy", stuck: str = "", **keys: Any) -> list[str]:
    """The notes on endings of a study with such courses of (arm, rate)."""
    outcomes, histories = [], {}
    for (arm, rate), rows in courses.items():
        for seed, row in enumerate(rows):
            outcomes.append(replace(outcome(arm, seed, row[-1] / 100, **({"lr": rate} if rate else {})), stuck=stuck))
            lines = [{"epoch": k, "step": 9 * k, key: value / 100} for k, value in enumerate(row, 1)]
            histories[outcomes[-1].run_id] = [{"step": 1, "train/step_loss": 2.3}, *lines]
    margin, settings = keys.pop("margin", 0.2), keys.pop("settings", SETTINGS)
    made = study(*dict.fromkeys(arm for arm, _ in courses), **keys)
    found = result(made, outcomes, margin, records=MadeRecords(histories), settings=settings)
    return [note for note in found.notes if "Still improving" in note or "epoch to epoch" in note]


CALM = around(SETTLED, 0.01, 0.1)


def test_a_settled_training_needs_no_note() -> None:
    assert said({("none", None): CALM, ("bn", None): CALM}) == []


def test_arms_that_gain_more_than_the_margin_are_named_with_the_epochs_that_would_be_needed() -> None:
    rising = [[50.0, 70.0, 80.0, 82.0, 82.8]] * 6  # gains 2 and .8 at the end; 5 epochs, 5 sqrt(.8 / .2) = 10
    assert said({("none", None): rising, ("bn", None): CALM}) == [
        "Still improving: in the last epoch the validation accuracy of none (+0.80 pp) gains more than the margin of 0.20 pp. "
        "At the present gain about 10 epochs would be needed; set train.epochs=10."
    ]
    faster = [[50.0, 70.0, 80.0, 85.0, 90.0]] * 6  # 5 sqrt(5 / .2) = 25
    (note,) = said({("none", None): rising, ("bn", None): faster})
    assert "bn (+5.00 pp) and none (+0.80 pp)" in note
    assert "up to 25 epochs would be needed; set train.epochs=25." in note
    assert said({("none", None): rising, ("bn", None): CALM}, margin=0.8) == []
    (note,) = said({("none", None): rising, ("bn", None): rising}, key="train/accuracy")  # no validation images
    assert "the training accuracy of none (+0.80 pp) and bn (+0.80 pp)" in note


@pytest.mark.parametrize(
    "courses",
    [
        [[98.1, 99.0]] * 2 + [[99.0, 98.1]] * 2,  # gains of the seeds cancel
        [[97.0, 99.0, 98.1, 99.0]] * 4,  # a good epoch after a bad one
        [[99.0]] * 4,  # a single epoch
        [[99.0, 99.5, 90.0]] * 4,  # it falls
    ],
)
def test_what_is_no_improvement(courses: Rows) -> None:
    assert not any("Still improving" in note for note in said({("none", None): courses, ("bn", None): courses}))


def test_an_accuracy_that_moves_from_epoch_to_epoch_as_much_as_from_seed_to_seed_is_told_with_its_remedy() -> None:
    restless = around(SETTLED, 0.5, 0.05)
    (note,) = said({("none", None): restless, ("bn", None): CALM})
    assert "differs between seeds (standard deviations): none (0." in note
    assert note.endswith("A learning rate that decays makes it steadier: set optim.schedule=cosine.")
    (note,) = said({("none", None): restless, ("bn", None): CALM}, settings=SETTINGS | {"optim.schedule": "cosine"})
    assert note.endswith("the epoch at which training ends.")
    calm = {
        "seeds differ more": around(SETTLED, 0.5, 1.0),
        "less than the margin": around(SETTLED, 0.1, 0.01),
        "too few seeds": around(SETTLED, 0.5, 0.05, seeds=5),
        "a common course is progress": around([90.0, 99.0, 90.0, 99.0, 90.0], 0.01, 0.1),
        "too few epochs": around([99.0, 99.0], 0.5, 0.05),
    }
    for why, rows in calm.items():
        assert said({("none", None): rows, ("bn", None): CALM}) == [], why
    assert said({("none", None): restless, ("bn", None): restless}, key="train/accuracy") == []


def test_the_restlessness_of_a_course_by_hand() -> None:
    """Changes less their mean over seeds, root mean square over the last epochs; the seeds at the last epoch."""
    course = Course("none", "val/accuracy", np.array([[90.0, 91.0, 93.0], [90.0, 93.0, 91.0], [90.0, 92.0, 92.0]]))
    changes, seeds = course.restlessness()
    assert changes == pytest.approx(np.sqrt((1 + 4) / 2))  # variances of 1, 3, 2 and of 2, -2, 0
    assert seeds == pytest.approx(1.0)


def test_the_most_restless_arm_comes_first() -> None:
    (note,) = said({("none", None): around(SETTLED, 0.5, 0.05), ("bn", None): around(SETTLED, 1.0, 0.05)})
    assert "(standard deviations): bn (1." in note
    assert " and none (0." in note


def test_an_arm_is_judged_by_its_validation_accuracy_alone_if_it_has_one() -> None:
    history = [
        {"epoch": k, "step": k, "val/accuracy": value, "train/accuracy": value} for k, value in enumerate([0.5, 0.7, 0.9], 1)
    ]
    outcomes, records = with_histories({"none": [history] * 3, "bn": [history] * 3})
    (note,) = [n for n in result(study("none", "bn"), outcomes, records=records).notes if "Still improving" in n]
    assert "the validation accuracy of none (+20.00 pp) and bn (+20.00 pp) gains" in note


def test_many_arms_and_levels_take_one_sentence() -> None:
    rising, rates = [[50.0, 70.0, 80.0, 82.0, 82.8]] * 6, (0.001, 0.003, 0.01, 0.03)
    (note,) = said({(arm, rate): rising for rate in rates for arm in ("none", "bn")}, factors={"lr": list(rates)})
    assert (
        "accuracy of 8 of 8 arms and levels (none at lr=0.001 (+0.80 pp), bn at lr=0.001 (+0.80 pp) and others) gains" in note
    )
    assert len(note) < 300


def test_where_the_length_of_the_training_is_the_question_a_short_one_is_no_mistake() -> None:
    rising = [[50.0, 70.0, 80.0, 82.0, 82.8]] * 6
    assert said({("none", 1): rising, ("bn", 1): rising}, factors={"train.epochs": [5, 10]}) == []


def test_only_the_last_five_changes_count_as_the_end() -> None:
    calm = np.repeat([[99.0]], 8, axis=0) + 0.001 * np.arange(8)[:, None] + np.zeros(6)
    apart = np.linspace(80, 98, 8)[:, None]
    assert said({("none", None): np.hstack([apart, calm]).tolist(), ("bn", None): CALM}) == []
    (note,) = said({("none", None): np.hstack([apart, calm[:, :5]]).tolist(), ("bn", None): CALM})
    assert "epoch to epoch" in note


def test_a_run_with_fewer_epochs_than_others_of_its_arm_is_left_out() -> None:
    rising = [[50.0, 70.0, 80.0, 82.0, 82.8]] * 6
    (note,) = said({("none", None): [[50.0, 70.0], *rising], ("bn", None): CALM})
    assert "none (+0.80 pp)" in note


def test_untrained_runs_and_margins_that_are_no_accuracy_say_nothing_of_the_ending() -> None:
    rising = [[10.0, 10.1, 10.9]] * 6
    assert said({("none", None): rising, ("bn", None): rising}, stuck="training accuracy stays") == []
    assert said({("none", None): rising, ("bn", None): rising}, metric="test/loss", margin=float("nan")) == []
    assert said({("none", None): rising, ("bn", None): rising}, metric="test/loss") == []
    ratio = said({("none", None): rising, ("bn", None): rising}, analysis=Analysis.time_to_target, margin=0.2)
    assert not any("Still improving" in note for note in ratio)


@pytest.mark.usefixtures("shared_cache")
def test_a_short_real_training_says_how_long_it_would_have_to_be() -> None:
    made = ["data=digits", "data.train_size=600", "train.epochs=2", "study.seeds=1", "executor=inline"]
    (note,) = [n for n in bnexp.run_study("batchnorm", made, report=False).notes if n.startswith("Still improving")]
    assert "the validation accuracy of after_pool (+" in note
    assert int(note.rsplit("train.epochs=", 1)[1].rstrip(".")) > 2
