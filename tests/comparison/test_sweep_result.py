"""The end of a sweep: the best by fresh seeds, how sure that is, and what cannot be told apart."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from made_records import record as made_run

from bnexp.comparison import stats
from bnexp.comparison.sweep.importance import importances
from bnexp.comparison.sweep.record import Axis, Confirmed, Trial
from bnexp.comparison.sweep.result import SweepResult, conclude, point_name, shown_interval
from bnexp.tracking.store import Store
from tests.comparison.made_sweeps import sweep_record

NOISE = (0.0, 0.004, -0.003, 0.002, -0.004, 0.001)


def concluded(folder: Path, *means: float, in_sweep: tuple[float, ...] = (0.95, 0.94, 0.93), seeds: int = 6) -> SweepResult:
    """A sweep over three norms, whose points have these mean accuracies with fresh seeds."""
    norms = ("batch", "layer", "group")
    trials = [
        Trial(k, {"norm": norm, "optim.lr": 0.1}, [f"{k}" * 12], "finished", [value], [3])
        for k, (norm, value) in enumerate(zip(norms, in_sweep, strict=True), 1)
    ]
    run_ids = {}
    for k, (norm, mean) in enumerate(zip(norms, means, strict=False), 1):
        run_ids[str(k)] = [f"{k}{seed}" + "a" * 10 for seed in range(seeds)]
        for seed, run_id in enumerate(run_ids[str(k)]):
            value = mean + NOISE[seed % 6] + 0.0005 * ((seed * k) % 3)
            metrics = {"val/accuracy": value, "test/accuracy": 0.7 - 2 * NOISE[seed % 6]}
            made_run(folder, run_id, seed=seed + 1, arm=norm, metrics=metrics)
    made = sweep_record(
        folder / "lr" / "sweep-0",
        [Axis("norm", False, list(norms)), Axis("optim.lr", False, [0.1])],
        trials,
        confirmed=Confirmed([1, 2, 3][: len(means)], list(range(1, seeds + 1)), run_ids) if means else None,
    )
    return conclude(made, Store(folder))


def test_the_best_is_the_best_with_fresh_seeds_and_the_luck_of_being_chosen_is_said(tmp_path: Path) -> None:
    result = concluded(tmp_path, 0.90, 0.92, 0.80)
    assert result.best is not None
    assert result.best.params["norm"] == "layer"
    assert [item.trial.number for item in result.fresh] == [2, 1, 3]
    values = [0.92 + noise + 0.0005 * ((seed * 2) % 3) for seed, noise in enumerate(NOISE)]
    assert result.fresh[0].metric == pytest.approx(stats.mean_interval(values, 1 - 0.05 / 3))
    assert result.fresh[0].test == pytest.approx(stats.mean_interval([0.7 - 2 * noise for noise in NOISE], 1 - 0.05 / 3))
    assert result.answer.startswith("norm=layer lr=0.1 is the best of 3 points: val/accuracy 92.05 % [")
    mean = result.fresh[0].metric
    assert f": val/accuracy 92.05 % [{100 * mean.low:.2f}, {100 * mean.high:.2f}] with 6 fresh seeds" in result.answer
    assert "with 6 fresh seeds (in the sweep 94.00 %: chosen as one of the best, it was lucky)" in result.answer
    ahead = stats.mean_interval([2 + 0.05 * ((seed * 2) % 3 - seed % 3) for seed in range(6)])  # paired by seed
    first = f"(+{ahead.estimate:.2f} pp [{ahead.low:.2f}, {ahead.high:.2f}])"
    assert f"It is better than norm=batch lr=0.1 {first} and norm=group lr=0.1 (+12.05 pp" in result.answer
    assert result.train_command == "bnexp train data=digits norm=layer optim.lr=0.1 seed=0"
    assert result.compare_command.endswith(" --metric val/accuracy --group-by norm.kind,optim.lr")
    beginnings = result.compare_command.split()[2:20]
    runs = [run_id for own in (result.record.confirmed or Confirmed([], [], {})).run_ids.values() for run_id in own]
    assert [run_id for begin in beginnings for run_id in runs if run_id.startswith(begin)] == runs
    assert {len(begin) for begin in beginnings} == {6}  # four would do, but there will be other runs


def test_another_point_is_worse_as_good_or_not_told_apart_whichever_way_the_metric_goes(tmp_path: Path) -> None:
    apart = concluded(tmp_path / "apart", 0.90, 0.92, 0.80)
    assert {number: apart.standing(c) for number, c in apart.against_best.items()} == {1: "worse", 3: "worse"}
    loss = replace(apart.record, goal="minimize")  # now the smallest is the best
    found = conclude(loss, Store(tmp_path / "apart"))
    assert {number: found.standing(c) for number, c in found.against_best.items()} == {1: "worse", 2: "worse"}
    assert "It is better than norm=batch" in found.answer
    near = concluded(tmp_path / "near", 0.9, 0.9002)
    assert [near.standing(c) for c in near.against_best.values()] == ["as good"]
    few = concluded(tmp_path / "few", 0.92, 0.80, seeds=3)
    assert [few.standing(c) for c in few.against_best.values()] == ["not told apart"]


def test_the_best_mean_may_be_beaten_on_the_seeds_that_both_have(tmp_path: Path) -> None:
    record = concluded(tmp_path, 0.90, 0.91, seeds=8).record
    again = record.confirmed
    assert again is not None
    for seed in (0, 1):  # without its worst seeds point 1 has the better mean
        shutil.rmtree(tmp_path / "made" / again.run_ids["1"][seed])
        made_run(tmp_path, again.run_ids["2"][seed] + "b", seed=seed, arm="layer", metrics={"val/accuracy": 0.5})
    ids = dict(again.run_ids) | {"2": [*(f"{own}b" for own in again.run_ids["2"][:2]), *again.run_ids["2"][2:]]}
    result = conclude(replace(record, confirmed=replace(again, run_ids=ids)), Store(tmp_path))
    assert result.best is not None
    assert result.best.number == 1
    (c,) = result.against_best.values()
    assert result.standing(c) == "better"
    assert "It is worse than norm=layer lr=0.1 (−1." in result.answer


def test_what_differs_by_little_is_as_good_and_few_seeds_tell_nothing_apart(tmp_path: Path) -> None:
    result = concluded(tmp_path / "six", 0.9, 0.9, 0.9002, in_sweep=(0.85, 0.84, 0.83))
    assert "with 6 fresh seeds (in the sweep 85.00 %), test/accuracy 70.00 % [" in result.answer
    assert "It is as good as norm=" in result.answer
    few = concluded(tmp_path / "three", 0.92, 0.80, seeds=3)
    assert "It is not told apart from norm=layer lr=0.1 (+12." in few.answer


def test_fresh_runs_that_diverged_or_failed_are_said(tmp_path: Path) -> None:
    record = concluded(tmp_path, 0.90, 0.50, in_sweep=(0.85, 0.84, 0.83)).record
    first, second, *_ = (record.confirmed or Confirmed([], [], {})).run_ids["1"]
    shutil.rmtree(tmp_path / "made" / first)
    made_run(tmp_path, first, seed=1, arm="batch", status="diverged", metrics={"val/accuracy": 0.1, "test/accuracy": 0.1})
    assert " with 6 fresh seeds, of which 1 diverged (in the sweep 85.00 %" in conclude(record, Store(tmp_path)).answer
    shutil.rmtree(tmp_path / "made" / second)
    assert " with 5 of 6 fresh seeds, of which 1 diverged (" in conclude(record, Store(tmp_path)).answer


def test_a_loss_without_a_mean_is_no_number_and_no_luck(tmp_path: Path) -> None:
    record = concluded(tmp_path, 0.90, in_sweep=(0.1, 0.2, 0.3)).record
    for seed, run_id in enumerate((record.confirmed or Confirmed([], [], {})).run_ids["1"], 1):
        shutil.rmtree(tmp_path / "made" / run_id)
        made_run(tmp_path, run_id, seed=seed, arm="batch", status="diverged", metrics={"val/loss": float("nan")})
    answer = conclude(replace(record, metric="val/loss", goal="minimize"), Store(tmp_path)).answer
    assert "val/loss has no mean with 6 fresh seeds, of which 6 diverged (in the sweep 0.1000 nats)" in answer


def test_the_same_experiment_under_several_names_makes_no_parameter_important() -> None:
    """Without batch norm its place has no effect: four points are one run. By chance lr would matter in 70 % of such sweeps."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(40):
        values = {lr: float(generator.normal()) for lr in range(8)}
        points = [(lr, place) for lr in values for place in range(6)]
        trials = [
            Trial(k, {"lr": float(lr), "place": str(place)}, [f"{lr}"], "finished", [values[lr]])
            for k, (lr, place) in enumerate(points, 1)
        ]
        record = concluded(Path("nowhere")).record
        found += importances(replace(record, trials=trials, axes=[Axis("lr", True), Axis("place", False, list("012345"))]))
    assert sum(item.p < 0.05 for item in found if item.name == "lr") <= 6  # of 40; more in 1.4 % of cases


def test_without_fresh_seeds_the_answer_says_that_the_best_of_many_is_lucky(tmp_path: Path) -> None:
    result = concluded(tmp_path)
    assert result.answer == (
        "norm=batch lr=0.1 is the best of 3 points: val/accuracy 95.00 % in the sweep; the best of many is better by luck, so "
        "train it again with fresh seeds (--confirm 3)."
    )
    assert (result.fresh, result.comparison, result.compare_command) == ([], None, "")
    alone = conclude(replace(result.record, trials=result.record.trials[:1]), Store(tmp_path))
    assert alone.answer == "norm=batch lr=0.1 is the only point: val/accuracy 95.00 % in the sweep."


@pytest.mark.parametrize(
    ("found", "metric", "text"),
    [
        (stats.Interval(0.9, 0.7, 1.1), "test/accuracy", "90.00 % [70.00, 100.00]"),
        (stats.Interval(0.1, -0.1, 0.3), "val/accuracy", "10.00 % [0.00, 30.00]"),
        (stats.Interval(0.9, -0.7, 1.1), "val/loss", "0.9000 nats [−0.7000, 1.1000]"),
    ],
)
def test_no_accuracy_lies_beyond_100_per_cent(found: stats.Interval, metric: str, text: str) -> None:
    assert shown_interval(found, metric) == text


def test_the_best_is_tested_as_one_that_was_chosen_by_the_same_fresh_seeds(tmp_path: Path) -> None:
    """Corrected for the comparisons with the best alone, one of ten equal points would be called better in 12 % of sweeps."""
    result = concluded(tmp_path, 0.900, 0.9015, 0.8995)
    assert result.comparison is not None
    again = result.record.confirmed or Confirmed([], [], {})
    found = Store(tmp_path).finished([run_id for own in again.run_ids.values() for run_id in own])
    runs = {
        number: [found[run_id].summary.metric("val/accuracy") for run_id in again.run_ids[str(number)]] for number in (1, 2, 3)
    }
    pairs = [(2, 1), (2, 3), (1, 3)]
    p = {pair: scipy.stats.ttest_rel(runs[pair[0]], runs[pair[1]]).pvalue for pair in pairs}
    adjusted = dict(zip(pairs, stats.holm([p[pair] for pair in pairs]), strict=True))
    assert len(result.comparison.comparisons) == 3
    assert list(result.against_best) == [1, 3]
    for number, c in result.against_best.items():
        assert c.p_adjusted == pytest.approx(adjusted[2, number])
        assert c.difference < 0


def test_parameters_that_share_their_last_word_keep_their_names_apart() -> None:
    trial = Trial(1, {"norm": "batch", "norm.momentum": 0.3, "optim.momentum": 0.9, "optim.lr": 0.1}, ["1"])
    assert point_name(trial) == "norm=batch norm.momentum=0.3 optim.momentum=0.9 lr=0.1"
