"""How commands print: data on stdout, messages on stderr; a table on a terminal, JSON, CSV or Markdown when asked."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bnexp.config import ConfigError

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
CsvFlag = Annotated[bool, typer.Option("--csv", help="Print CSV on stdout.")]
MdFlag = Annotated[bool, typer.Option("--md", help="Print Markdown on stdout.")]

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


class _Stdout(Console):
    def on_broken_pipe(self) -> None:
        """The reader, like ``head``, has left: nothing more is printed, but the work goes on (Rich would end it)."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stdout() -> Console:
    """Console for data. Off a terminal lines are as long as they need to be."""
    console = _Stdout(highlight=False)
    return console if console.is_terminal else _Stdout(highlight=False, width=240)


def stderr() -> Console:
    """Console for progress and messages."""
    return Console(stderr=True, highlight=False)


def message(text: str) -> None:
    """One plain line on stderr; no markup."""
    stderr().print(text, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False, default=str) + "\n")


def print_rows(rows: Sequence[Row], format: Format, *, right: Sequence[str] = ()) -> None:
    """Rows with equal keys in the chosen format; ``right`` names the columns that are aligned right in a table."""
    if format is Format.json:
        print_json(list(rows))
    elif format is Format.csv and rows:
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    elif format is Format.md and rows:
        lines = [list(rows[0]), ["---:" if name in right else "---" for name in rows[0]]]
        lines += [[_cell(value).replace("|", "\\|") for value in row.values()] for row in rows]
        sys.stdout.write("\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n")
    elif format is Format.table and rows:
        table = Table(box=None, pad_edge=False)
        for name in rows[0]:
            widest = max(len(_cell(row[name])) for row in rows)  # short cells, like run ids, are never broken
            align: Literal["left", "right"] = "right" if name in right else "left"
            header = name.replace("_", " ")
            table.add_column(header, justify=align, header_style="dim", min_width=min(widest, 12), overflow="fold")
        for row in rows:
            table.add_row(*(Text(_cell(value), style=VERDICT_STYLES.get(_cell(value), "")) for value in row.values()))
        stdout().print(table)


def table_width(rows: Sequence[Row]) -> int:
    """Characters that the rows take side by side as a table without a broken cell."""
    widths = [max(len(name), *(len(_cell(row[name])) for row in rows)) for name in (rows[0] if rows else ())]
    return sum(widths) + COLUMN_GAP * max(len(widths) - 1, 0)


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


VERDICT_STYLES = {
    "SUPPORTED": "bold green",
    "REFUTED": "bold red",
    "EQUIVALENT": "bold cyan",
    "INCONCLUSIVE": "bold yellow",
    "ESTIMATE": "bold",
}
