"""``bnexp doctor``: what is installed and there, and the fix for each gap."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from bnexp.cli.output import COLUMN_GAP, FAILED, OK, JsonFlag, message, print_json, stderr, stdout
from bnexp.config.schema import ConfigError
from bnexp.terminal import visible_line

if TYPE_CHECKING:
    from bnexp.run.health.finding import Finding

STOPS = "STOPS"
MOST_NAMED = 4  # packages that are being imported
SIGNS = {"ok": ("ok", "green"), "option": ("-", "dim"), "gap": ("gap", "bold yellow"), "blocks": (STOPS, "bold red")}
STYLES = dict(SIGNS.values())


def doctor(
    json: JsonFlag = False,
    report: Annotated[
        bool,
        typer.Option("--report", help="Print Markdown for an issue: no user and host names, directories or keys."),
    ] = False,
) -> None:
    """Look at packages, device, W&B, data, directories and records, and say how to fix what is missing.

    Ends with 0 if nothing stands in the way of training, else with 1. Asks no network.
    """
    from bnexp.run.health.examine import examine, is_ready, markdown

    if json and report:
        raise ConfigError("--json and --report exclude each other; give one.")
    findings = _with_progress(examine)
    ready = is_ready(findings)
    if json:
        print_json({"ready": ready, "findings": [asdict(finding) for finding in findings]})
    elif report:
        sys.stdout.write(markdown(findings))
    else:
        _print(findings)
        for line in _conclusion(findings):
            message(line)
    raise typer.Exit(OK if ready else FAILED)


def _with_progress(examine: Callable[..., list[Finding]]) -> list[Finding]:
    """The findings; until they are there, a terminal shows the packages that are still being imported."""
    console = stderr()
    if not console.is_terminal:
        message("Importing packages, each in a process of its own: some seconds ...")
        return examine()
    with console.status("Importing packages ...") as status:

        def waiting(names: Sequence[str]) -> None:
            few = f"{', '.join(names[:MOST_NAMED])}{f' and {len(names) - MOST_NAMED} more' if len(names) > MOST_NAMED else ''}"
            status.update(f"Importing {few} ..." if names else "Looking at data and records ...")

        return examine(waiting)


def _print(findings: Sequence[Finding]) -> None:
    """One table per section. Places and fixes stand in the last column if all have room, else below; they are never folded."""
    from rich.table import Table
    from rich.text import Text

    out = stdout()
    for section, part in groupby(findings, key=lambda finding: finding.section):
        rows = [[SIGNS[f.state][0], f.name, f.found, f.fix or f.place] for f in part]
        rows = [[visible_line(cell) for cell in row] for row in rows]
        fits = sum(max(map(len, column)) + COLUMN_GAP for column in zip(*rows, strict=True)) <= out.width
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, COLUMN_GAP, 0, 0))
        table.add_column(min_width=len(STOPS))
        table.add_column(min_width=min(20, max(len(row[1]) for row in rows)), overflow="fold")
        table.add_column(overflow="fold")
        table.add_column(style="dim")
        for row in rows:
            table.add_row(Text(row[0], style=STYLES[row[0]]), *map(Text, row[1 : 4 if fits else 3]))
        out.print(Text(section[:1].upper() + section[1:], style="bold"))
        out.print(table)
        for row in [] if fits else rows:
            if row[3]:
                out.print(Text(f"       {row[1]}:  {row[3]}", style="dim"), soft_wrap=True)
        out.print()


def _conclusion(findings: Sequence[Finding]) -> list[str]:
    stopping = [finding for finding in findings if finding.state == "blocks"]
    gaps = [finding for finding in findings if finding.state == "gap"]
    lines = ["No training is possible here:"] if stopping else ["Nothing stands in the way of training."]
    for finding in stopping:
        lines += [f"  {finding.name}: {finding.found}", *([f"  {finding.fix}"] if finding.fix else [])]
    if gaps:
        lines.append(f"{len(gaps)} gap{'s' * (len(gaps) > 1)}: {', '.join(finding.name for finding in gaps)}.")
    return lines
