"""How a comparison of recorded runs is printed: answer, tables, notes and plots, or the data behind them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

from bnexp.cli.output import Format, print_json, print_rows, stdout, table_width

if TYPE_CHECKING:
    import polars as pl

    from bnexp.comparison.frame import RunComparison

# The columns of a table: the first of these sets that fits the terminal. If some runs are unpaired, each has the test.
_NAMES = ("level", "arm", "baseline")
PAIR_CHOICES = (
    (*_NAMES, "n", "difference", "95 % interval", "test", "p adjusted", "n needed", "verdict"),
    (*_NAMES, "n", "difference", "95 % interval", "test", "p adjusted", "verdict"),
    (*_NAMES, "difference", "95 % interval", "test", "verdict"),
    (*_NAMES, "difference", "test", "verdict"),
)
MOST_SHOWN = 20  # arms, and comparisons, in a table; formats for programs have all
LEFT = ("arm", "baseline", "level", "test", "verdict", "study", "question", "effect", "data", "settings")


def print_comparison(
    result: RunComparison, runs: pl.DataFrame, format: Format, *, plot: bool = False, num_damaged: int = 0
) -> None:
    """Print what was found on stdout: answer, tables and notes, or the data behind them.

    Args:
        result: the comparison.
        runs: those that it compares.
        format: how it is printed.
        plot: whether intervals are drawn below the tables.
        num_damaged: number of damaged records that were left out, which JSON tells; the log names them.
    """
    from bnexp.comparison.compared import as_json, caption, pair_rows, paper_rows
    from bnexp.comparison.tables import comparison_rows

    if format is Format.json:
        print_json(as_json(result, num_damaged))
    elif format is Format.csv:
        print_rows(pair_rows(result), format)
    elif format is Format.md:
        rows = comparison_rows(result) or paper_rows(result)
        print_rows(rows, format, right=[name for name in rows[0] if name not in (*LEFT, "reason")])
    elif format is Format.latex:
        rows = paper_rows(result)
        print_rows(rows, format, right=[name for name in rows[0] if name not in LEFT], caption=caption(result))
    elif len(result.arms) > MOST_SHOWN and not result.comparisons:
        _print_too_many(result, runs)
    else:
        _print_tables(result)
        if plot:
            _print_plots(result)


def _print_too_many(result: RunComparison, runs: pl.DataFrame) -> None:
    """Print in what runs differ that make too many arms to compare, so that one can choose among them."""
    from bnexp.comparison.listing import list_values

    out = stdout()
    out.print(f"\n{result.answer}\n", style="bold", markup=False, soft_wrap=not out.is_terminal)
    arms = len({summary.arm for summary in result.arms})
    out.print(f"The {arms} arms differ in (--json has the mean of each):", style="dim", markup=False)
    print_rows(list_values(runs, [*result.columns, *result.by]), Format.table, right=("values",))


def _print_tables(result: RunComparison) -> None:
    from bnexp.comparison.tables import arm_rows, comparison_rows

    out = stdout()
    out.print(f"\n{result.answer}\n", style="bold", markup=False, soft_wrap=not out.is_terminal)
    if result.better:
        out.print(f"{result.metric}: {result.better} is better", style="dim", markup=False)
    arms = arm_rows(result)
    empty = {name for name in ("diverged", "stuck", "missing") if all(row[name] == "0" for row in arms)}
    arms = [{name: text for name, text in row.items() if name not in empty} for row in arms]
    if len(arms) > MOST_SHOWN:
        out.print(f"The first {MOST_SHOWN} of {len(arms)} arms (--json has all):", style="dim", markup=False)
        arms = arms[:MOST_SHOWN]
    print_rows(arms, Format.table, right=[name for name in arms[0] if name not in LEFT])
    if rows := comparison_rows(result):
        out.print()
        if len(rows) > MOST_SHOWN:
            what = f"The {MOST_SHOWN} of {len(rows)} comparisons with the smallest p (--json and --csv have all):"
            out.print(what, style="dim", markup=False)
            order = sorted(range(len(rows)), key=lambda i: (isnan(p := result.comparisons[i].p_verdict), p))
            rows = [rows[i] for i in order[:MOST_SHOWN]]
        print_rows(rows := _fitting(rows), Format.table, right=[name for name in rows[0] if name not in LEFT])
    settings = "  ".join(f"{name}={value}" for name, value in result.settings.items())
    held = [f"\nHeld fixed: {settings}"] if settings else [""]
    for line in (*held, *(f"- {line}" for line in (*result.notes, *result.unpaired))):
        out.print(line, style="dim", markup=False, soft_wrap=not out.is_terminal)


def _fitting(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    tables = [[{name: row[name] for name in columns if name in row} for row in rows] for columns in PAIR_CHOICES]
    return next((table for table in tables if table_width(table) <= stdout().width), tables[-1])


def _print_plots(result: RunComparison) -> None:
    from bnexp.cli.plotted import Bar
    from bnexp.comparison.pairing import place
    from bnexp.comparison.text import level_unit, number, signed

    unit = level_unit(result.metric, result.unit)
    means = [Bar(place(s.arm, s.level), s.mean, s.low, s.high, number(s.mean, result.unit)) for s in result.arms]
    print_plot(f"{result.metric}{f' in {unit}' if unit else ''}: mean and 95 % interval", means)
    bars = [
        Bar(place(f"{c.arm} − {c.baseline}", c.level), c.difference, c.low, c.high, signed(c.difference, c.unit))
        for c in result.comparisons
    ]
    where = f" in {result.unit}" if result.unit else ""
    print_plot(f"Difference{where}: mean and 95 % interval", bars, zero=True, margin=result.margin)


def print_plot(title: str, bars: Sequence[Any], **options: Any) -> None:
    from bnexp.cli.plotted import plotted
    from bnexp.terminal import visible_line

    out = stdout()
    width = out.width if out.is_terminal else 80
    ascii_only = not (out.encoding or "").lower().startswith("utf")
    lines = plotted(bars, width, ascii_only=ascii_only, **options)
    if lines:
        out.print(f"\n{title}", style="bold", markup=False)
        sys.stdout.flush()
        for line in lines:
            out.print(visible_line(line), markup=False, soft_wrap=True)
