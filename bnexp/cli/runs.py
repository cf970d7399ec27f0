"""``bnexp runs``: lists recorded runs, or groups of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bnexp.cli.output import (
    CsvFlag,
    Format,
    JsonFlag,
    LatexFlag,
    MdFlag,
    pick_format,
    print_rows,
    sentence,
    stdout,
)
from bnexp.cli.selecting import (
    ColumnsOption,
    LastOption,
    MetricOption,
    SelectArgument,
    SortByOption,
    StatusOption,
    WhereOption,
    nothing_selected,
)

if TYPE_CHECKING:
    import polars as pl

    from bnexp.comparison.listing import Listing

MOST_SHOWN = 100  # runs that a terminal lists unless --last says how many


def runs(
    select: SelectArgument = None,
    where: WhereOption = None,
    columns: ColumnsOption = None,
    metric: MetricOption = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by",
            metavar="A,B",
            help="One row for each combination of these columns: number of runs, mean, 95 % interval, standard deviation.",
        ),
    ] = None,
    sort_by: SortByOption = None,
    last: LastOption = None,
    status: StatusOption = None,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
    latex: LatexFlag = False,
) -> None:
    """List recorded runs: what differs between them, their result, time and age; the last to finish comes last.

    Columns are facts (run, study, arm, seed, status, finished_at, seconds,
    num_classes, num_test, path, source), settings such as optim.lr,
    study.levels, and metrics such as test/accuracy. Accuracies are fractions
    in conditions, JSON and CSV, and per cent in tables. --json and --csv have
    all columns, unless --columns names some. A terminal shows 100 runs, unless
    --last says how many.

    Example: bnexp runs batchnorm --last 20
    """
    from bnexp.comparison.groups import group_rows, list_groups
    from bnexp.comparison.listing import list_columns, list_runs
    from bnexp.comparison.selection import select_runs
    from bnexp.comparison.varying import pick_columns
    from bnexp.tracking.store import Store

    format = pick_format(json, csv, md, latex)
    store = Store()
    grouped = group_by is not None
    found = select_runs(select or (), where=where, last=last, status=status, sort_by=None if grouped else sort_by, store=store)
    if found.is_empty():
        nothing_selected(store, format, filtered=bool(select or where or status))
    elif group_by is not None and format.for_programs:
        print_rows(group_rows(found, pick_columns(found, group_by), metric, sort_by), format)
    elif group_by is not None:
        _print(list_groups(found, pick_columns(found, group_by), metric, sort_by), format)
    elif format.for_programs:
        print_rows(found.select(pick_columns(found, columns or "*")).to_dicts(), format)
    else:
        table = format is Format.table
        shown, rest = _on_a_screen(found, sorted=sort_by is not None) if table and last is None else (found, "")
        if columns is not None:
            _print(list_columns(shown, pick_columns(found, columns)), format)
        else:
            _print(list_runs(shown, metric=metric, width=stdout().width if table else None, dated=not table), format)
        if rest:
            sentence(rest)


def _on_a_screen(found: pl.DataFrame, *, sorted: bool) -> tuple[pl.DataFrame, str]:
    """The runs that a terminal shows, and a sentence on the others: the last ones, or the first ones of a sorted list."""
    if len(found) <= MOST_SHOWN or not stdout().is_terminal:
        return found, ""
    which = "first" if sorted else "last"
    how = f"--last {len(found)} lists all, --where chooses among them"
    return (
        found.head(MOST_SHOWN) if sorted else found.tail(MOST_SHOWN),
        f"These are the {which} {MOST_SHOWN} of {len(found):,} runs: {how}, --csv and --json have all.",
    )


def _print(listing: Listing, format: Format) -> None:
    print_rows(listing.rows, format, right=listing.right, caption=listing.caption, whole=True)
    for note in listing.notes:
        sentence(note)
