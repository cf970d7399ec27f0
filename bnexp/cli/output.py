"""How commands print: data on stdout, messages on stderr. Data are a table, or JSON, CSV, Markdown or LaTeX if asked."""

from __future__ import annotations

import csv
import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

import typer
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from bnexp.cli.latex import latex_table
from bnexp.config.schema import ConfigError
from bnexp.terminal import SafeConsole, visible_line

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
CsvFlag = Annotated[bool, typer.Option("--csv", help="Print CSV on stdout.")]
MdFlag = Annotated[bool, typer.Option("--md", help="Print Markdown on stdout.")]
LatexFlag = Annotated[bool, typer.Option("--latex", help="Print a table for a paper on stdout (LaTeX, booktabs).")]

OK, FAILED, WRONG_USE, SOME_FAILED = range(4)  # exit codes; SOME_FAILED: the command went through, but not all runs did

Row = Mapping[str, Any]
COLUMN_GAP = 2  # characters between the columns of a table without a box


class Format(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"
    md = "md"
    latex = "latex"

    @property
    def for_programs(self) -> bool:
        """Whether programs read it, so that columns and values do not depend on the terminal."""
        return self in (Format.json, Format.csv)


def pick_format(json: bool = False, csv: bool = False, md: bool = False, latex: bool = False) -> Format:
    """The one format that the flags ask for. Raises ConfigError for more than one."""
    flags = {Format.json: json, Format.csv: csv, Format.md: md, Format.latex: latex}
    asked = [name for name, flag in flags.items() if flag]
    if len(asked) > 1:
        raise ConfigError(f"--{asked[0]} and --{asked[1]} exclude each other; give one.")
    return asked[0] if asked else Format.table


def stdout() -> SafeConsole:
    """Console for data. If stdout is not a terminal, lines are 240 characters wide."""
    console = SafeConsole()
    return console if console.is_terminal else SafeConsole(width=240)


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


def print_rows(
    rows: Sequence[Row], format: Format, *, right: Sequence[str] = (), caption: str = "", whole: bool = False
) -> None:
    """Print rows on stdout. Columns have the same names in every format.

    Args:
        rows: column -> value, with the same columns in each row.
        format: how they are printed.
        right: the columns that a table aligns right.
        caption: what a table for a paper says above it, such as units and what was tested; other formats do not have it.
        whole: print a table as wide as it is; False: fold cells that do not fit into the terminal.
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
    elif format is Format.latex:
        sys.stdout.write(latex_table(names, lines, right, caption))
    elif whole:
        _print_whole(names, lines, right)
    else:
        table = Table(box=None, pad_edge=False)
        for name, *cells in zip(names, *lines, strict=True):
            least = min(max(map(len, cells)), 12)  # short cells, such as run ids, are never wrapped
            align: Literal["left", "right"] = "right" if name in right else "left"
            table.add_column(Text(name), justify=align, header_style="dim", min_width=least, overflow="fold")
        for line in lines:
            table.add_row(*(Text(cell, style=VERDICT_STYLES.get(cell, "")) for cell in line))
        stdout().print(table)


def _print_whole(names: Sequence[str], lines: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    """Print a table without folding a cell. Ten thousand rows take Rich's own tables seconds, and this one none."""
    widths = [max(map(cell_len, column)) for column in zip(names, *lines, strict=True)]

    def padded(cells: Sequence[str]) -> str:
        parts = []
        for name, cell, width in zip(names, cells, widths, strict=True):
            space = " " * (width - cell_len(cell))
            parts.append(space + cell if name in right else cell + space)
        return (" " * COLUMN_GAP).join(parts).rstrip()

    out = stdout()
    out.print(Text(padded(names)), style="dim", soft_wrap=True)
    out.print("\n".join(map(padded, lines)), markup=False, soft_wrap=True)


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
