"""What the rows say together: the promises that bnexp makes, and what each step of the ladder gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bnexp.bench.measure import Measurement
from bnexp.bench.rows import Row, Spread, speedup
from bnexp.bench.work import Work
from bnexp.config.options import Device

LARGE_EFFECT = 2.0  # d_z above which a sequential test should be much faster than the fixed seeds
# Epochs of MNIST -> how many times faster than B0 and B2 the command is to be with six runs on two cores.
CPU_BARS = {1: (4.5, 2.5), 10: (7.0, 3.0)}


@dataclass(frozen=True)
class Bar:
    """A promise of speed.

    Args:
        what: what is promised.
        wanted: the number promised.
        unit: behind the numbers.
        measured: None if it was not measured.
        at_most: whether ``wanted`` is an upper bound; it is a lower bound otherwise.
        applies: whether it was promised for what was measured.
    """

    what: str
    wanted: float
    unit: str
    measured: Spread | None
    at_most: bool = False
    applies: bool = True

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the promise; None if nothing was measured that it is about."""
        if self.measured is None or not self.applies:
            return None
        return self.measured.median <= self.wanted if self.at_most else self.measured.median >= self.wanted

    def sentence(self) -> str:
        limit = "at most" if self.at_most else "at least"
        text = f"{self.what}: {limit} {self.wanted:g}{self.unit}"
        if self.measured is None:
            return f"{text}: not measured"
        m = self.measured
        word = {None: "does not apply", True: "met", False: "MISSED"}[self.met]
        return f"{text}: {word}, {m.median:.2f}{self.unit} ({m.low:.2f} to {m.high:.2f})"


@dataclass(frozen=True)
class Step:
    """What lies between two rungs.

    Args:
        what: in words.
        slower: the rung before it.
        faster: the rung after it.
        num_runs: number of runs.
        gain: how many times faster, the ratio taken within each repeat.
    """

    what: str
    slower: str
    faster: str
    num_runs: int
    gain: Spread

    def sentence(self) -> str:
        gain = self.gain
        text = f"{self.what} ({self.slower} to {self.faster}, {self.num_runs} runs)"
        return f"{text}: {gain.median:.2f}x ({gain.low:.2f} to {gain.high:.2f})"


STEPS = (
    ("no DataLoader", "B0", "B2"),
    ("runs side by side in processes", "B2", "B3"),
    ("bnexp's own training, shared data and records, without kernels", "B3", "B5-torch"),
    ("bnexp's own training, shared data and records", "B3", "B5"),
    ("bnexp's kernels", "B5-torch", "B5"),
    ("leaving W&B out", "B5", "B5-local"),
    ("bnexp against Lightning, Hydra and joblib", "P1", "B5"),
    ("bnexp against W&B's agents", "P2", "B5"),
)


def steps_of(measurements: Sequence[Measurement]) -> list[Step]:
    """The steps of which both rungs were measured, at the largest number of runs that has them."""
    steps = []
    for what, slower, faster in STEPS:
        if slower == "B3" and faster == "B5" and any(m.rung == "B5-torch" for m in measurements):
            continue  # its two parts are there
        for num_runs in sorted({m.num_runs for m in measurements}, reverse=True):
            before, after = ([m for m in measurements if (m.rung, m.num_runs) == (rung, num_runs)] for rung in (slower, faster))
            if (gain := speedup(after, before)) is not None:
                steps.append(Step(what, slower, faster, num_runs, gain))
                break
    return steps


def bars_of(work: Work, rows: Sequence[Row], measurements: Sequence[Measurement]) -> list[Bar]:
    """The promises for this kind of device."""
    found = {row.num_runs: row for row in rows if row.rung == "B5"}
    if work.device is not Device.cpu:
        row = found.get(100)
        return [
            Bar("100 runs on a GPU, B5 over B2", 40.0, "x", row.over_b2 if row else None),
            Bar("100 runs on a GPU, B5", 30.0, " s", row.seconds if row else None, at_most=True),
            _growth(found, 10, 500),
        ]
    row = found.get(6)
    over_b0, over_b2 = CPU_BARS[10 if work.epochs >= 10 else 1]
    return [
        Bar("6 runs on a CPU, B5 over B0", over_b0, "x", row.over_b0 if row else None),
        Bar("6 runs on a CPU, B5 over B2", over_b2, "x", row.over_b2 if row else None),
        _growth(found, 10, 200),
        _settled(measurements),
    ]


def _settled(measurements: Sequence[Measurement]) -> Bar:
    """The promise that an answer comes sooner if a study may stop when it is settled."""
    fixed, until = ([m for m in measurements if m.rung == rung] for rung in ("S0", "S1"))
    effects = [abs(m.answer.effect) for m in fixed if m.answer is not None]
    what, applies = f"time of S1 over S0, where d_z > {LARGE_EFFECT:g}", True
    if effects:
        applies = effects[-1] > LARGE_EFFECT
        what += f" (here {effects[-1]:.2f})"
    return Bar(what, 0.7, "x", speedup(fixed, until), at_most=True, applies=applies)


def _growth(found: Mapping[int, Row], least: int, most: int) -> Bar:
    """The promise that a run takes as long among many runs as among few."""
    ratio = None
    if least in found and most in found:
        median = (found[most].seconds.median / most) / (found[least].seconds.median / least)
        ratio = Spread(median, median, median)
    return Bar(f"time per run at {most} runs over that at {least}, B5", 1.15, "x", ratio, at_most=True)
