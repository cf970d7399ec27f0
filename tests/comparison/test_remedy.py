"""What would settle an open question, as a sentence and as a command."""

from __future__ import annotations

import shlex
from dataclasses import replace

import numpy as np
import pytest
from made_outcomes import BASE, GAIN, NOISE, from_values, only, outcome, pair, result, study

from bnexp.comparison.looks import Look
from bnexp.comparison.prospects import settled_at
from bnexp.comparison.remedy import MOST_SEEDS
from bnexp.comparison.result import Outcome, Remedy, Status, StudyResult, Verdict
from bnexp.comparison.sequential import Rule, seeds_needed
from bnexp.config.options import Analysis
from bnexp.run.seeds import why_stop

OVERRIDES = ["data=mnist", "study.seeds=10"]
OPEN = [0.9, -0.5, 0.4, 0.1, 0.6, 0.8, -0.4, 0.5, 0.2, 0.6]  # the fixed-n test says p = .06


def asked(gain: list[float], overrides: list[str] | None = OVERRIDES, look: Look | None = None) -> StudyResult:
    made = study("none", "after_pool", direction="greater", seeds=len(gain))
    return result(made, pair(gain), overrides=overrides, **({} if look is None else {"look": look}))


def remedy_of(found: StudyResult) -> Remedy:
    assert found.remedy is not None
    return found.remedy


def test_a_settled_question_needs_nothing() -> None:
    assert asked(GAIN).remedy is None
    assert asked([-g for g in GAIN]).remedy is None


def test_a_question_that_one_difference_settles_needs_nothing_for_the_others() -> None:
    table = {"none": BASE, "a": [b + g for b, g in zip(BASE, GAIN, strict=True)]}
    table["b"] = [b + g / 2 + n for b, g, n in zip(BASE, GAIN, OPEN, strict=True)]
    found = result(study("none", "a", "b", baseline=None), from_values(table), overrides=OVERRIDES)
    assert Verdict.INCONCLUSIVE in [c.verdict for c in found.deciding]
    assert (found.verdict, found.remedy) == (Verdict.SUPPORTED, None)


def test_too_few_seeds_need_the_usual_number() -> None:
    found = asked(GAIN[:3], ["data=mnist", "study.seeds=3"])
    assert found.verdict is Verdict.ESTIMATE
    assert remedy_of(found) == Remedy("10 seeds are usual.", "bnexp study made data=mnist study.seeds=10")


def test_too_few_seeds_need_more_for_a_small_effect() -> None:
    found = asked([0.9, -0.3, 0.7])
    (c,) = found.deciding
    assert c.n_needed is not None
    assert 10 < c.n_needed <= MOST_SEEDS
    assert remedy_of(found).text == f"At this estimate about {c.n_needed} seeds would be needed."
    assert remedy_of(found).command.endswith(f"study.seeds={c.n_needed}")


def test_runs_that_fail_call_for_no_seeds_that_were_planned_anyway() -> None:
    made = study("none", "after_pool", direction="greater", seeds=40, max_seeds=40)
    failed = [
        replace(outcome, status=Status.failed, value=None) if outcome.arm == "after_pool" else outcome for outcome in pair(GAIN)
    ]
    look = Look(Rule.declared(40))
    found = result(made, failed, overrides=["study.max_seeds=40"], look=look)
    assert found.verdict is Verdict.ESTIMATE
    assert remedy_of(found) == Remedy(
        "Too many runs lack a result: mend what fails, then run it again.", "bnexp study made study.max_seeds=40"
    )
    assert why_stop(found, look, 10, 40) == "Stopped with 10 seeds: none of them has results that can be compared."


def test_seeds_of_which_neither_run_trained_at_a_level_call_for_longer_training_not_for_more_seeds() -> None:
    made = study("none", "batch", direction="greater", seeds=6, analysis=Analysis.trend)
    made.factors = {"train.batch_size": [1, 4, 16]}
    outcomes = [
        replace(outcome(arm, seed, (60 + gain * size) / 100, train__batch_size=size), stuck=stuck)
        for arm, gain in (("none", 0.0), ("batch", 0.5))
        for size in (1, 4, 16)
        for seed in range(6)
        for stuck in ["never left guessing" if size == 1 and seed in (1, 4) else ""]
    ]
    found = result(made, outcomes, overrides=["budget=quick"], settings={"train.epochs": "5"})
    assert (found.verdict, only(found).n) == (Verdict.ESTIMATE, 4)
    assert remedy_of(found) == Remedy(
        "Too few seeds have runs of batch and none that trained far enough to be compared: train longer, or change what is "
        "held fixed.",
        "bnexp study made budget=quick train.epochs=10",
    )


def test_runs_that_fail_in_a_study_of_the_usual_size_call_for_mending() -> None:
    made = study("none", "after_pool", direction="greater", seeds=10)
    outcomes = [replace(o, status=Status.failed, value=None) if o.seed > 3 else o for o in pair(GAIN)]
    found = result(made, outcomes, overrides=OVERRIDES)
    assert found.verdict is Verdict.ESTIMATE
    assert remedy_of(found) == Remedy(
        "Too many runs lack a result: mend what fails, then run it again.", "bnexp study made data=mnist study.seeds=10"
    )


def test_too_few_seeds_of_no_effect_do_not_call_for_thousands() -> None:
    found = asked([0.9, -0.9, 0.05])
    assert (found.deciding[0].n_needed or 10**6) > MOST_SEEDS
    assert remedy_of(found).command.endswith("study.seeds=10")


def test_an_unfinished_study_is_run_to_its_end() -> None:
    found = asked(OPEN, look=Look(Rule.again(), unfinished=True))
    assert remedy_of(found) == Remedy("Some planned runs are not made yet.", "bnexp study made data=mnist study.seeds=10")


def test_an_open_question_names_the_seeds_of_a_valid_further_look() -> None:
    found = asked(OPEN)
    assert found.verdict is Verdict.INCONCLUSIVE
    d = np.array(found.deciding[0].differences)
    ways = [seeds_needed(d, Rule.again(), margin) for margin in (None, 0.2)]
    most = min(number for number in ways if number is not None)
    remedy = remedy_of(found)
    assert remedy.text == f"About {most} seeds would settle it at this estimate."
    assert remedy.command == f"bnexp study made data=mnist --until-settled --max-seeds {min(MOST_SEEDS, 2 * most)}"
    assert not any(word in found.answer for word in ("pairs would", "80 %"))  # one number only


def test_a_declared_plan_keeps_its_own_rule() -> None:
    rule = Rule.declared(40)
    found = asked(OPEN[::-1], look=Look(rule))
    assert found.verdict is Verdict.INCONCLUSIVE
    d = np.array(found.deciding[0].differences)
    assert f"About {seeds_needed(d, rule)} seeds" in remedy_of(found).text


def test_a_declared_plan_goes_on_by_the_same_command() -> None:
    found = asked(OPEN[::-1], ["data=mnist", "study.max_seeds=40"], Look(Rule.declared(40)))
    assert remedy_of(found).command == "bnexp study made data=mnist study.max_seeds=40"


def test_beyond_a_declared_plan_the_test_is_that_of_a_further_look() -> None:
    rule = Rule.declared(10)
    found = asked(OPEN[::-1], ["data=mnist", "study.max_seeds=10"], Look(rule))
    d = np.array(found.deciding[0].differences)
    needed = seeds_needed(d, Rule.again())
    assert needed is not None
    assert seeds_needed(d, rule) != needed
    assert remedy_of(found) == Remedy(
        f"About {needed} seeds would settle it at this estimate.",
        f"bnexp study made data=mnist --until-settled --max-seeds {min(MOST_SEEDS, 2 * needed)}",
    )


def test_more_than_a_hundred_seeds_are_no_advice() -> None:
    found = asked([0.9, -0.8, 0.7, -0.6, 0.5, -0.6, 0.8, -0.9, 0.4, -0.3])
    assert remedy_of(found) == Remedy(
        "At this estimate more than 100 seeds would be needed. Other settings or another margin would be a new question."
    )


def test_one_comparison_that_needs_more_than_a_hundred_seeds_is_enough_for_no_advice() -> None:
    table = {"none": BASE, "a": [b + g for b, g in zip(BASE, OPEN, strict=True)]}
    table["b"] = [b + g for b, g in zip(BASE, [0.9, -0.5, 0.7, -0.6, 0.8, -0.3, 0.8, -0.9, 0.6, 0.2], strict=True)]
    found = result(study("none", "a", "b", direction="greater"), from_values(table), overrides=OVERRIDES)
    near, far = (settled_at(c, Look(Rule.again()), 2) for c in found.deciding)
    assert near is not None
    assert far is not None
    assert near <= MOST_SEEDS < far
    assert remedy_of(found).text.startswith("At this estimate more than 100 seeds would be needed.")


def test_runs_that_do_not_train_are_trained_longer() -> None:
    made = study("none", "after_pool", direction="greater")
    lost = [replace(outcome, stuck="training accuracy 10 %") for outcome in pair([0.0] * 8)]
    found = result(made, lost, overrides=["data=mnist", "train.epochs=10"])
    assert found.verdict is Verdict.INCONCLUSIVE
    assert remedy_of(found) == Remedy(
        "Neither after_pool nor none trains: train longer, or change what is held fixed.",
        "bnexp study made data=mnist train.epochs=20",
    )
    unknown = result(made, lost, overrides=OVERRIDES, settings={"data.name": "mnist"})
    assert remedy_of(unknown).command == ""  # how long they trained is not known


def test_a_coarse_grid_gets_finer_levels() -> None:
    made = study("none", "bn", direction="greater", analysis=Analysis.sensitivity)
    outcomes: list[Outcome] = []
    for lr in (0.001, 0.008, 0.064, 0.512):
        high = [99.0 if lr < 0.05 else 10.0] * 8
        outcomes += from_values({"none": high, "bn": high}, optim__lr=lr)
    overrides = ["data=mnist", "optim.lr=0.001,0.008,0.064,0.512"]
    found = result(made, outcomes, overrides=overrides)
    assert found.verdict is Verdict.INCONCLUSIVE
    remedy = remedy_of(found)
    assert remedy.text == "Finer or wider levels would resolve it."
    *command, levels = shlex.split(remedy.command)
    assert command == ["bnexp", "study", "made", "data=mnist"]
    numbers = [float(level) for level in levels.removeprefix("optim.lr=").split(",")]
    assert (numbers[0], numbers[-1]) == (0.001, 0.512)  # in every run the smallest trains, the largest does not
    assert np.log2(numbers[1:]) - np.log2(numbers[:-1]) == pytest.approx(1, abs=0.01)  # the margin is a factor of 2


def test_a_grid_that_is_too_short_for_some_runs_gets_wider_by_two_octaves() -> None:
    made = study("none", "bn", direction="greater", analysis=Analysis.sensitivity)
    rows = [
        outcome(arm, seed, 0.1 if k == (0 if seed == 0 else 3) else 0.99, optim__lr=lr)
        for k, lr in enumerate((0.001, 0.008, 0.064, 0.512))  # seed 0 of both fails at the smallest, others at the largest
        for arm in ("none", "bn")
        for seed in range(8)
    ]
    *_, levels = shlex.split(remedy_of(result(made, rows, overrides=["data=mnist"])).command)
    numbers = [float(level) for level in levels.removeprefix("optim.lr=").split(",")]
    assert (numbers[0], numbers[-1]) == (0.00025, 2.05)


def test_a_study_of_unknown_origin_has_no_command() -> None:
    remedy = remedy_of(asked(OPEN, None))
    assert remedy.text
    assert remedy.command == ""


def test_what_is_settled_asks_for_no_seeds() -> None:
    """Of two deciding comparisons only the open one counts."""
    table = {"none": BASE, "a": [b + g for b, g in zip(BASE, GAIN, strict=True)]}
    table["b"] = [b + g for b, g in zip(BASE, OPEN, strict=True)]
    found = result(study("none", "a", "b", direction="greater"), from_values(table), overrides=OVERRIDES)
    assert [c.verdict for c in found.deciding] == [Verdict.SUPPORTED, Verdict.INCONCLUSIVE]
    needed = seeds_needed(np.array(found.deciding[1].differences), Rule.again(), alpha=Rule.again().alpha / 2)
    assert remedy_of(found).text == f"About {needed} seeds would settle it at this estimate."


def test_a_weak_part_that_is_settled_is_not_to_be_settled_again() -> None:
    weak, few = [0.4, 0.0, 0.8, -0.3, 0.5, 0.3, 0.7, -0.1, 0.2, 0.6], [0.9, -0.25, 0.6, 0.1, 0.6, 0.5]  # four runs of b failed
    table = {arm: [b + g for b, g in zip(BASE, gain, strict=False)] for arm, gain in (("a", weak), ("b", few))}
    found = result(study("none", "a", "b", direction="greater"), from_values({"none": BASE} | table), overrides=OVERRIDES)
    assert [c.verdict for c in found.deciding] == [Verdict.SUPPORTED, Verdict.INCONCLUSIVE]
    settled, unsettled = (settled_at(c, Look(Rule.again()), 2) for c in found.deciding)
    assert settled is not None
    assert unsettled is not None
    assert settled > unsettled
    assert remedy_of(found).text == f"About {unsettled} seeds would settle it at this estimate."


def test_no_remedy_without_a_result() -> None:
    assert result(study("none"), []).remedy is None
    assert asked(NOISE, []).remedy is None  # equivalent where a difference was claimed: refuted


def test_several_open_comparisons_need_the_seeds_of_the_slowest() -> None:
    near, far = [x + 0.05 for x in OPEN], OPEN
    arms = {name: [b + g for b, g in zip(BASE, gain, strict=True)] for name, gain in (("near", near), ("far", far))}
    found = result(study("none", "near", "far", direction="greater"), from_values({"none": BASE, **arms}), overrides=OVERRIDES)
    open_ones = [c for c in found.deciding if c.verdict is Verdict.INCONCLUSIVE]
    needed = {c.arm: settled_at(c, Look(Rule.again()), 2) for c in open_ones}
    assert needed["near"] is not None
    assert needed["far"] is not None
    assert needed["near"] < needed["far"] <= MOST_SEEDS
    assert remedy_of(found).text == f"About {needed['far']} seeds would settle it at this estimate."


@pytest.mark.parametrize("gain", [GAIN[:2], OPEN])
def test_a_smoke_run_asks_for_a_real_one_whatever_it_lacks(gain: list[float]) -> None:
    found = asked(gain, ["data=mnist", "budget=smoke", "study.seeds=2"])
    assert remedy_of(found) == Remedy(
        "budget=smoke only shows that the study runs; this asks the question with enough images and seeds.",
        "bnexp study made data=mnist budget=quick",
    )
