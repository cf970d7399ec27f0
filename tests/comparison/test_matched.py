"""Metrics at matched training loss, read from made histories whose answers are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from made_outcomes import result, study, with_histories

from bnexp.comparison.matched import Course, Span
from bnexp.comparison.result import Status, StudyResult, Verdict
from bnexp.config.options import Analysis
from bnexp.config.schema import ConfigError

History = list[dict[str, float]]
TRIALS = 200


def losses(train: Sequence[float], validation: Sequence[float], key: str = "train/loss") -> History:
    return [
        {"epoch": k, "step": 10 * k, "train/loss": 9.0, key: t, "val/loss": v}
        for k, (t, v) in enumerate(zip(train, validation, strict=True), 1)
    ]


def measured(train: Sequence[float], values: Sequence[float], metric: str = "landscape/beta") -> History:
    """Measurements at single steps, and the line of the epoch that they are in."""
    rows = [{"step": k, "train/loss": t, metric: v} for k, (t, v) in enumerate(zip(train, values, strict=True), 1)]
    return [*rows, {"epoch": 1, "step": len(rows), "train/loss": float(np.mean(train)), metric: 77.0}]


def at_loss(course: Course, *levels: float) -> list[float]:
    return list(course.at(-np.array(levels)))


def course(train: Sequence[float], values: Sequence[float]) -> Course:
    return Course(-np.array(train), np.array(values))


def test_a_metric_is_interpolated_where_training_loss_first_falls_to_the_level() -> None:
    run = course([1.0, 0.5, 0.7, 0.1], [1.2, 0.8, 0.9, 0.6])
    assert at_loss(run, 0.75, 0.5, 0.3, 1.0) == pytest.approx([1.0, 0.8, 0.9 - 0.3 * 4 / 6, 1.2])


def test_a_span_is_what_both_runs_cover_of_trained_territory() -> None:
    slow, fast = course([2.0, 1.0, 0.4, 0.5], [0] * 4), course([0.8, 0.3], [0] * 2)
    assert Span.of(slow, fast) == Span.of(fast, slow) == Span(-0.8, -0.4)
    assert Span.of(slow, course([0.3, 0.2], [0] * 2)) is None  # one begins below the lowest of the other
    for least, begins in ((-math.inf, -2.0), (-1.15, -1.0), (-0.6, -0.4), (-0.4, -0.4)):
        part = slow.trained(least)
        assert part is not None
        assert part.progress[0] == begins
    assert slow.trained(-0.3) is None


def test_a_smoothed_course_never_falls_and_keeps_its_means() -> None:
    smooth = course([2.0, 0.6, 1.0, 0.2, 0.5, 0.3], [1, 2, 4, 8, 2, 5]).smoothed()
    assert list(-smooth.progress) == pytest.approx([2.0, 0.8, 0.35, 0.3])
    assert list(smooth.values) == pytest.approx([1, 3, 5, 5])
    once = course([1.0, 0.5], [3, 4])
    assert list(once.smoothed().values) == [3, 4]


def test_what_single_steps_show_does_not_depend_on_how_fast_an_arm_trains() -> None:
    """The metric is the same function of the loss. Batch losses are noisy, and the fast arm has few lines at each."""
    rng = np.random.default_rng(5)

    def run(speed: float) -> History:
        true = 0.02 + 2.2 * np.exp(-speed * np.linspace(0.1, 5, 40))
        train, values = true * np.exp(rng.normal(0, 0.5, 40)), true**0.7 * np.exp(rng.normal(0, 0.1, 40))
        return measured(list(train), list(values))

    differences, wrong = [], 0
    for _ in range(TRIALS):
        (c,) = probed([run(4) for _ in range(8)], [run(1) for _ in range(8)]).comparisons
        differences.append(c.difference)
        wrong += c.p_adjusted < 0.05
    assert abs(np.mean(differences)) < 0.05  # octaves; a margin is .32
    assert wrong / TRIALS <= 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / TRIALS)


def test_nothing_is_interpolated_from_before_an_arm_had_trained() -> None:
    """The fast arm gets from a loss of 2.3 to .6 within one step; between them the metric is no straight line."""
    slow = measured([2.3, 1.1, 0.9, 0.6, 0.2], [1, 16, 16, 16, 16])
    fast = measured([2.3, 0.6, 0.2], [1, 16, 16])
    (c,) = probed([fast] * 6, [slow] * 6).comparisons
    assert c.difference == 0


def test_single_steps_are_read_before_epochs_and_lines_without_a_value_not_at_all() -> None:
    rows = measured([1.0, 0.5, 0.2], [4.0, 8.0, math.nan])
    run = Course.of([*rows, {"step": 9, "landscape/beta": 1.0}], "train/loss", "landscape/beta")
    assert run is not None
    assert (list(run.progress), list(run.values)) == ([-1.0, -0.5], [2.0, 3.0])  # a ratio is read as its logarithm
    by_epoch = Course.of(rows[-1:], "train/loss", "landscape/beta")
    assert by_epoch is not None
    assert list(by_epoch.values) == [math.log2(77)]
    assert Course.of(rows, "train/loss", "val/loss") is None


@pytest.mark.parametrize("key", ["train/loss", "train_eval/loss"])
def test_validation_losses_are_compared_at_the_lowest_training_loss_that_both_reach(key: str) -> None:
    rng = np.random.default_rng(1)
    histories = {
        "none": [losses([1.0, 0.6, 0.2], [1.1, 0.9, 0.8 + 0.01 * x], key) for x in rng.normal(0, 1, 7)],
        "bn": [losses([0.8, 0.4, 0.0], [0.9, 0.6, 0.5 + 0.01 * x], key) for x in rng.normal(0, 1, 7)],
    }
    outcomes, records = with_histories(histories)
    keys = {"analysis": Analysis.matched, "metric": "val/loss", "match": key}
    made = study("none", "bn", direction="less", margin=0.05, **keys)
    found = result(made, outcomes, records=records)
    (c,) = found.comparisons
    assert (c.unit, c.margin, c.verdict) == ("nats", 0.05, Verdict.SUPPORTED)
    # at 0.2: none 0.8 + noise; bn half way between 0.6 and 0.5: 0.55 + noise / 2
    assert c.difference == pytest.approx(0.55 - 0.8, abs=0.01)
    assert f"bn against none: compared at {key} = 0.2 (mean over 7 seeds)." in found.notes
    (swapped,) = result(replace(made, baseline="bn"), outcomes, records=records).comparisons
    assert swapped.difference == pytest.approx(-c.difference)
    outcomes[3] = replace(outcomes[3], status=Status.diverged, value=0.1)
    lost = result(made, outcomes, records=records)
    assert lost.comparisons[0].n == 6
    assert f"bn against none: seed 3 untrained or without {key} and val/loss; not compared." in lost.unpaired
    outcomes[3] = replace(outcomes[3], status=Status.finished, stuck="training accuracy 10.0 %")
    assert result(made, outcomes, records=records).unpaired == lost.unpaired  # the loss of guessing is no loss to match
    records.histories[outcomes[4].run_id] = losses([1.0, 0.95, 0.9], [1.1, 1.0, 0.9], key)
    early = result(made, outcomes, records=records)
    assert early.comparisons[0].n == 5
    said = f"bn against none: seed 4 not compared, for there is no {key} below 1.151 that both runs pass; train longer."
    assert said in early.unpaired


def probed(arm: Sequence[History], baseline: Sequence[History], **keys: object) -> StudyResult:
    outcomes, records = with_histories({"none": list(baseline), "bn": list(arm)})
    made = study("none", "bn", analysis=Analysis.matched, metric="landscape/beta", direction="less", **keys)
    return result(made, outcomes, records=records)


def test_what_single_steps_show_is_compared_over_the_whole_common_range_by_ratios() -> None:
    """Twice the baseline at equal loss, though it ends smaller, because it ends at a lower loss."""
    rng = np.random.default_rng(3)
    slow, fast = np.linspace(2.3, 0.5, 40), np.linspace(1.0, 0.01, 40)

    def smoothness(train: np.ndarray, factor: float) -> History:
        return measured(train, factor * train * 2 ** rng.normal(0, 0.05))

    found = probed([smoothness(fast, 2) for _ in range(8)], [smoothness(slow, 1) for _ in range(8)], margin=1.25)
    (c,) = found.comparisons
    assert c.unit == "log2 ratio"
    assert c.difference == pytest.approx(1.0, abs=0.05)
    assert c.margin == pytest.approx(math.log2(1.25))
    assert c.verdict is Verdict.REFUTED
    assert (
        "bn against none: compared at 11 values of train/loss from 1 to 0.5, evenly spaced (mean over 8 seeds)." in found.notes
    )
    said = (
        "at the same training loss, with bn the effective smoothness constant is 1.97 times [1.83, 2.12] what it is with none"
    )
    assert said in found.answer
    assert "against the expected direction; larger than the margin of a factor of 1.25" in found.answer
    same = probed([smoothness(fast, 1.0) for _ in range(12)], [smoothness(slow, 1.0) for _ in range(12)], margin=1.25)
    assert same.comparisons[0].shows_equivalence
    assert "the effective smoothness constant is the same with bn as with none within a factor of 1.25 (" in same.answer


def test_the_mean_is_over_levels_and_not_over_steps() -> None:
    """Many steps at one loss count no more than few."""
    curve = measured([1.0] + [0.99] * 50 + [0.5], [1.0] + [1.0] * 50 + [4.0])
    flat = measured([1.0, 0.5], [1.0, 1.0])
    (c,) = probed([curve] * 6, [flat] * 6).comparisons
    # log2 rises from 0 at a loss of .99 to 2 at .5; levels are .05 apart
    assert c.difference == pytest.approx(np.mean(np.interp(np.linspace(-1, -0.5, 11), [-1, -0.99, -0.5], [0, 0, 2])))


def test_losses_near_that_of_guessing_are_not_matched() -> None:
    """Half of ln 10 is 1.15: an untrained network tells nothing of the arms."""
    early, late = measured([2.3, 1.9, 1.2], [1, 1, 1]), measured([2.3, 1.5, 0.2], [1, 1, 1])
    found = probed([late] * 6, [early] * 6)
    assert found.comparisons[0].n == 0
    assert "bn and none have no training loss in common at which both have trained on mnist" in found.answer
    assert "bn against none: seeds 0, 1, 2, 3, 4, 5 not compared, for there is no train/loss below 1.151" in found.unpaired[0]


def test_accuracy_can_be_what_is_matched() -> None:
    """It rises, so the furthest point is the highest that both reach; .55 is half way from guessing to perfect."""

    def run(accuracy: Sequence[float], loss: Sequence[float]) -> History:
        rows = enumerate(zip(accuracy, loss, strict=True), 1)
        return [{"epoch": k, "step": k, "val/accuracy": a, "val/loss": v} for k, (a, v) in rows]

    outcomes, records = with_histories(
        {
            "none": [run([0.5, 0.7, 0.9], [1.0, 0.6, 0.2])] * 3 + [run([0.2, 0.3, 0.5], [2.0, 1.9, 1.5])] * 3,
            "bn": [run([0.6, 0.8], [1.5, 1.1])] * 6,
        }
    )
    made = study("none", "bn", analysis=Analysis.matched, metric="val/loss", match="val/accuracy", direction="less")
    found = result(made, outcomes, records=records)
    (c,) = found.comparisons
    assert (c.n, c.difference) == (3, pytest.approx(1.1 - 0.4))
    assert any("seeds 3, 4, 5 not compared, for there is no val/accuracy above 55 % that both" in s for s in found.unpaired)
    assert "at the same validation accuracy, the validation loss is 0.7000 nats higher with bn than with none" in found.answer


def test_a_margin_of_a_ratio_is_above_1() -> None:
    with pytest.raises(ConfigError, match=r"study\.margin=0\.2 is no ratio: study\.analysis=matched compares by ratios here"):
        probed([measured([1.0, 0.5], [1, 1])] * 6, [measured([1.0, 0.5], [1, 1])] * 6, margin=0.2)


def test_gaps_at_matched_loss_keep_their_rate_and_their_intervals_cover_the_truth() -> None:
    """Arms of different speed whose validation loss at a training loss is the same, and another by .05 nats."""
    rng = np.random.default_rng(2)
    made = study("none", "bn", "shifted", analysis=Analysis.matched, metric="val/loss")
    wrong = covered = found = 0

    def course(speed: float, shift: float) -> History:
        train = 2.3 * np.exp(-speed * rng.uniform(0.8, 1.2) * np.arange(1, 11))
        return losses(list(train), list(0.3 + 0.9 * train + shift + rng.normal(0, 0.04)))

    for _ in range(TRIALS):
        outcomes, records = with_histories(
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


def test_a_run_without_losses_is_listed_and_costs_no_other() -> None:
    usual = losses([0.9, 0.5, 0.3], [1.0, 0.6, 0.5])
    outcomes, records = with_histories({"none": [usual] * 7, "bn": [usual] * 6 + [[]]})
    found = result(study("none", "bn", analysis=Analysis.matched, metric="val/loss"), outcomes, records=records)
    assert found.comparisons[0].n == 6
    assert any("seed 6" in line and "without train/loss and val/loss; not compared." in line for line in found.unpaired)


def test_an_epoch_without_a_validation_loss_and_a_run_without_a_partner_cost_nothing_else() -> None:
    usual = losses([0.9, 0.5, 0.3], [1.0, 0.6, 0.5])
    outcomes, records = with_histories(
        {"none": [usual] * 7, "bn": [[*usual[:1], {"epoch": 2, "train/loss": 0.1}, usual[2]]] * 7}
    )
    outcomes[0] = replace(outcomes[0], status=Status.failed, value=None)
    made = study("none", "bn", analysis=Analysis.matched, metric="val/loss")
    (c,) = result(made, outcomes, records=records).comparisons
    assert (c.n, c.difference) == (6, pytest.approx(0.0))


def test_without_records_there_is_nothing_to_match() -> None:
    outcomes, _ = with_histories({"none": [[]] * 2, "bn": [[]] * 2})
    found = result(study("none", "bn", analysis=Analysis.matched, metric="val/loss"), outcomes)
    assert found.comparisons[0].n == 0
    assert found.unpaired == ["bn against none: seeds 0, 1 untrained or without train/loss and val/loss; not compared."]
