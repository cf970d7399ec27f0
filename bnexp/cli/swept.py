"""Prints how a sweep goes while it runs, and what it found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bnexp.cli.output import Format, message, print_json, print_rows, rounded, sentence, stdout, table_width
from bnexp.run.sweep.listener import Listener

if TYPE_CHECKING:
    from bnexp.comparison.sweep.record import SweepRecord, Trial
    from bnexp.comparison.sweep.result import SweepResult
    from bnexp.plan.spec import RunSpec

MOST_ROWS, MOST_FAILED = 10, 3  # points in the terminal, and those of which it says why they failed


class Printed(Listener):
    """Prints how a sweep goes: what will run, and notes, on stderr; the result on stdout."""

    def __init__(self, format: Format) -> None:
        self.format = format

    def planned(self, record: SweepRecord, trials: Sequence[Trial], todo: Sequence[RunSpec]) -> None:
        from bnexp.run.forecast import estimate_text
        from bnexp.tracking.store import Store

        first, last = trials[0].number, trials[-1].number
        which = f"points {first} to {last}" if last > first else f"point {first}"
        known = any(trial.run_ids for trial in trials)
        runs = f"{len(todo)} run{'s' * (len(todo) != 1)} to train" if todo else "all recorded" if known else "none can train"
        rule = f"; {record.stopping}" if record.stopping and first == 1 else ""
        text = estimate_text(todo, Store(), begun=True)
        sentence(f"sweep {record.name}-{record.sweep_id} ({record.method}): {which}, {runs}{text}{rule}")
        for trial in trials:
            if not trial.run_ids:
                sentence(f"Point {trial.number} cannot train: {trial.error}.")

    def confirming(self, trials: Sequence[Trial], seeds: Sequence[int], todo: Sequence[RunSpec]) -> None:
        what = f"the best {len(trials)} points" if len(trials) > 1 else "the best point"
        if len({trial.norm for trial in trials}) > 1:
            what = f"the best points and the best of each norm ({len(trials)} points)"
        span = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
        left = f"{len(todo)} run{'s' * (len(todo) != 1)} to train" if todo else "all recorded"
        sentence(f"confirming {what} with {span}: {left}")

    def concluded(self, result: SweepResult) -> None:
        print_sweep(result, self.format)

    def told(self, text: str) -> None:
        message(text)


def print_sweep(result: SweepResult, format: Format) -> None:
    """Print what a sweep found on stdout."""
    from bnexp.comparison.sweep.record import as_rows

    record = result.record
    if format is Format.json:
        return print_json(_as_json(result))
    if format is Format.csv:
        return print_rows([{**row, "runs": " ".join(row["runs"])} for row in as_rows(record)], format)
    if format is Format.table:
        out = stdout()
        out.print(f"\n{result.answer}\n", style="bold", markup=False, soft_wrap=not out.is_terminal)
    _print_points(record, format)
    if format is Format.table:
        _print_fresh(result)
        for what, command in (("Train the best", result.train_command), ("Compare these", result.compare_command)):
            if command:
                out.print(f"\n{what}:", style="dim", markup=False)
                out.print(command, markup=False, soft_wrap=True)


def _print_points(record: SweepRecord, format: Format) -> None:
    """Print the points; in a table the best of them, and what became of the others."""
    from bnexp.comparison.sweep.record import state_counts

    out, rows = stdout(), _point_rows(record)
    shown = rows if format is Format.md else _fitting(rows[:MOST_ROWS], (("epochs",), ("epochs", "rank")))
    print_rows(shown, format, right=("rank", "point", record.metric, "epochs", "seed"))
    if format is not Format.table:
        return
    if len(rows) > len(shown):
        out.print(f"... and {len(rows) - len(shown)} more (--csv has all)", style="dim", markup=False)
    counts = state_counts(record)
    if set(counts) != {"finished"}:
        out.print(", ".join(f"{count} {state}" for state, count in counts.items()), style="dim", markup=False)
    failed = [trial for trial in record.trials if trial.error]
    for trial in failed[:MOST_FAILED]:
        out.print(f"Point {trial.number} failed: {trial.error.rstrip('.')}.", style="dim", markup=False)
    if len(failed) > MOST_FAILED:
        out.print("... --csv has the reasons of the others", style="dim", markup=False)


def _print_fresh(result: SweepResult) -> None:
    """Print the points that were trained again, if there are any."""
    if not result.fresh:
        return
    stdout().print("\nTrained again with fresh seeds", style="bold", markup=False)
    droppable = ("setting", "n", "test accuracy", "in the sweep")  # one after another, if the table is too wide
    rows = _fitting(_fresh_rows(result), [droppable[:count] for count in range(1, len(droppable) + 1)])
    print_rows(rows, Format.table, right=("n", "in the sweep", "fresh mean", "test accuracy"))


def _fitting(rows: list[dict[str, Any]], droppable: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """The rows without the first of these sets of columns that makes them fit the terminal; the last one if none does."""
    width = stdout().width
    tables = [[{name: row[name] for name in row if name not in names} for row in rows] for names in ((), *droppable)]
    return next((table for table in tables if table_width(table) <= width), tables[-1])


def _point_rows(record: SweepRecord) -> list[dict[str, Any]]:
    """The points as a table shows them, the best first. Numbers have four digits; the commands have all of them."""
    from bnexp.comparison.differing import short_names
    from bnexp.comparison.sweep.record import as_rows
    from bnexp.comparison.sweep.result import shown

    found, all_finished = [], all(trial.state == "finished" for trial in record.trials)
    names = short_names([axis.name for axis in record.axes])
    for row in as_rows(record):
        value = row[record.metric]
        params = {names[axis.name]: _short(row[axis.name]) for axis in record.axes}
        found.append(
            {
                "rank": row["rank"],
                "point": row["point"],
                **params,
                record.metric: shown(value, record.metric) if math.isfinite(value) else None,
                **({} if all_finished else {"state": row["state"]}),
                **({"epochs": row["epochs"]} if record.stopping else {}),
            }
        )
    return found


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else "null" if value is None else value


def _fresh_rows(result: SweepResult) -> list[dict[str, Any]]:
    from bnexp.comparison.sweep.result import TEST, point_name, shown, shown_interval
    from bnexp.comparison.text import effect

    metric = result.record.metric
    rows = []
    for item in result.fresh:
        c = result.against_best.get(item.trial.number)
        rows.append(
            {
                "point": f"#{item.trial.number}",
                "setting": point_name(item.trial),
                "n": item.n,
                "in the sweep": shown(item.trial.value, metric),
                "fresh mean": shown_interval(item.metric, metric),
                "against the best": effect(c.difference, c.unit, c.low, c.high) if c else "–",
                "verdict": result.standing(c) if c else "–",
                "test accuracy": shown_interval(item.test, TEST),
            }
        )
    return rows


def _as_json(result: SweepResult) -> dict[str, Any]:
    from bnexp.comparison.compared import pair_rows
    from bnexp.comparison.sweep.record import as_rows

    record = result.record
    best, against = result.best, result.against_best
    return {
        "sweep": record.name,
        "id": record.sweep_id,
        "method": record.method,
        "metric": record.metric,
        "goal": record.goal,
        "answer": result.answer,
        "best": None if best is None else {"point": best.number, **best.params},
        "command": result.train_command or None,
        "points": as_rows(record),
        "confirmed": [
            {
                "point": item.trial.number,
                "n": item.n,
                "mean": rounded(item.metric.estimate, 6),
                "low": rounded(item.metric.low, 6),
                "high": rounded(item.metric.high, 6),
                "test/accuracy": rounded(item.test.estimate, 6),
                "test/low": rounded(item.test.low, 6),
                "test/high": rounded(item.test.high, 6),
                "diverged": item.diverged,
                "standing": result.standing(against[item.trial.number]) if item.trial.number in against else None,
            }
            for item in result.fresh
        ],
        "comparisons": pair_rows(result.comparison) if result.comparison else [],
        "folder": str(record.folder),
    }
