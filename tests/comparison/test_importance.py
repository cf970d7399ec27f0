"""The importance of a sweep's parameters: scipy's Kruskal-Wallis test, what chance shows, and an optimum in the middle."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bnexp.comparison.sweep.importance import importances, share_explained
from bnexp.comparison.sweep.record import Axis, SweepRecord, Trial
from bnexp.comparison.sweep.result import best_so_far
from tests.comparison.made_sweeps import sweep_record


def made(values: list[float], axes: list[Axis], params: list[dict[str, object]], goal: str = "maximize") -> SweepRecord:
    trials = [
        Trial(number, own, [f"r{number}"], "missing" if math.isnan(value) else "finished", [value])  # type: ignore[arg-type]
        for number, (value, own) in enumerate(zip(values, params, strict=True), 1)
    ]
    return sweep_record(Path("nowhere"), axes, trials, goal=goal)


def test_the_share_is_epsilon_squared_of_scipys_kruskal_wallis_test() -> None:
    generator = np.random.default_rng(3)
    values = generator.integers(0, 9, 30).astype(float)  # with ties
    groups = generator.integers(0, 3, 30)
    h = stats.kruskal(*(values[groups == k] for k in range(3))).statistic
    assert share_explained(stats.rankdata(values), groups) == pytest.approx(max(0, (h - 2) / 27))
    assert share_explained(np.ones(5), np.array([0, 0, 1, 1, 1])) == 0


def test_what_matters_passes_chance_and_the_rest_does_not() -> None:
    generator = np.random.default_rng(1)
    axes = [Axis("norm", False, ["none", "batch"]), Axis("optim.lr", True), Axis("optim.momentum", False)]
    params: list[dict[str, object]] = [
        {"norm": str(generator.choice(["none", "batch"])), "optim.lr": 10 ** generator.uniform(-3, 0), "optim.momentum": m}
        for m in generator.random(40).tolist()
    ]
    values = [-abs(math.log10(float(own["optim.lr"])) + 1.5) + 0.01 * generator.normal() for own in params]  # type: ignore[arg-type]
    first, *others = importances(made(values, axes, params))
    assert first.name == "optim.lr"
    assert first.share > 0.6 > first.chance  # best in the middle: a correlation would see nothing
    assert first.p < 0.005
    low, high = map(float, first.best.split(" to "))
    assert low <= 10**-1.5 * 1.5
    assert high >= 10**-1.5 / 1.5
    assert all(item.share < 0.3 and item.p > 0.01 for item in others)
    worst = importances(made(values, axes, params, goal="minimize"))[0]
    assert worst.share == first.share
    assert worst.best != first.best


def test_too_few_points_or_one_value_have_no_importance() -> None:
    axes = [Axis("norm", False, ["none", "batch"]), Axis("optim.lr", False, [0.1])]
    params: list[dict[str, object]] = [{"norm": ("none", "batch")[k % 2], "optim.lr": 0.1} for k in range(9)]
    values = [k / 10 for k in range(9)]
    assert [item.name for item in importances(made(values, axes, params))] == ["norm"]
    whole = importances(made(values, [Axis("train.epochs", False)], [{"train.epochs": 1 + k // 3} for k in range(9)]))
    assert [(item.best, item.share > item.chance) for item in whole] == [("3", True)]
    assert importances(made(values[:7] + [math.nan] * 2, axes, params)) == []


def test_the_ranking_leaves_out_what_cannot_be_compared_and_counts_the_same_experiment_once() -> None:
    record = made([0.5, 0.9, math.nan, 0.9, 0.7], [], [{}] * 5)
    trials = record.trials
    object.__setattr__(trials[1], "state", "stopped")
    object.__setattr__(trials[4], "run_ids", trials[0].run_ids)
    assert [trial.number for trial in record.ranked()] == [4, 5]
    assert best_so_far(record) == pytest.approx([0.5, 0.5, 0.5, 0.9, 0.9])
    losses = made([0.5, math.nan, 0.7, 0.4], [], [{}] * 4, goal="minimize")
    assert best_so_far(losses) == pytest.approx([0.5, 0.5, 0.5, 0.4])
    assert [trial.number for trial in losses.ranked()] == [4, 1, 3]
