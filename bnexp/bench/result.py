"""Measurements -> the ladder: rows, bars, steps and notes, and the table of the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bnexp.bench.bars import CPU_BARS, Bar, Step, bars_of, steps_of
from bnexp.bench.ladder import LeftOut
from bnexp.bench.measure import Measurement
from bnexp.bench.rows import Row, Spread, rows_of
from bnexp.bench.work import RUNGS, Work
from bnexp.config.options import DataName, Device
from bnexp.plan.spec import plain

FEW_REPEATS = 3
GPU_EPOCHS = 10  # that the bars of a GPU are about
LIMIT = "limit"  # the row of the arithmetic limit


@dataclass(frozen=True)
class Ladder:
    """Everything that was measured, and what follows from it.

    Args:
        work: what every rung did.
        rows: one per rung and number of runs.
        limits: number of runs -> seconds that its arithmetic takes at least.
        bars: promises, met or missed.
        steps: what lies between two rungs.
        left_out: rungs that were not measured.
        notes: what the table does not say.
        measurements: what the rows are made of.
        facts: machine, versions and time, by name.
    """

    work: Work
    rows: list[Row]
    limits: dict[int, float]
    bars: list[Bar]
    steps: list[Step]
    left_out: list[LeftOut]
    notes: list[str]
    measurements: list[Measurement]
    facts: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        values = {**asdict(self), "bars": [{**asdict(bar), "met": bar.met} for bar in self.bars]}
        del values["work"]["num_runs"]  # each row has its own
        return dict(plain(values))


def build(
    work: Work,
    measurements: Sequence[Measurement],
    num_test: int,
    facts: dict[str, str],
    left_out: Sequence[LeftOut] = (),
    limits: Mapping[int, float] | None = None,
) -> Ladder:
    """Make the ladder.

    Args:
        work: what every rung did.
        measurements: of all rungs, repeats and numbers of runs.
        num_test: images of the test set.
        facts: machine, versions and time, by name.
        left_out: rungs that were not measured.
        limits: number of runs -> seconds that its arithmetic takes at least; none if nobody knows.
    """
    rows = rows_of(measurements, num_test)
    bars, steps = bars_of(work, rows, measurements), steps_of(measurements)
    notes = _notes(work, rows, bars)
    return Ladder(work, rows, dict(limits or {}), bars, steps, list(left_out), notes, list(measurements), facts)


def _notes(work: Work, rows: Sequence[Row], bars: Sequence[Bar]) -> list[str]:
    """What the table does not say."""
    notes = [
        f"Rung {row.rung} at {row.num_runs} runs deviates by {100 * row.deviation:+.2f} pp, more than noise: it did other work."
        for row in rows
        if row.flagged
    ]
    notes += (
        [_sameness(compared)] if (compared := [row for row in rows if row.apart is not None and row.answer is None]) else []
    )
    notes += [_one_run(rows)] if any(row.num_runs == 1 for row in rows) else []
    if few := dict.fromkeys(row.rung for row in rows if row.repeats < FEW_REPEATS):
        notes.append(f"Fewer than {FEW_REPEATS} repeats of {', '.join(few)}: the range says little.")
    promised = CPU_BARS if work.device is Device.cpu else (GPU_EPOCHS,)
    speed = [bar for bar in bars if bar.measured and "S1" not in bar.what]
    if speed and (work.data is not DataName.mnist or work.train_size or work.epochs not in promised):
        notes.append("The bars are promises for all of MNIST; on less work the start-up, which every rung has, weighs more.")
    notes.append(
        "Seconds are of whole processes, from start to results on disk; images/s are of the training epochs alone. "
        "B5 also writes records and W&B files and, from two runs, verdict and report."
    )
    return notes


def _sameness(rows: Sequence[Row]) -> str:
    """Whether the rungs that start from the same weights and see the same batches got the same numbers."""
    found = ", ".join(f"{row.rung} {100 * (row.apart or 0.0):.2f}" for row in rows if row.num_runs == rows[-1].num_runs)
    return f"Largest difference of a run's test accuracy from that of the same run in the lowest rung, in pp: {found}."


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
    """The rows as text: by number of runs the rungs, the limit, and what was left out; then the rungs about the answer."""
    lines = []
    climbing = [row for row in ladder.rows if row.answer is None]
    for num_runs in sorted({row.num_runs for row in climbing} | {item.num_runs for item in ladder.left_out}):
        mine = [row for row in climbing if row.num_runs == num_runs]
        lines += [_line(ladder, row) for row in mine]
        if mine and num_runs in ladder.limits:
            lines.append(_limit_line(mine, ladder.limits[num_runs], ladder.facts))
        lines += [
            _text(item.num_runs, item.rung, adds=f"left out: {item.why}")
            for item in ladder.left_out
            if item.num_runs == num_runs
        ]
    return lines + [_line(ladder, row) for row in ladder.rows if row.answer is not None]


def _text(num_runs: int, rung: str, **cells: str) -> dict[str, str | int]:
    """One line of the table; cells that are not given are empty."""
    names = ("seconds", "range", "over B0", "over B2", "x limit", "images/s", "accuracy %", "processes x threads", "adds")
    return {"runs": num_runs, "rung": rung, **{name: cells.get(name, "") for name in names}}


def _line(ladder: Ladder, row: Row) -> dict[str, str | int]:
    seconds, limit = row.seconds, ladder.limits.get(row.num_runs) if row.answer is None else None
    cells = {
        "seconds": f"{seconds.median:.1f}",
        "range": f"{seconds.low:.1f} to {seconds.high:.1f}",
        "over B0": _times(row.over_b0),
        "over B2": _times(row.over_b2),
        "x limit": "" if limit is None else f"{seconds.median / limit:.0f}",
        "images/s": f"{row.images_per_second.median:,.0f}",
        "accuracy %": f"{100 * row.accuracy:.2f}" + (" (!)" if row.flagged else ""),
        "processes x threads": f"{row.num_processes} x {row.num_threads}",
        "adds": row.adds if row.answer is None else f"{row.adds}: {row.answer.sentence()}",
    }
    return _text(row.num_runs, row.rung, **cells)


def _limit_line(rows: Sequence[Row], limit: float, facts: Mapping[str, str]) -> dict[str, str | int]:
    """The arithmetic limit beside the rungs of one number of runs."""
    medians = {row.rung: row.seconds.median for row in rows}
    over = {f"over {rung}": f"{medians[rung] / limit:.0f}x" for rung in ("B0", "B2") if rung in medians}
    return _text(rows[0].num_runs, LIMIT, seconds=f"{limit:.1f}", adds=limit_text(facts), **over)


def limit_text(facts: Mapping[str, str]) -> str:
    """What the row of the limit is."""
    speed = facts.get("matrix products", "the speed of this machine")
    return f"what the arithmetic of convolutions and linear layers takes at {speed}, and nothing else"


def _times(ratio: Spread | None) -> str:
    return "" if ratio is None else f"{ratio.median:.2f}x"


def legend(ladder: Ladder) -> list[str]:
    """What each rung of the table is, one line each."""
    shown = {str(line["rung"]): str(line["adds"]) for line in table(ladder)}
    return [f"{name}: {adds}" for name, adds in shown.items() if name in RUNGS or name == LIMIT]
