"""``bnexp train``: trains one run, or with ``-m`` a Hydra multirun with any launcher and sweeper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnexp.cli import complete
from bnexp.cli.output import FAILED, SOME_FAILED, CsvFlag, Format, JsonFlag, MdFlag, message, pick_format, print_rows, rounded
from bnexp.config.schema import ConfigError

if TYPE_CHECKING:
    from bnexp.plan.spec import RunSpec
    from bnexp.tracking.records import RecordedRun


def train(
    overrides: complete.Overrides = None,
    multirun: Annotated[bool, typer.Option("-m", "--multirun", help="A Hydra multirun: optim.lr=0.01,0.1 seed=0,1,2")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs, their time and memory; train none.")] = False,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
) -> None:
    """Train one network, or with -m many. Finished runs are never repeated.

    Example: bnexp train data=digits norm=batch   or   bnexp train -m data=digits norm=none,batch seed=0,1,2
    """
    format = pick_format(json, csv, md)
    if dry_run:
        _print_plan(overrides or [], multirun, format)
        return
    from bnexp.run.train import launch
    from bnexp.tracking.store import Store

    specs = launch(overrides or [], multirun=multirun, tell=message)
    if not specs:
        raise ConfigError("the multirun has no jobs; give at least one value for each key.")
    finished = Store().finished([spec.run_id for spec in specs])
    rows = [_recorded_row(spec, finished[spec.run_id]) for spec in specs if spec.run_id in finished]
    print_rows(rows, format, right=("seed", "val/accuracy", "test/accuracy"))
    if missing := len(specs) - len(rows):
        message(f"{missing} of {len(specs)} runs failed; the reasons are above and in failure.json in each run's folder.")
        raise typer.Exit(SOME_FAILED if rows else FAILED)


def _print_plan(overrides: list[str], multirun: bool, format: Format) -> None:
    """Print the runs of the command line, and the time and memory that they will take."""
    from bnexp.cli.planned import print_dry_run
    from bnexp.plan.compose import compose
    from bnexp.plan.expand import expand_multirun
    from bnexp.plan.spec import RunSpec, unique
    from bnexp.run.train import tell_notes
    from bnexp.tracking.initial import resolve_starts
    from bnexp.tracking.store import Store

    store = Store()
    chosen = resolve_starts(overrides, store)
    specs = unique([RunSpec(config) for config in (expand_multirun(chosen) if multirun else [compose(chosen)])])
    tell_notes(specs, message)
    finished = store.finished([spec.run_id for spec in specs])
    rows = [{**_row(spec), "state": "finished" if spec.run_id in finished else "to train"} for spec in specs]
    print_dry_run(rows, specs, store, format)
    if multirun and any(spec.config.study.refine.ratio is not None for spec in specs):
        name = specs[0].config.study.name
        message(f"Runs at further levels follow; how many at most says bnexp study {name} --dry-run.")


def _recorded_row(spec: RunSpec, record: RecordedRun) -> dict[str, Any]:
    """The row of a finished run, with its accuracies."""
    summary = record.summary
    names = [name for name in ("val/accuracy", "test/accuracy") if name in summary.metrics]
    accuracies: dict[str, Any] = {name: rounded(summary.metric(name), 4) for name in names}
    return {**_row(spec), **accuracies, "status": summary.status, "path": str(record.path)}


def _row(spec: RunSpec) -> dict[str, Any]:
    config = spec.config
    norm = config.norm.kind.value if config.norm.kind == "none" else f"{config.norm.kind} {config.norm.placement}"
    return {
        "run": spec.run_id,
        "data": config.data.name.value,
        "norm": norm,
        "lr": config.optim.lr,
        "batch_size": config.train.batch_size,
        "seed": spec.seed,
    }
