"""The options with which commands choose recorded runs, the same for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bnexp.cli import complete
from bnexp.cli.output import Format, message, print_rows

if TYPE_CHECKING:
    from bnexp.tracking.store import Store


SelectArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SELECT",
        help="Runs to take: study names, study ids, run ids or their beginnings, directories. Default: all recorded runs.",
        autocompletion=complete.recorded,
        show_default=False,
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Only runs for which this is true, like \"optim.lr > 0.1 and norm.kind = 'batch'\". As in SQL, a value that a "
        'run lacks is null and equals nothing: it is counted, and kept by "... or optim.momentum is null".',
    ),
]
LastOption = Annotated[int | None, typer.Option("--last", min=1, metavar="N", help="Only the N runs that finished last.")]
StatusOption = Annotated[
    str | None,
    typer.Option("--status", metavar="STATUS", help="Only runs of this status: finished, diverged, failed or stopped."),
]
SortByOption = Annotated[
    str | None,
    typer.Option("--sort-by", metavar="[-]COLUMN", help="Sort by this column; with a - before it the largest comes first."),
]
ColumnsOption = Annotated[
    str | None,
    typer.Option("--columns", metavar="A,B", help="The columns to print, with commas between; optim.* takes all that fit."),
]
MetricOption = Annotated[
    str | None, typer.Option("--metric", metavar="METRIC", help="The result to take. Default: test/accuracy.")
]


def nothing_selected(store: Store, format: Format, *, filtered: bool) -> None:
    """Print an empty result, and say what to do next.

    Args:
        store: where runs were looked for.
        format: of the result.
        filtered: whether the user chose among the runs.
    """
    print_rows([], format)
    if filtered:
        message(f"No finished run in {store.root} fits; bnexp runs lists them all.")
    else:
        message(f"No finished runs are recorded in {store.root}. Start with: bnexp study batchnorm data=digits")
