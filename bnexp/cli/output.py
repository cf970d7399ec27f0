"""How commands print: data on stdout, messages on stderr. Data are a table, or JSON, CSV or Markdown if the user asks."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from bnexp.config.schema import ConfigError
from bnexp.terminal import SafeConsole, visible_line

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
CsvFlag = Annotated[bool, typer.Option("--csv", help="Print CSV on stdout.")]
MdFlag = Annotated[bool, typer.Option("--md", help="Print Markdown on stdout.")]

OK, FAILED, WRONG_USE, SOME_FAILED = range(4)  # exit codes; SOME_FAILED: the command went through, but not all runs did

Row = Mapping[str, Any]
COLUMN_GAP = 2  # characters between the columns of a table without a box


class Format(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"
    md = "md"


def pick_format(json: bool = False, csv: bool = False, md: bool = False) -> Format:
    """The one format that the flags ask for. Raises ConfigError for more than one."""
    asked = [name for name, flag in ((Format.json, json), (Format.csv, csv), (Format.md, md)) if flag]
    if len(asked) > 1:
        raise ConfigError(f"--{asked[0]} and --{asked[1]} exclude each other; give one.")
    return asked[0] if asked else Format.table


class _Stdout(SafeConsole):
    def on_broken_pipe(self) -> None:
        """The reader, such as ``head``, has gone: nothing more is printed, but the work goes on. Rich itself would end it."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stdout() -> SafeConsole:
    """Console for data. If stdout is not a terminal, lines are 240 characters wide."""
    console = _Stdout()
    return console if console.is_terminal else _Stdout(width=240)


def stderr() -> SafeConsole:
    """Console for progress and messages."""
    return SafeConsole(stderr=True)


def message(text: str) -> None:
    """Print one plain line on stderr, without markup. It is never folded, so that paths and commands can be copied."""
    stderr().print(text, markup=False, soft_wrap=True)


def sentence(text: str) -> None:
    """Print a sentence on stderr like ``message``, but a terminal folds it between words."""
    console = stderr()
    console.print(text, markup=False, soft_wrap=not console.is_terminal)


class LogMessages(logging.Handler):
    """Prints what the library logs as messages."""

    def emit(self, record: logging.LogRecord) -> None:
        message(self.format(record))


def print_json(value: Any) -> None:
    """Print strict JSON. It has no NaN and no infinity, so they become null."""
    sys.stdout.write(json.dumps(_finite(value), indent=2, allow_nan=False, default=str) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def rounded(value: float, digits: int) -> float | None:
    """A number rounded for a table; None if it is not finite."""
    return round(value, digits) if math.isfinite(value) else None


def print_rows(rows: Sequence[Row], format: Format, *, right: Sequence[str] = ()) -> None:
    """Print rows on stdout. Columns have the same names in every format.

    Args:
        rows: column -> value, with the same columns in each row.
        format: how they are printed.
        right: the columns that a table aligns right.
    """
    if format is Format.json:
        print_json(list(rows))
        return
    if not rows:
        return
    names, lines = [_cell(name) for name in rows[0]], [[_cell(value) for value in row.values()] for row in rows]
    if format is Format.csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows([names, *lines])
    elif format is Format.md:
        rule = ["---:" if name in right else "---" for name in names]
        escaped = [[cell.replace("|", "\\|") for cell in line] for line in [names, rule, *lines]]
        sys.stdout.write("\n".join(f"| {' | '.join(line)} |" for line in escaped) + "\n")
    else:
        table = Table(box=None, pad_edge=False)
        for name, *cells in zip(names, *lines, strict=True):
            least = min(max(map(len, cells)), 12)  # short cells, such as run ids, are never wrapped
            align: Literal["left", "right"] = "right" if name in right else "left"
            table.add_column(Text(name), justify=align, header_style="dim", min_width=least, overflow="fold")
        for line in lines:
            table.add_row(*(Text(cell, style=VERDICT_STYLES.get(cell, "")) for cell in line))
        stdout().print(table)


def table_width(rows: Sequence[Row]) -> int:
    """Width of the rows as a table in which no cell is wrapped, in characters."""
    widths = [max(len(name), *(len(_cell(row[name])) for row in rows)) for name in (rows[0] if rows else ())]
    return sum(widths) + COLUMN_GAP * max(len(widths) - 1, 0)


def _cell(value: Any) -> str:
    return "" if value is None else visible_line(str(value))


VERDICT_STYLES = {
    "SUPPORTED": "bold green",
    "REFUTED": "bold red",
    "EQUIVALENT": "bold cyan",
    "INCONCLUSIVE": "bold yellow",
    "ESTIMATE": "bold",
}
