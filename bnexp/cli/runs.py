"""``bnexp runs`` and ``bnexp show``: what is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnexp.cli import complete
from bnexp.cli.output import CsvFlag, Format, JsonFlag, MdFlag, message, pick_format, print_json, print_rows, rounded, stdout
from bnexp.config.schema import ConfigError
from bnexp.plan.study import levels_text
from bnexp.tracking.reading import DamagedRecord

if TYPE_CHECKING:
    from bnexp.tracking.records import RecordedRun


def runs(json: JsonFlag = False, csv: CsvFlag = False, md: MdFlag = False) -> None:
    """List the recorded runs."""
    from bnexp.tracking.store import Store

    format = pick_format(json, csv, md)
    store = Store()
    rows = []
    for run in store.runs():
        summary = run.summary
        rows.append(
            {
                "run": run.run_id,
                "study": summary.study,
                "arm": summary.arm,
                "levels": levels_text(summary.levels),
                "seed": summary.seed,
                "test_accuracy": rounded(summary.metric("test/accuracy"), 4),
                "seconds": rounded(summary.seconds, 1),
                "status": summary.status,
                "finished_at": summary.finished_at,
            }
        )
    if not rows and format is Format.table:
        message(f"No runs are recorded in {store.root}. Start with: bnexp study batchnorm data=digits")
    print_rows(rows, format, right=("seed", "test_accuracy", "seconds"))


def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run id, or the beginning of one.", autocompletion=complete.runs)],
    json: JsonFlag = False,
) -> None:
    """Show everything recorded of one run: summary, configuration, metrics. Of a failed or damaged run, what can be read."""
    import yaml

    from bnexp.tracking.store import Store

    record = Store().named(run)
    parts, problems = _readable(record)
    for problem in problems:
        message(problem)
    if not parts:
        raise ConfigError(f"nothing of the run {record.path} can be read.")
    if json:
        print_json(parts)
        return
    out = stdout()
    out.print(f"{record.path}\n", markup=False, style="bold")
    for name, style in (("summary", None), ("failure", None), ("config", "dim")):
        if name in parts:
            shown = parts[name] if isinstance(parts[name], dict) else {name: parts[name]}
            out.print(yaml.safe_dump(shown, sort_keys=False), markup=False, style=style)
    epochs = [row for row in parts.get("metrics", []) if "epoch" in row]
    names = dict.fromkeys(name for row in epochs for name in row)
    print_rows([{name: f"{row[name]:.4g}" if name in row else "" for name in names} for row in epochs], Format.table)


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
