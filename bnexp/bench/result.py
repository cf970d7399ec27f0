"""Measurements -> the ladder: one row per rung and number of runs, bars met or missed, and notes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bnexp.bench.ladder import LeftOut, Measurement
from bnexp.bench.work import RUNGS, RunResult, Work
from bnexp.config.options import DataName, Device
from bnexp.plan.spec import plain
from bnexp.run.forecast import duration_text

NUM_STANDARD_ERRORS = 3.0  # beyond which a rung's accuracy is flagged
FEW_REPEATS = 3


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
        adds: what it has that the rungs below have not.
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


@dataclass(frozen=True)
class Bar:
    """A promise of speed.

    Args:
        what: what is promised.
        wanted: the number promised.
        unit: behind the numbers.
        measured: None if it was not measured.
        at_most: whether ``wanted`` is an upper bound; it is a lower bound otherwise.
    """

    what: str
    wanted: float
    unit: str
    measured: Spread | None
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the promise; None if nothing was measured."""
        if self.measured is None:
            return None
        return self.measured.median <= self.wanted if self.at_most else self.measured.median >= self.wanted

    def sentence(self) -> str:
        limit = "at most" if self.at_most else "at least"
        text = f"{self.what}: {limit} {self.wanted:g}{self.unit}"
        if self.measured is None:
            return f"{text}: not measured"
        m = self.measured
        return f"{text}: {'met' if self.met else 'MISSED'}, {m.median:.2f}{self.unit} ({m.low:.2f} to {m.high:.2f})"


@dataclass(frozen=True)
class Ladder:
    """Everything that was measured, and what follows from it."""

    work: Work
    rows: list[Row]
    bars: list[Bar]
    notes: list[str]
    measurements: list[Measurement]
    facts: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        values = {**asdict(self), "bars": [{**asdict(bar), "met": bar.met} for bar in self.bars]}
        del values["work"]["num_runs"]  # each row has its own
        return dict(plain(values))


def build(
    work: Work, measurements: Sequence[Measurement], num_test: int, facts: dict[str, str], left_out: Sequence[LeftOut] = ()
) -> Ladder:
    """Make the ladder.

    Args:
        work: what every rung did.
        measurements: of all rungs, repeats and numbers of runs.
        num_test: images of the test set.
        facts: machine, versions and time, by name.
        left_out: rungs that were not measured.
    """
    rows = []
    for num_runs in sorted({m.num_runs for m in measurements}):
        rows += _rows([m for m in measurements if m.num_runs == num_runs], num_test)
    bars = _bars(work, rows)
    return Ladder(work, rows, bars, _notes(work, rows, bars, left_out), list(measurements), facts)


def _rows(measurements: Sequence[Measurement], num_test: int) -> list[Row]:
    """The rows of one number of runs, in the ladder's order."""
    by_rung = {name: [m for m in measurements if m.rung == name] for name in RUNGS}
    present = {name: mine for name, mine in by_rung.items() if mine}
    reference = next(iter(present.values()))[0].result.runs
    rows = []
    for name, mine in present.items():
        last = mine[-1].result
        deviation = mean_accuracy(last.runs) - mean_accuracy(reference)
        rows.append(
            Row(
                num_runs=mine[0].num_runs,
                rung=name,
                adds=RUNGS[name].adds,
                repeats=len(mine),
                num_processes=last.num_processes,
                num_threads=last.num_threads,
                seconds=Spread.of([m.seconds for m in mine]),
                over_b0=_speedup(mine, by_rung["B0"]),
                over_b2=_speedup(mine, by_rung["B2"]),
                images_per_second=Spread.of([m.images_per_second for m in mine]),
                accuracy=mean_accuracy(last.runs),
                deviation=deviation,
                flagged=abs(deviation) > NUM_STANDARD_ERRORS * standard_error(reference, num_test),
            )
        )
    return rows


def _speedup(mine: Sequence[Measurement], base: Sequence[Measurement]) -> Spread | None:
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


def _bars(work: Work, rows: Sequence[Row]) -> list[Bar]:
    """The promises for this kind of device."""
    found = {row.num_runs: row for row in rows if row.rung == "B5"}
    if work.device is Device.cpu:
        row = found.get(6)
        return [
            Bar("6 runs on a CPU, B5 over B0", 6.0, "x", row.over_b0 if row else None),
            Bar("6 runs on a CPU, B5 over B2", 1.8, "x", row.over_b2 if row else None),
            _growth(found, 10, 200),
        ]
    row = found.get(100)
    return [
        Bar("100 runs on a GPU, B5 over B2", 40.0, "x", row.over_b2 if row else None),
        Bar("100 runs on a GPU, B5", 30.0, " s", row.seconds if row else None, at_most=True),
        _growth(found, 10, 500),
    ]


def _growth(found: Mapping[int, Row], least: int, most: int) -> Bar:
    """The promise that a run takes as long among many runs as among few."""
    ratio = None
    if least in found and most in found:
        median = (found[most].seconds.median / most) / (found[least].seconds.median / least)
        ratio = Spread(median, median, median)
    return Bar(f"time per run at {most} runs over that at {least}, B5", 1.15, "x", ratio, at_most=True)


def _notes(work: Work, rows: Sequence[Row], bars: Sequence[Bar], left_out: Sequence[LeftOut]) -> list[str]:
    """What the table does not say."""
    notes = [
        f"Rung {row.rung} at {row.num_runs} runs deviates by {100 * row.deviation:+.2f} pp, more than noise: it did other work."
        for row in rows
        if row.flagged
    ]
    notes += [_one_run(rows)] if any(row.num_runs == 1 for row in rows) else []
    notes += [
        f"Rung {skipped.rung} at {skipped.num_runs} runs was left out: about {duration_text(skipped.seconds)} each time."
        for skipped in left_out
    ]
    if any(row.repeats < FEW_REPEATS for row in rows):
        notes.append(f"Fewer than {FEW_REPEATS} repeats: the range says little.")
    epochs = 1 if work.device is Device.cpu else 10
    if any(bar.measured for bar in bars) and (work.data is not DataName.mnist or work.train_size or work.epochs != epochs):
        notes.append("The bars are promises for all of MNIST; on less work the start-up, which every rung has, weighs more.")
    notes.append(
        "Seconds are of whole processes, from start to results on disk; images/s are of the training epochs alone. "
        "B5 also writes records and W&B files and, from two runs, verdict and report."
    )
    return notes


def _one_run(rows: Sequence[Row]) -> str:
    """What bnexp gains if there is nothing to train side by side."""
    text = "With one run there is nothing to train side by side"
    row = next((row for row in rows if row.num_runs == 1 and row.rung == "B5"), None)
    if row is None or row.over_b2 is None:
        return f"{text}: B3 to B5 lose what they gain from that."
    ratio = row.over_b2.median
    verdict = f"{ratio:.2f} times as fast as" if ratio >= 1 else f"slower than ({ratio:.2f} times the speed of)"
    return f"{text}: bnexp is {verdict} B2 there, including its start-up and records."


def table(ladder: Ladder) -> list[dict[str, str | int]]:
    """The rows as text, for the terminal."""
    return [
        {
            "runs": row.num_runs,
            "rung": row.rung,
            "seconds": f"{row.seconds.median:.1f}",
            "range": f"{row.seconds.low:.1f} to {row.seconds.high:.1f}",
            "over B0": "" if row.over_b0 is None else f"{row.over_b0.median:.2f}x",
            "over B2": "" if row.over_b2 is None else f"{row.over_b2.median:.2f}x",
            "images/s": f"{row.images_per_second.median:,.0f}",
            "accuracy %": f"{100 * row.accuracy:.2f}" + (" (!)" if row.flagged else ""),
            "processes x threads": f"{row.num_processes} x {row.num_threads}",
            "adds": row.adds,
        }
        for row in ladder.rows
    ]
