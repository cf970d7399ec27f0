"""Measurements without measuring."""

from __future__ import annotations

from bnexp.bench.ladder import Measurement
from bnexp.bench.work import RungResult, RunResult, Work
from bnexp.config.options import DataName, Device

WORK = Work(DataName.mnist, None, 1, 1, Device.cpu)


def measurement(rung: str, num_runs: int, repeat: int, seconds: float, accuracy: float = 0.97) -> Measurement:
    """Runs whose accuracies lie around ``accuracy``, half a percentage point apart from seed to seed."""
    arms = ["after_pool"] if num_runs == 1 else ["none", "after_pool"]
    seeds = range(max(1, num_runs // 2))
    middle = (len(seeds) - 1) / 2
    runs = [RunResult(arm, seed, accuracy + 0.005 * (seed - middle)) for seed in seeds for arm in arms]
    return Measurement(rung, num_runs, repeat, seconds, RungResult(runs, 1000 * num_runs, seconds / 2, 2, 1))
