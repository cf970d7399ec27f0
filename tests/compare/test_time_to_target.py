"""Time to a target and loss at matched training loss: read from made histories whose answers are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_outcomes import MadeRecords, outcome, result, study

from bnexp.compare.result import Outcome, Status, StudyResult, Verdict
from bnexp.compare.tables import comparison_rows
from bnexp.compare.time_to_target import Losses, Validations, time_to
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


def arms(histories: dict[str, list[History]]) -> tuple[list[Outcome], MadeRecords]:
    outcomes = [outcome(arm, seed, 0.9) for arm, rows in histories.items() for seed in range(len(rows))]
    known = {o.run_id: histories[o.arm][o.seed] for o in outcomes}
    return outcomes, MadeRecords(histories=known)


def timed(histories: dict[str, list[History]], **keys: object) -> StudyResult:
    made = study(*histories, analysis=Analysis.time_to_target, **keys)  # type: ignore[arg-type]
    outcomes, records = arms(histories)
    return result(made, outcomes, records=records)


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
    for c in timed({"none": slow, "bn": fast}, direction="less").comparisons:
        assert c.n_needed == 7  # of two measures each is tested at .025; the smallest p of 6 pairs is .031


def test_validations_inside_an_epoch_count_and_share_its_seconds() -> None:
    history: History = [{"step": 50, "val/accuracy": 0.7}, *epochs([0.6, 0.9], 4.0), {"step": 120, "train/step_loss": 1.0}]
    run = Validations.of(history)
    assert run
    assert run.steps.tolist() == [50, 100, 200]
    assert run.seconds.tolist() == [2.0, 4.0, 8.0]
    assert time_to(0.7, run, run).seconds == 2.0
    assert Validations.of([{"step": 3, "train/step_loss": 1.0}, {"step": 5, "val/accuracy": math.nan}]) is None


def test_a_faster_arm_is_told_as_a_ratio() -> None:
    slow = [epochs([0.5, 0.6, 0.7, 0.8 + 0.001 * seed]) for seed in range(8)]
    fast = [epochs([0.7, 0.9 if seed < 7 else 0.8, 0.95, 0.95], 4.0) for seed in range(8)]
    found = timed({"none": slow, "bn": fast}, direction="less", question="Does it converge in fewer updates?")
    updates, seconds = found.comparisons
    assert (updates.measure, updates.unit, updates.test) == ("updates to target", "log2 ratio", "sign flip")
    assert updates.differences == pytest.approx([-1.0] * 7 + [math.log2(3 / 4)])
    assert updates.verdict is Verdict.SUPPORTED
    assert updates.p_test == updates.p_sign_flip == 2 / 2**8
    assert updates.reason.startswith("1.90× fewer, significant; no margin is set")
    assert comparison_rows(found)[0]["difference"] == "0.53×"
    assert seconds.measure == "seconds to target"  # an epoch takes twice as long, so that nothing is left of the gain
    assert seconds.verdict is Verdict.INCONCLUSIVE
    assert "the target is the last validation accuracy of none, 80.35 % in the mean over seeds; bn takes 210 updates" in (
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
        "Yes: bn needs 3.67× [2.99, 4.50] fewer updates than none to reach the accuracy that none ends with on mnist"
    )
    assert "sign-flip test p = .008; larger than the margin of 1.25×" in found.answer


def test_a_run_that_never_reaches_the_target_counts_as_later_than_any_and_is_named() -> None:
    none = [epochs([0.5, 0.6, 0.7, 0.8])] * 7
    bn = [epochs([0.6, 0.6, 0.6, 0.7])] * 6 + [epochs([0.6, 0.9, 0.9, 0.9])]
    found = timed({"none": none, "bn": bn}, direction="less")
    c = found.comparisons[0]
    assert c.differences == pytest.approx([math.log2(5 / 4)] * 6 + [-1.0])
    assert any("bn does not reach the target with seeds 0, 1, 2, 3, 4, 5; it counts there" in note for note in found.notes)
    assert c.verdict is Verdict.INCONCLUSIVE


def test_diverged_runs_are_late_as_arm_and_set_no_target_as_baseline() -> None:
    outcomes, records = arms({"none": [epochs([0.5, 0.8])] * 7, "bn": [epochs([0.9, 0.9])] * 7})
    outcomes[0] = replace(outcomes[0], status=Status.diverged, value=0.1)
    outcomes[8] = replace(outcomes[8], status=Status.diverged, value=0.1)
    records.histories[outcomes[8].run_id] = []
    made = study("none", "bn", analysis=Analysis.time_to_target)
    found = result(made, outcomes, records=records)
    assert found.comparisons[0].seeds == [1, 2, 3, 4, 5, 6]
    assert found.comparisons[0].differences == pytest.approx([math.log2(3 / 2)] + [-1.0] * 5)
    assert "bn against none: seed 0 without a target to reach." in found.unpaired


def test_a_margin_of_times_is_a_ratio() -> None:
    with pytest.raises(ConfigError, match=r"study.margin=0.2 is no ratio of times"):
        timed({"none": [epochs([0.5])], "bn": [epochs([0.5])]}, margin=0.2)


def test_equal_speeds_are_told_apart_falsely_in_at_most_5_percent() -> None:
    rng = np.random.default_rng(0)

    def course() -> History:
        speed = rng.uniform(0.3, 0.6)
        return epochs(list(0.9 - 0.5 * np.exp(-speed * np.arange(1, 13)) + rng.normal(0, 0.01, 12)))

    wrong = [
        any(c.p_adjusted < 0.05 for c in timed({arm: [course() for _ in range(8)] for arm in ("none", "bn")}).comparisons[:1])
        for _ in range(TRIALS)
    ]
    # The baseline always reaches its own last accuracy and the other arm need not: no bias may come of it.
    assert sum(wrong) / TRIALS <= 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / TRIALS)


def losses(train: list[float], validation: list[float], key: str = "train/loss") -> History:
    return [
        {"epoch": k, "step": 10 * k, "train/loss": 9.0, key: t, "val/loss": v}
        for k, (t, v) in enumerate(zip(train, validation, strict=True), 1)
    ]


def test_the_gap_is_interpolated_where_training_loss_first_falls_to_the_level() -> None:
    run = Losses(np.array([1.0, 0.5, 0.7, 0.1]), np.array([1.2, 0.8, 0.9, 0.6]))
    assert run.gap_at(0.75) == pytest.approx(1.0 - 0.75)
    assert run.gap_at(0.5) == pytest.approx(0.3)
    assert run.gap_at(0.3) == pytest.approx(0.9 - 0.3 * 4 / 6 - 0.3)
    assert run.gap_at(1.0) == pytest.approx(0.2)
    assert run.gap_at(1.5) is None  # below it from the start: nothing is extrapolated


@pytest.mark.parametrize("key", ["train/loss", "train_eval/loss"])
def test_gaps_are_compared_at_the_lowest_training_loss_that_both_reach(key: str) -> None:
    rng = np.random.default_rng(1)
    histories = {
        "none": [losses([1.0, 0.6, 0.2], [1.1, 0.9, 0.8 + 0.01 * x], key) for x in rng.normal(0, 1, 7)],
        "bn": [losses([0.8, 0.4, 0.0], [0.9, 0.6, 0.5 + 0.01 * x], key) for x in rng.normal(0, 1, 7)],
    }
    outcomes, records = arms(histories)
    made = study("none", "bn", analysis=Analysis.matched_loss, direction="less", margin=0.05)
    found = result(made, outcomes, records=records)
    (c,) = found.comparisons
    assert (c.unit, c.margin, c.verdict) == ("nats", 0.05, Verdict.SUPPORTED)
    # at 0.2: none 0.6 + noise; bn half way between 0.6 and 0.5, less 0.2: 0.35 + noise / 2
    assert c.difference == pytest.approx(0.35 - 0.6, abs=0.01)
    assert f"bn against none: matched at a training loss ({key}) of 0.2000 nats, mean over seeds." in found.notes
    (swapped,) = result(replace(made, baseline="bn"), outcomes, records=records).comparisons
    assert swapped.difference == pytest.approx(-c.difference)
    outcomes[3] = replace(outcomes[3], status=Status.diverged, value=0.1)
    lost = result(made, outcomes, records=records)
    assert lost.comparisons[0].n == 6
    assert "bn against none: seed 3 diverged or without losses; not compared." in lost.unpaired
    records.histories[outcomes[4].run_id] = losses([1.0, 0.95, 0.9], [1.1, 1.0, 0.9], key)
    early = result(made, outcomes, records=records)
    assert early.comparisons[0].n == 5
    assert any(line.startswith("bn against none: seed 4 not compared, for one run is already") for line in early.unpaired)


def test_gaps_at_matched_loss_keep_their_rate_and_their_intervals_cover_the_truth() -> None:
    """Arms of different speed whose validation loss at a training loss is the same, and another by .05 nats."""
    rng = np.random.default_rng(2)
    made = study("none", "bn", "shifted", analysis=Analysis.matched_loss)
    wrong = covered = found = 0

    def course(speed: float, shift: float) -> History:
        train = 2.3 * np.exp(-speed * rng.uniform(0.8, 1.2) * np.arange(1, 11))
        return losses(list(train), list(0.3 + 0.9 * train + shift + rng.normal(0, 0.04)))

    for _ in range(TRIALS):
        outcomes, records = arms(
            {
                "none": [course(0.3, 0.0) for _ in range(8)],
                "bn": [course(0.5, 0.0) for _ in range(8)],
                "shifted": [course(0.5, -0.1) for _ in range(8)],
            }
        )
        same, shifted = result(made, outcomes, records=records).comparisons
        wrong += same.p_adjusted < 0.05
        covered += shifted.low <= -0.1 <= shifted.high
        found += shifted.verdict is Verdict.SUPPORTED
    slack = 3.5 * math.sqrt(0.05 * 0.95 / TRIALS)
    assert wrong / TRIALS <= 0.05 + slack
    assert covered / TRIALS == pytest.approx(0.95, abs=slack)
    assert found / TRIALS > 0.8  # d_z = -0.1 / (0.04 sqrt(2)) = 1.8; power of a paired t test at .025 with 8 pairs: .98
