"""Measurements -> rows: one for each rung and number of runs, with what its accuracy says about its work."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bnexp.bench.measure import Answer, Measurement
from bnexp.bench.work import RUNGS, RunResult

NUM_STANDARD_ERRORS = 3.0  # beyond which a rung's accuracy is flagged
FEWEST_OWN = 4  # runs of a peer, two of each arm: with fewer nothing tells how far its own random numbers may lead


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest value of the repeats."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        return Spread(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Row:
    """One rung at one number of runs.

    Args:
        num_runs: how many runs it trained.
        rung: its name.
        adds: what it is, in terms of the rungs below it.
        repeats: how often it was measured.
        num_processes: processes that train.
        num_threads: threads of each process.
        seconds: of the whole process.
        over_b0: how many times faster than B0, the ratio taken within each repeat; None if B0 was not measured.
        over_b2: the same for B2.
        images_per_second: training images of all runs together, while they train.
        accuracy: on the test set, mean over runs, 0 to 1.
        deviation: difference of the accuracy from that of the lowest rung.
        flagged: whether the deviation is more than noise.
        apart: largest difference of a run's accuracy from that of the same run in the lowest rung; None for that rung,
            and for a peer, which draws other random numbers.
        answer: what its study concluded; None if the rung is not about the answer.
    """

    num_runs: int
    rung: str
    adds: str
    repeats: int
    num_processes: int
    num_threads: int
    seconds: Spread
    over_b0: Spread | None
    over_b2: Spread | None
    images_per_second: Spread
    accuracy: float
    deviation: float
    flagged: bool
    apart: float | None
    answer: Answer | None


def rows_of(measurements: Sequence[Measurement], num_test: int) -> list[Row]:
    """The rows of all measurements: of the ladder by number of runs, then those about the answer.

    Args:
        measurements: of all rungs, repeats and numbers of runs.
        num_test: images of the test set.
    """
    settling = [m for m in measurements if RUNGS[m.rung].is_settling]
    ladder = [m for m in measurements if not RUNGS[m.rung].is_settling]
    groups = [[m for m in ladder if m.num_runs == n] for n in sorted({m.num_runs for m in ladder})]
    return [row for group in [*groups, settling] for row in _rows(group, num_test)]


def _rows(measurements: Sequence[Measurement], num_test: int) -> list[Row]:
    """The rows of one work, in the ladder's order."""
    by_rung = {name: [m for m in measurements if m.rung == name] for name in RUNGS}
    present = {name: mine for name, mine in by_rung.items() if mine}
    return [_row(name, present, num_test) for name in present]


def _row(name: str, present: Mapping[str, Sequence[Measurement]], num_test: int) -> Row:
    """The row of one rung. ``present``: measurements of the rungs that did the same work, the lowest first."""
    mine, last, lowest = present[name], present[name][-1], next(iter(present))
    reference = present[lowest][0].result.runs
    deviation = mean_accuracy(last.result.runs) - mean_accuracy(reference)
    by_chance = RUNGS[name].is_peer or RUNGS[lowest].is_peer
    comparable = last.answer is None and not (by_chance and len(reference) < FEWEST_OWN)
    return Row(
        num_runs=last.num_runs if last.answer is None else len(last.result.runs),
        rung=name,
        adds=RUNGS[name].adds,
        repeats=len(mine),
        num_processes=last.result.num_processes,
        num_threads=last.result.num_threads,
        seconds=Spread.of([m.seconds for m in mine]),
        over_b0=speedup(mine, present.get("B0", [])),
        over_b2=speedup(mine, present.get("B2", [])),
        images_per_second=Spread.of([m.images_per_second for m in mine]),
        accuracy=mean_accuracy(last.result.runs),
        deviation=deviation,
        flagged=comparable and abs(deviation) > NUM_STANDARD_ERRORS * standard_error(reference, num_test),
        apart=None if by_chance or name == lowest else _apart(last.result.runs, reference),
        answer=last.answer,
    )


def _apart(runs: Sequence[RunResult], reference: Sequence[RunResult]) -> float:
    """Largest difference between the accuracies of the same run."""
    known = {(run.arm, run.seed): run.test_accuracy for run in reference}
    return max(abs(run.test_accuracy - known[run.arm, run.seed]) for run in runs if (run.arm, run.seed) in known)


def speedup(mine: Sequence[Measurement], base: Sequence[Measurement]) -> Spread | None:
    """How many times faster than ``base``, repeat by repeat, because neighbours in time met the same state of the machine."""
    seconds = {m.repeat: m.seconds for m in base}
    ratios = [seconds[m.repeat] / m.seconds for m in mine if m.repeat in seconds]
    return Spread.of(ratios) if ratios else None


def mean_accuracy(runs: Sequence[RunResult]) -> float:
    return statistics.fmean(run.test_accuracy for run in runs)


def standard_error(runs: Sequence[RunResult], num_test: int) -> float:
    """Standard error of the difference between the mean accuracies of two such sets of runs that differ only by chance.

    The variance of a run is the variance between the seeds of an arm plus that of a proportion of ``num_test`` images. This is
    generous: rungs share initial weights and batch orders, so they differ only by rounding.
    """
    arms = [[run.test_accuracy for run in runs if run.arm == arm] for arm in dict.fromkeys(run.arm for run in runs)]
    between = statistics.fmean(statistics.variance(arm) if len(arm) > 1 else 0.0 for arm in arms)
    p = (mean_accuracy(runs) * num_test + 1) / (num_test + 2)  # never 0 or 1: the variance would be zero
    return math.sqrt(2 / len(runs) * (between + p * (1 - p) / num_test))
