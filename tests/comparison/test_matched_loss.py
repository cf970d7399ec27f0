"""Loss at matched training loss, read from made histories whose answers are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_outcomes import result, study, with_histories

from bnexp.comparison.matched_loss import Losses
from bnexp.comparison.result import Status, Verdict
from bnexp.config.options import Analysis

History = list[dict[str, float]]
TRIALS = 200


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
    outcomes, records = with_histories(histories)
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
    assert "bn against none: seed 3 untrained or without losses; not compared." in lost.unpaired
    outcomes[3] = replace(outcomes[3], status=Status.finished, stuck="training accuracy 10.0 %")
    assert result(made, outcomes, records=records).unpaired == lost.unpaired  # the loss of guessing is no loss to match
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


def test_an_epoch_without_a_validation_loss_and_a_run_without_a_partner_cost_nothing_else() -> None:
    usual = losses([0.9, 0.5, 0.3], [1.0, 0.6, 0.5])
    outcomes, records = with_histories(
        {"none": [usual] * 7, "bn": [[*usual[:1], {"epoch": 2, "train/loss": 0.1}, usual[2]]] * 7}
    )
    outcomes[0] = replace(outcomes[0], status=Status.failed, value=None)
    (c,) = result(study("none", "bn", analysis=Analysis.matched_loss), outcomes, records=records).comparisons
    assert (c.n, c.difference) == (6, pytest.approx(0.0))


def test_without_records_there_is_nothing_to_match() -> None:
    outcomes, _ = with_histories({"none": [[]] * 2, "bn": [[]] * 2})
    found = result(study("none", "bn", analysis=Analysis.matched_loss), outcomes)
    assert found.comparisons[0].n == 0
    assert found.unpaired == ["bn against none: seeds 0, 1 untrained or without losses; not compared."]


def test_a_run_without_losses_is_listed_and_costs_no_other() -> None:
    usual = losses([0.9, 0.5, 0.3], [1.0, 0.6, 0.5])
    outcomes, records = with_histories({"none": [usual] * 7, "bn": [usual] * 6 + [[]]})
    found = result(study("none", "bn", analysis=Analysis.matched_loss, metric="val/loss"), outcomes, records=records)
    assert found.comparisons[0].n == 6
    assert any("seed 6" in line and "without losses; not compared." in line for line in found.unpaired)
