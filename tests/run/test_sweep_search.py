"""Bayes learns from the results that it is told, also from runs that were stopped, diverged or failed."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bnexp.comparison.sweep.record import Trial
from bnexp.plan.session import session
from bnexp.plan.sweep.file import load_file
from bnexp.plan.sweep.points import Point, SweepPlan, plan_sweep
from bnexp.run.sweep.search import search_of

PARAMETERS = {
    "norm": {"values": ["none", "batch"]},
    "optim.lr": {"distribution": "log_uniform_values", "min": 0.00001, "max": 1.0},
    "optim.momentum": {"distribution": "q_uniform", "min": 0.0, "max": 0.9, "q": 0.1},
    "train.epochs": {"min": 1, "max": 30},
    "model.dropout": {"distribution": "beta"},
    "train.batch_size": {"value": 64},
}
CONTENT = {"method": "bayes", "metric": {"name": "val/loss", "goal": "minimize"}, "parameters": PARAMETERS}


@pytest.fixture
def plan(tmp_path: Path) -> SweepPlan:
    pytest.importorskip("optuna")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(CONTENT))
    with session(["data=digits"]) as hydra:
        return plan_sweep(hydra, load_file(str(tmp_path / "mine.yaml")), None, 3)


def distance(point: Point) -> float:
    """The objective: how far the learning rate is from 0.01, in powers of ten, and worse without norm."""
    assert isinstance(point["optim.lr"], float)
    return abs(math.log10(point["optim.lr"]) + 2) + (point["norm"] == "none")


def tried(plan: SweepPlan, count: int, at_once: int = 3) -> list[Point]:
    """The points that the search chooses; every third one is stopped, and every seventh one fails."""
    search, points = search_of(plan), list[Point]()
    while len(points) < count:
        for point in search.ask(at_once):
            points.append(point)
            number = len(points)
            state = "failed" if number % 7 == 0 else "stopped" if number % 3 == 0 else "finished"
            value = None if state == "failed" else distance(point)
            search.tell(Trial(number, dict(point), [f"r{number}"], state, [value], [2]))
    return points


def test_it_comes_nearer_to_the_best_and_keeps_to_the_file(plan: SweepPlan) -> None:
    points = tried(plan, 45)
    early, late = (sum(map(distance, part)) / len(part) for part in (points[:15], points[-15:]))
    assert late < 0.7 * early
    for point in points:
        assert 1e-5 <= float(str(point["optim.lr"])) <= 1
        assert float(str(point["optim.momentum"])) in [k / 10 for k in range(10)]
        assert point["train.epochs"] in range(1, 31)
        assert 0 <= float(str(point["model.dropout"])) <= 1
        assert "train.batch_size" not in point  # it has one value


def test_the_same_seed_results_and_number_at_once_choose_the_same_points(plan: SweepPlan) -> None:
    assert tried(plan, 24) == tried(plan, 24)
    assert tried(plan, 24)[:12] == tried(plan, 12)


ELSEWHERE = """
from types import SimpleNamespace
from bnexp.comparison.sweep.record import Trial
from bnexp.plan.sweep.distribution import Parameter
from bnexp.plan.sweep.metric import Metric
from bnexp.run.sweep.search import Bayes

names = ("norm.momentum", "optim.lr", "optim.momentum", "optim.weight_decay", "train.label_smoothing")
varied = {name: Parameter(name, "uniform", numbers={"min": 0.0, "max": 1.0}) for name in names}
search = Bayes(SimpleNamespace(search_seed=3, metric=Metric(), varied=varied))
for number in range(1, 15):
    (point,) = search.ask(1)
    search.tell(Trial(number, point, [str(number)], "finished", [point["optim.lr"]], [1]))
print(sorted(point.items()))
"""


def test_another_process_chooses_the_same_points_so_that_an_interrupted_sweep_goes_on() -> None:
    pytest.importorskip("optuna")
    environments = [os.environ | {"PYTHONHASHSEED": seed} for seed in "12"]
    commands = [subprocess.Popen([sys.executable, "-c", ELSEWHERE], env=e, stdout=subprocess.PIPE) for e in environments]
    first, second = (command.communicate()[0] for command in commands)
    assert b"optim.lr" in first
    assert first == second


def test_a_run_that_diverged_counts_as_the_worst(plan: SweepPlan) -> None:
    search = search_of(plan)
    points = list[Point]()
    for number in range(1, 41):
        (point,) = search.ask(1)
        points.append(point)
        value = math.nan if float(str(point["optim.lr"])) > 0.001 else 1.0
        search.tell(Trial(number, dict(point), [f"r{number}"], "diverged", [value], [2]))
    high = [float(str(point["optim.lr"])) > 0.001 for point in points]
    assert sum(high[-15:]) < sum(high[:15])
