"""``bnexp show``: one run whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnexp.cli import complete
from bnexp.cli.output import Format, JsonFlag, message, print_json, print_rows, sentence, stdout, table_width
from bnexp.config.schema import ConfigError
from bnexp.tracking.reading import DamagedRecord

if TYPE_CHECKING:
    from bnexp.tracking.records import RecordedRun, Summary


def show(
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="Run id, or the beginning of one, or the run's directory. Default: the run that finished last.",
            autocompletion=complete.runs,
            show_default=False,
        ),
    ] = None,
    all: Annotated[
        bool, typer.Option("--all", help="Show the whole configuration and summary, and all columns of the epochs.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Show one run: its result, its learning curve, its epochs and its settings. Of a damaged run, what can be read."""
    from bnexp.comparison.selection import one_run
    from bnexp.tracking.store import Store

    record = one_run(run, Store())
    parts, problems = _readable(record)
    for problem in problems:
        message(problem)
    if not parts:
        raise ConfigError(f"nothing of the run {record.path} can be read.")
    if json:
        print_json(parts)
        return
    _print_result(record, parts)
    _print_course(parts, all)
    _print_settings(parts, all)


def _readable(record: RecordedRun) -> tuple[dict[str, Any], list[str]]:
    """The parts of a record that can be read, by name, and a sentence for each part that cannot."""
    from dataclasses import asdict

    readers: dict[str, Callable[[], Any]] = {
        "summary": lambda: asdict(record.summary),
        "config": lambda: record.config,
        "metrics": record.metrics,
        "failure": lambda: record.failure,
    }
    parts: dict[str, Any] = {}
    problems = []
    for name, read in readers.items():
        try:
            parts[name] = read()
        except DamagedRecord as damage:
            problems.append(str(damage))
        except FileNotFoundError:
            continue
    return {name: part for name, part in parts.items() if part}, problems


def _print_result(record: RecordedRun, parts: dict[str, Any]) -> None:
    from bnexp.comparison.shown_run import result_texts

    out = stdout()
    if "summary" not in parts:
        ending = "damaged" if record.damage else "failed" if "failure" in parts else record.unfinished
        out.print(f"{record.run_id}  {ending}", style="bold", markup=False)
        if "failure" in parts:
            out.print(f"failure: {parts['failure']}", markup=False, soft_wrap=True)
    else:
        summary = record.summary
        diverged = f" at step {summary.diverged_at:,}" if summary.diverged_at else ""
        out.print(f"{record.run_id}  {summary.status}{diverged}", style="bold", markup=False)
        out.print("   ".join(result_texts(summary)), style="bold", markup=False)
        for line in _facts(summary):
            out.print("   ".join(line), markup=False)
    out.print(str(record.path), style="dim", markup=False, soft_wrap=True)


def _facts(summary: Summary) -> list[list[str]]:
    """Study, arm, levels and seed of a run; and when, where and from what it was recorded."""
    from bnexp.plan.study import levels_text

    source = summary.source.tool if summary.source else None
    asked = {"study": summary.study, "arm": summary.arm, "levels": levels_text(summary.levels), "seed": summary.seed}
    recorded = {"finished": summary.finished_at, "device": summary.device, "source": source}
    return [[f"{name} {value}" for name, value in line.items() if value not in (None, "")] for line in (asked, recorded)]


def _print_course(parts: dict[str, Any], all: bool) -> None:
    from bnexp.cli.chart import chart
    from bnexp.comparison.shown_run import course

    found = course(parts.get("metrics", []), own=not parts.get("summary", {}).get("source"))
    out = stdout()
    if (out.encoding or "").lower().startswith("utf") and (lines := chart(found.curves, width=min(out.width, 100))):
        out.print(f"\n{found.title}", style="dim", markup=False)
        out.print("\n".join(lines), markup=False, soft_wrap=True)
    if not found.rows:
        return
    columns = list(found.rows[0])
    while (
        not all and len(columns) > 2 and table_width([{name: row[name] for name in columns} for row in found.rows]) > out.width
    ):
        columns.pop()
    out.print()
    rows = [{name: row[name] for name in columns} for row in found.rows]
    print_rows(rows, Format.table, right=columns, whole=True)
    if left_out := [name for name in found.rows[0] if name not in columns]:
        sentence(f"Also recorded: {', '.join(left_out)}; --all or --json shows them.")
    if len(found.rows) < found.num_epochs:
        message(f"{len(found.rows)} of {found.num_epochs:,} epochs; --json has all of them.")


def _print_settings(parts: dict[str, Any], all: bool) -> None:
    import yaml

    from bnexp.comparison.shown_run import unusual_settings
    from bnexp.plan.spec import flatten

    out = stdout()
    if "config" in parts:
        out.print("\nSettings that are not the defaults:", style="dim")
        for name, value, usual in unusual_settings(flatten(parts["config"])):
            default = f"  # default: {usual}" if usual else ""
            out.print(f"{name}: {value}{default}", markup=False, soft_wrap=True)
    if not all:
        message("--all shows the whole configuration and summary.")
        return
    for name in ("config", "summary"):
        if name in parts:
            out.print(f"\n{name}:", style="dim")
            out.print(yaml.safe_dump(parts[name], sort_keys=False), markup=False, soft_wrap=True)
