"""``bnexp runs`` and ``bnexp show``: what is recorded."""

from __future__ import annotations

from typing import Annotated

import typer

from bnexp.cli.output import CsvFlag, Format, JsonFlag, MdFlag, message, pick_format, print_json, print_rows, stdout
from bnexp.config import ConfigError
from bnexp.schema import did_you_mean


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
                "study": summary["study"],
                "arm": summary["arm"],
                "levels": " ".join(f"{name}={level}" for name, level in summary["levels"].items()),
                "seed": summary["seed"],
                "test_accuracy": round(summary["metrics"]["test/accuracy"], 4),
                "seconds": round(summary["seconds"], 1),
                "status": summary["status"],
                "finished_at": summary["finished_at"],
            }
        )
    if not rows and format is Format.table:
        message(f"No runs are recorded in {store.root}. Start with: bnexp study batchnorm data=digits")
    print_rows(rows, format, right=("seed", "test_accuracy", "seconds"))


def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run id, or the beginning of one.")],
    json: JsonFlag = False,
) -> None:
    """Show one recorded run whole: configuration, metrics, files."""
    import yaml

    from bnexp.tracking.store import Store

    store = Store()
    known = {record.run_id: record for record in store.runs()}
    found = [record for run_id, record in known.items() if run_id.startswith(run)]
    if len(found) != 1:
        some = ", ".join(record.run_id for record in found[:5]) + (", ..." if len(found) > 5 else "")
        problem = f"fits several recorded runs: {some}" if found else f"is not a recorded run in {store.root}"
        raise ConfigError(f"{run!r} {problem}.{did_you_mean(run, list(known))} See them with bnexp runs.")
    record = found[0]
    if json:
        print_json({"summary": record.summary, "config": record.config, "metrics": record.metrics()})
        return
    out = stdout()
    out.print(f"{record.path}\n", markup=False, style="bold")
    out.print(yaml.safe_dump(record.summary, sort_keys=False), markup=False)
    out.print(yaml.safe_dump(record.config, sort_keys=False), markup=False, style="dim")
    epochs = [row for row in record.metrics() if "epoch" in row]
    print_rows([{name: f"{value:.4g}" for name, value in row.items()} for row in epochs], Format.table)
