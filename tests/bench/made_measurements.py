"""Measurements without measuring."""

from __future__ import annotations

from bnexp.bench.measure import Answer, Measurement
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


def settling(rung: str, repeat: int, seconds: float, num_seeds: int, effect: float = 2.5) -> Measurement:
    """A measurement of S0 or S1."""
    answer = Answer("SUPPORTED", num_seeds, effect, {"none": 94.0, "after_pool": 97.0})
    made = measurement(rung, 2 * num_seeds, repeat, seconds)
    return Measurement(rung, 20, repeat, seconds, made.result, answer)
