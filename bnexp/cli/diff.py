"""``bnexp diff``: in what two runs, or two studies, differ."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from bnexp.cli import complete
from bnexp.cli.output import CsvFlag, Format, JsonFlag, LatexFlag, MdFlag, message, pick_format, print_rows, stdout, table_width
from bnexp.terminal import visible_line

if TYPE_CHECKING:
    from bnexp.comparison.difference import Line
    from bnexp.tracking.store import Store

WHAT = "Run id, the beginning of one, or a directory; or a study, as name, id or name-id."


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help=WHAT, autocompletion=complete.recorded)],
    b: Annotated[str, typer.Argument(metavar="B", help="The other run or study.", autocompletion=complete.recorded)],
    all: Annotated[
        bool, typer.Option("--all/--only-changed", help="Also show what both have in common. Default: only what differs.")
    ] = False,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
    latex: LatexFlag = False,
) -> None:
    """Show in what two runs differ: settings, then results. Of two studies: question, arms, settings, and the mean of each arm.

    Columns of --json and --csv: kind (setting or result), name, a, b, and
    difference (b minus a, of numbers; accuracies are fractions).

    Example: bnexp diff 3f2a 91bc
    """
    from bnexp.tracking.store import Store

    format = pick_format(json, csv, md, latex)
    names, lines = _compared(a, b, Store())
    shown = [line for line in lines if all or line.differs]
    if not shown:
        message(f"{names[0]} and {names[1]} do not differ.")
    if format.for_programs:
        rows = [{"kind": x.kind, "name": x.name, "a": x.a, "b": x.b, "difference": x.difference} for x in shown]
        print_rows(rows, format)
        return
    texts = [(line.label, *line.texts()) for line in shown]
    texts = [text for text in texts if all or text[1] != text[2]]  # such as two times that differ by microseconds
    columns = ["", *names, *(["difference"] if any(text[3] for text in texts) else [])]
    rows = [dict(zip(columns, text, strict=False)) for text in texts]
    if format is Format.table and table_width(rows) > stdout().width:
        _print_long(texts, names)
    else:
        print_rows(rows, format, right=["difference"], whole=True)
    same = len(lines) - len(texts)
    if same and format is Format.table:
        message(f"{same} settings and results are the same in both; --all shows them.")


def _print_long(texts: Sequence[tuple[str, ...]], names: Sequence[str]) -> None:
    """Print each value on a line of its own, because the terminal is too narrow for them side by side."""
    out = stdout()
    width = max(map(len, names))
    for name, first, second, _ in texts:
        out.print(visible_line(name), style="bold", markup=False)
        for label, value in zip(names, (first, second), strict=True):
            line = f"  {label:<{width}}  {visible_line(value)}"
            out.print(_folded(line, width + 4, out.width) if out.is_terminal else line, markup=False, soft_wrap=True)


def _folded(line: str, indent: int, width: int) -> str:
    """A line as several ones, broken between words; a word that is too long stays whole, so that it can be copied."""
    room = max(width, indent + 20)
    return textwrap.fill(line, room, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _compared(a: str, b: str, store: Store) -> tuple[tuple[str, str], list[Line]]:
    """The names of both, and their lines: of two studies, else of two runs."""
    from bnexp.comparison.difference import run_difference, study_difference
    from bnexp.comparison.selection import one_run, one_study

    studies = one_study(a, store), one_study(b, store)
    if studies[0] is not None and studies[1] is not None:
        first, second = (f"{record.study.name}-{record.study_id}" for record in studies if record)
        return (first, second), study_difference(studies[0], studies[1], store)
    runs = one_run(a, store), one_run(b, store)
    return (runs[0].run_id, runs[1].run_id), run_difference(*runs)
