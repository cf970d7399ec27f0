"""Which points of a sweep are trained again."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnexp.comparison.sweep.record import Axis, SweepRecord, Trial
from bnexp.run.sweep.confirm import chosen
from tests.comparison.made_sweeps import sweep_record

VALUES = {
    ("batch", 0.1): 0.95,
    ("batch", 0.3): 0.94,
    ("batch", 0.03): 0.93,
    ("none", 0.1): 0.9,
    ("none", 0.3): 0.8,
    ("layer", 0.1): 0.7,
}


def record(folder: Path, norm: str) -> SweepRecord:
    points = enumerate(VALUES.items(), start=1)
    trials = [
        Trial(n, {norm: kind, "optim.lr": lr}, [f"run-{n}"], "finished", [value], [1]) for n, ((kind, lr), value) in points
    ]
    return sweep_record(folder, [Axis(norm, False), Axis("optim.lr", True)], trials, goal="maximize")


@pytest.mark.parametrize("norm", ["norm", "norm.kind"])
@pytest.mark.parametrize(
    ("num_points", "numbers"), [(0, []), (1, [1, 4, 6]), (3, [1, 2, 3, 4, 6]), (4, [1, 2, 3, 4, 6]), (9, [1, 2, 3, 4, 5, 6])]
)
def test_the_best_points_and_the_best_of_each_norm(tmp_path: Path, norm: str, num_points: int, numbers: list[int]) -> None:
    """Else a sweep in which all of the best have one norm would not say whether the norm helps."""
    assert [trial.number for trial in chosen(record(tmp_path, norm), num_points)] == numbers


def test_a_sweep_without_norms_trains_its_best_points_again(tmp_path: Path) -> None:
    assert [trial.number for trial in chosen(record(tmp_path, "model.activation"), 2)] == [1, 2]
