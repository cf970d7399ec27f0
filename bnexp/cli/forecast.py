"""``--dry-run``: the runs, each with its cohort, and the cohorts with the time and memory that they will take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bnexp.cli.output import Format, print_rows, stdout

if TYPE_CHECKING:
    from bnexp.plan.spec import RunSpec
    from bnexp.tracking.store import Store


def print_dry_run(rows: Sequence[dict[str, Any]], specs: Sequence[RunSpec], store: Store, format: Format) -> None:
    """Print ``rows``, one for each spec; those that will train now have their cohort's number, time and memory.

    For people there is a second table, a row a cohort; for programs everything stands in the rows of the runs.
    """
    from bnexp.run.forecast import forecast, part_columns, part_rows

    todo = [spec for spec, row in zip(specs, rows, strict=True) if row["state"] == "to train"]
    parts = forecast(todo, store) if todo else []
    columns = part_columns(parts)
    names: tuple[str, ...] = ("cohort", "cohort_seconds", "cohort_bytes")
    if format in (Format.table, Format.md):
        names = ("cohort",) if any(len(part.runs) > 1 for part in parts) else ()
    shown = []
    for spec, row in zip(specs, rows, strict=True):
        own = columns.get(spec.run_id, {}) if row["state"] == "to train" else {}
        shown.append(row | {name: own.get(name) for name in names})
    print_rows(shown, format, right=("seed", "cohort"))
    if parts and format in (Format.table, Format.md):
        stdout().print()
        print_rows(part_rows(parts), format, right=("runs", "seeds", "time", "memory"))
