"""Time to a target accuracy, read from made histories whose answers are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_outcomes import result, study, with_histories

from bnexp.comparison.looks import FIRST, Look
from bnexp.comparison.power import pairs_needed
from bnexp.comparison.result import Status, StudyResult, Verdict
from bnexp.comparison.sequential import Rule, seeds_needed, signs_needed
from bnexp.comparison.tables import comparison_rows
from bnexp.comparison.time_to_target import Validations, time_to
from bnexp.config.options import Analysis
from bnexp.config.schema import ConfigError

History = list[dict[str, float]]
TRIALS = 200


def epochs(accuracies: list[float], seconds: float = 2.0) -> History:
    """An epoch each of 100 updates."""
    return [
        {"epoch": k, "step": 100 * k, "val/accuracy": accuracy, "time/epoch_seconds": seconds}
        for k, accuracy in enumerate(accuracies, 1)
    ]


def timed(histories: dict[str, list[History]], look: Look = FIRST, **keys: object) -> StudyResult:
    made = study(*histories, analysis=Analysis.time_to_target, **keys)  # type: ignore[arg-type]
    outcomes, records = with_histories(histories)
    return result(made, outcomes, records=records, look=look)


def test_time_is_that_of_the_first_validation_at_or_above_the_target() -> None:
    run = Validations.of(epochs([0.5, 0.8, 0.7, 0.9]))
    assert run
    assert time_to(0.8, run, run).updates == 200
    assert time_to(0.81, run, run).updates == 400
    late = time_to(0.95, run, run)
    assert (late.updates, late.seconds, late.censored) == (500, 10.0, True)


def test_a_target_that_is_not_reached_counts_as_later_than_any_run_of_its_pair() -> None:
    short, long = Validations.of(epochs([0.5, 0.6])), Validations.of(epochs([0.5, 0.6, 0.7, 0.8]))
    assert short
    assert long
    for run, other in ((short, long), (long, short)):
        late = time_to(0.95, run, other)
        assert (late.updates, late.seconds, late.censored) == (500, 10.0, True)


def test_pairs_needed_are_at_least_those_with_which_a_sign_flip_test_can_show_anything() -> None:
    slow, fast = [epochs([0.5, 0.6, 0.7, 0.8])] * 5, [epochs([0.6, 0.9])] * 2 + [epochs([0.9, 0.9])] * 3
    both = timed({"none": slow, "bn": fast, "gn": fast}, direction="less").deciding
    assert [c.n_needed for c in both] == [7, 7]  # each is tested at .025; the smallest p of 6 pairs is .031
    assert timed({"none": slow, "bn": fast}, direction="less").deciding[0].n_needed == 6


def test_an_open_comparison_by_signs_needs_more_pairs_than_it_has() -> None:
    """A t test would need no more than these six, but one tie keeps p of the signs at .0625."""
    slow, fast = epochs([0.5, 0.6, 0.7, 0.8]), epochs([0.9, 0.9])
    (c, _) = timed({"none": [slow] * 6, "bn": [fast] * 5 + [slow]}, direction="less").comparisons
    assert (c.p_adjusted, c.verdict, c.n_needed) == (4 / 2**6, Verdict.INCONCLUSIVE, 7)
    assert (pairs_needed(c.effect) or 0) <= 6


def test_after_a_further_look_pairs_needed_are_those_of_the_signs_at_a_level_shared_by_the_family() -> None:
    slow, fast = epochs([0.5, 0.6, 0.7, 0.8]), epochs([0.6, 0.9])
    mixed = [fast, slow, fast, fast, epochs([0.4, 0.5, 0.6, 0.7, 0.8])] * 2
    look = Look(Rule.again())
    found = timed({"none": [slow] * 10, "bn": mixed, "gn": mixed}, look, direction="less")
    for c in found.deciding:
        assert c.verdict is Verdict.INCONCLUSIVE
        assert c.n_needed == signs_needed(c.differences, 0.01 / 2) != signs_needed(c.differences, 0.01)


def test_validations_inside_an_epoch_count_and_share_its_seconds() -> None:
    history: History = [{"step": 50, "val/accuracy": 0.7}, *epochs([0.6, 0.9], 4.0), {"step": 120, "train/step_loss": 1.0}]
    run = Validations.of(history)
    assert run
    assert run.steps.tolist() == [50, 100, 200]
    assert run.seconds.tolist() == [2.0, 4.0, 8.0]
    assert time_to(0.7, run, run).seconds == 2.0
    assert Validations.of([{"step": 3, "train/step_loss": 1.0}, {"step": 5, "val/accuracy": math.nan}]) is None


def test_a_faster_arm_is_told_as_a_ratio() -> None:
    slow = [epochs([0.5, 0.6, 0.7, 0.8])] * 8
    fast = [epochs([0.7, 0.9 if seed < 7 else 0.79, 0.95, 0.95], 4.0) for seed in range(8)]
    found = timed({"none": slow, "bn": fast}, direction="less", question="Does it converge in fewer updates?")
    updates, seconds = found.comparisons
    assert (updates.measure, updates.unit, updates.test) == ("updates to target", "log2 ratio", "sign flip")
    assert updates.differences == pytest.approx([-1.0] * 7 + [math.log2(3 / 4)])
    assert updates.verdict is Verdict.SUPPORTED
    assert updates.p_test == updates.p_sign_flip == 2 / 2**8
    assert updates.reason.startswith("1.90× less, significant, with no margin")
    assert comparison_rows(found)[0]["difference"] == "0.53×"
    assert seconds.measure == "seconds to target"  # an epoch takes twice as long, so that nothing is left of the gain
    assert (seconds.decides, seconds.verdict) == (False, None)
    assert "the target is the last validation accuracy of none, 80.00 % in the mean over seeds; bn takes 210 updates" in (
        " ".join(found.notes)
    )


def test_one_comparison_reads_as_a_sentence() -> None:
    histories = {"none": [epochs([0.5, 0.6, 0.7, 0.8])] * 7 + [epochs([0.5, 0.8])], "bn": [epochs([0.9, 0.9, 0.9, 0.9])] * 8}
    for rows in histories.values():
        for history in rows:
            for row in history:
                row.pop("time/epoch_seconds", None)
    found = timed(histories, direction="less", question="Does it converge in fewer updates?", margin=1.25)
    (c,) = found.comparisons  # without recorded seconds there are only updates
    assert c.margin == pytest.approx(math.log2(1.25))
    assert found.answer.startswith(
        "Yes: bn needs 0.27 times [0.22, 0.33] as many updates as none to reach the accuracy that none ends with on mnist"
    )
    assert "sign-flip test p = .008; larger than the margin of a factor of 1.25" in found.answer


def test_a_run_that_never_reaches_the_target_counts_as_later_than_any_and_is_named() -> None:
    none = [epochs([0.5, 0.6, 0.7, 0.8])] * 7
    bn = [epochs([0.6, 0.6, 0.6, 0.7])] * 6 + [epochs([0.6, 0.9, 0.9, 0.9])]
    found = timed({"none": none, "bn": bn}, direction="less")
    c = found.comparisons[0]
    assert c.differences == pytest.approx([math.log2(5 / 4)] * 6 + [-1.0])
    assert any("bn does not reach the target with seeds 0, 1, 2, 3, 4, 5; it counts there" in note for note in found.notes)
    assert c.verdict is Verdict.INCONCLUSIVE


def test_diverged_runs_are_late_as_arm_and_set_no_target_as_baseline() -> None:
    outcomes, records = with_histories({"none": [epochs([0.5, 0.8])] * 7, "bn": [epochs([0.9, 0.9])] * 7})
    outcomes[0] = replace(outcomes[0], status=Status.diverged, value=0.1)
    outcomes[8] = replace(outcomes[8], status=Status.diverged, value=0.1)
    records.histories[outcomes[8].run_id] = []
    made = study("none", "bn", analysis=Analysis.time_to_target)
    found = result(made, outcomes, records=records)
    assert found.comparisons[0].seeds == [1, 2, 3, 4, 5, 6]
    assert found.comparisons[0].differences == pytest.approx([math.log2(3 / 2)] + [-1.0] * 5)
    assert "bn against none: seed 0 without a target to reach." in found.unpaired
    outcomes[0] = replace(outcomes[0], status=Status.finished, stuck="training accuracy 10.0 %")
    assert result(made, outcomes, records=records).unpaired == found.unpaired


def test_a_margin_of_times_is_a_ratio() -> None:
    with pytest.raises(ConfigError, match=r"study.margin=0.2 is no ratio: study.analysis=time_to_target"):
        timed({"none": [epochs([0.5])], "bn": [epochs([0.5])]}, margin=0.2)


@pytest.mark.parametrize(("num_seeds", "look"), [(8, FIRST), (20, FIRST), (20, Look(Rule.declared(20)))])
def test_equal_speeds_are_told_apart_falsely_in_at_most_5_percent(num_seeds: int, look: Look) -> None:
    rng = np.random.default_rng(0)

    def course() -> History:  # at 8 seeds runs reach their plateau, at 20 they still rise
        if num_seeds == 8:
            return epochs(list(0.9 - 0.5 * np.exp(-rng.uniform(0.3, 0.6) * np.arange(1, 13)) + rng.normal(0, 0.01, 12)))
        return epochs(list(rng.normal(0.95, 0.002) - 0.3 * np.exp(-np.arange(1, 13) / 5) + rng.normal(0, 0.0005, 12)))

    def shown() -> bool:
        histories = {arm: [course() for _ in range(num_seeds)] for arm in ("none", "bn")}
        return timed(histories, look).deciding[0].shows_difference

    # A baseline always reaches its own last accuracy and the other arm need not: no bias may come of it.
    trials = TRIALS if num_seeds == 8 else 60
    assert sum(shown() for _ in range(trials)) / trials <= 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / trials)


def test_times_that_are_cut_off_are_never_equivalent() -> None:
    """One validation more than there are is a small ratio, however far away the target is."""
    none, late = epochs([0.1 + 0.05 * k for k in range(1, 17)]), epochs([0.1] * 16)
    (c, _) = timed({"none": [none] * 8, "bn": [none, late] * 4}, margin=1.25, direction="less").comparisons
    assert c.differences == pytest.approx([0.0, math.log2(17 / 16)] * 4)
    assert c.unresolved == "the target is not reached in 4 of 8 seeds"
    assert c.verdict is Verdict.INCONCLUSIVE


def test_a_target_that_is_not_reached_counts_as_reached_after_one_more_interval_as_the_last() -> None:
    run = Validations.of([{"step": step, "val/accuracy": 0.5} for step in (100, 300, 350)])
    assert run
    assert run.interval == 50
    assert time_to(0.9, run, run).updates == 400


def test_a_seed_that_failed_in_the_arm_sets_no_target() -> None:
    outcomes, records = with_histories(
        {"none": [epochs([0.5, 0.9])] + [epochs([0.5, 0.6])] * 2, "bn": [epochs([0.6, 0.6])] * 3}
    )
    outcomes[3] = replace(outcomes[3], status=Status.failed, value=None)
    found = result(study("none", "bn", analysis=Analysis.time_to_target), outcomes, records=records)
    assert found.comparisons[0].differences == [-1.0, -1.0]
    assert any("the target is the last validation accuracy of none, 60.00 % in the mean" in note for note in found.notes)
    assert found.unpaired == ["bn: seed 0 failed."]


def test_equal_times_are_equivalent_if_every_target_is_reached() -> None:
    slow, fast = (epochs([0.1 + k / steps for k in range(1, steps + 1)] + [0.9] * (40 - steps)) for steps in (20, 21))
    made = {"none": [slow, fast] * 6, "bn": [fast, slow] * 6}
    updates = timed(made, margin=1.25, direction="equivalent").comparisons[0]
    assert (updates.unresolved, updates.verdict) == ("", Verdict.EQUIVALENT)
    rule = Rule.again()
    few = timed({arm: runs[:6] for arm, runs in made.items()}, Look(rule), margin=1.1, direction="equivalent").comparisons[0]
    assert few.verdict is Verdict.INCONCLUSIVE
    assert few.n_needed == seeds_needed(few.differences, rule, few.margin, rule.alpha)  # not where its signs would show more


def test_a_baseline_that_misses_the_common_target_counts_as_later_than_the_longer_run_of_its_pair() -> None:
    none = [epochs([0.5, 0.8])] * 7 + [epochs([0.5, 0.6])]  # the target is their mean, 77.5 %
    found = timed({"none": none, "bn": [epochs([0.5, 0.6, 0.7, 0.9])] * 8}, direction="greater")
    assert found.deciding[0].differences == pytest.approx([math.log2(400 / 200)] * 7 + [math.log2(400 / 500)])


def test_an_arm_without_any_validation_is_late_and_not_left_out() -> None:
    found = timed({"none": [epochs([0.5, 0.8])] * 8, "bn": [epochs([0.9, 0.9])] * 7 + [[]]}, direction="less")
    assert found.deciding[0].differences == pytest.approx([math.log2(100 / 200)] * 7 + [math.log2(300 / 200)])


def test_seconds_of_some_epochs_alone_are_no_seconds() -> None:
    history = epochs([0.5, 0.9])
    del history[0]["time/epoch_seconds"]
    run = Validations.of(history)
    assert run
    assert np.isnan(run.seconds).all()


def test_a_pair_of_two_late_runs_needs_no_validation_of_the_arm() -> None:
    none = [epochs([0.5, 0.8])] * 7 + [epochs([0.5, 0.6])]  # the last seed misses the common target
    found = timed({"none": none, "bn": [epochs([0.9, 0.9])] * 7 + [[]]}, direction="less")
    assert found.deciding[0].n == 8
    assert found.deciding[0].differences[-1] == pytest.approx(0.0)
