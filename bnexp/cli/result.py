"""How the result of a study is printed: the answer and its tables, or the data behind them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from bnexp.cli.output import Format, print_json, print_rows, stdout, table_width

if TYPE_CHECKING:
    from bnexp.comparison.result import Remedy, StudyResult

# Columns of a comparison: the first of these sets that fits the terminal. --json, --csv, --md and the report have all columns.
_NAMES = ("arm", "baseline", "level", "measure")
TERMINAL_COLUMNS = (
    (*_NAMES, "n", "difference", "95 % interval", "p adjusted", "p sign flip", "d_z", "n needed", "verdict"),
    (*_NAMES, "difference", "95 % interval", "p adjusted", "verdict"),
    (*_NAMES, "difference", "95 % interval", "verdict"),
    (*_NAMES, "difference", "verdict"),
)
PAPER_COLUMNS = (*_NAMES, "n", "difference", "95 % interval", "p adjusted", "verdict")
MEASURED_COLUMNS = ((*_NAMES, "n", "difference", "95 % interval"), (*_NAMES, "difference", "95 % interval"))
NUMBERS = ("n", "difference", "95 % interval", "p adjusted", "p sign flip", "d_z", "n needed")  # aligned right


def went_wrong(result: StudyResult) -> bool:
    """Whether a run failed, is missing or damaged, or did not train in a study that does not look for such settings."""
    from bnexp.comparison.analyses import ANALYSES

    expected = ANALYSES[result.study["analysis"]].expects_divergence
    bad = ("failed", "missing", "damaged")
    return any(outcome.status in bad or (outcome.untrained and not expected) for outcome in result.outcomes)


def print_result(result: StudyResult, format: Format) -> None:
    """Print the verdict on stdout: the answer and tables, or the data behind them."""
    from bnexp.comparison.tables import decided_and_measured

    if format is Format.json:
        print_json(result.to_dict())
    elif format is Format.csv:
        print_rows([asdict(comparison) for comparison in result.comparisons], format)
    elif format is Format.md:
        deciding, measured = decided_and_measured(result)
        print_rows(deciding + measured, format)
    elif format is Format.latex:
        rows = [row for part in decided_and_measured(result) for row in part]
        table = [{name: row[name] for name in PAPER_COLUMNS if name in row} for row in rows]
        print_rows(table, format, right=NUMBERS, caption=result.answer)
    else:
        _print_tables(result)


def _print_tables(result: StudyResult) -> None:
    from bnexp.comparison.tables import arm_rows, decided_and_measured, without_zeros

    arms, out = without_zeros(arm_rows(result)), stdout()
    deciding, measured = decided_and_measured(result)
    out.print(f"\n{result.answer}\n", style="bold", markup=False, soft_wrap=not out.is_terminal)
    if result.remedy is not None:
        _print_remedy(result.remedy)
    print_rows(
        _fitting(arms, _arm_columns(arms)),
        Format.table,
        right=[name for name in arms[0] if name not in ("arm", "level")] if arms else (),
    )
    out.print()
    print_rows(_fitting(deciding, TERMINAL_COLUMNS), Format.table, right=NUMBERS)
    if measured:
        out.print("\nAlso measured, without a verdict:", markup=False)
        print_rows(_fitting(measured, MEASURED_COLUMNS), Format.table, right=NUMBERS)
    made = "; ".join(f"{arm} is {' '.join(overrides)}" for arm, overrides in result.study["arms"].items() if overrides)
    settings = "  ".join(f"{name}={value}" for name, value in result.settings.items())
    facts = [*([f"Arms: {made}"] if made else []), f"Held fixed: {settings}"]
    out.print()
    for line in (*facts, *(f"- {line}" for line in (*result.unpaired, *result.notes))):
        out.print(line, style="dim", markup=False, soft_wrap=not out.is_terminal)


def _arm_columns(rows: list[dict[str, str]]) -> tuple[tuple[str, ...], ...]:
    """The columns of the arms: all of them, or without the spread of the seeds."""
    names = tuple(rows[0]) if rows else ()
    return names, tuple(name for name in names if name != "sd")


def _fitting(rows: list[dict[str, str]], choices: tuple[tuple[str, ...], ...]) -> list[dict[str, str]]:
    """The rows with the first of several sets of columns that fits the terminal, else with the last."""
    tables = [[{name: row[name] for name in columns if name in row} for row in rows] for columns in choices]
    return next((table for table in tables if table_width(table) <= stdout().width), tables[-1])


def _print_remedy(remedy: Remedy) -> None:
    """What would settle the question; the command on a line of its own, never folded, so that it can be copied."""
    out = stdout()
    out.print(remedy.text, markup=False, soft_wrap=not out.is_terminal)
    if remedy.command:
        out.print(f"  {remedy.command}", markup=False, soft_wrap=True)
    out.print()
