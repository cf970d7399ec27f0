"""``bnexp train``: one run, or with ``-m`` a Hydra multirun with any launcher and sweeper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnexp.cli import complete
from bnexp.cli.output import CsvFlag, JsonFlag, MdFlag, message, pick_format, print_rows, rounded
from bnexp.config.schema import ConfigError, RunConfig

if TYPE_CHECKING:
    from bnexp.plan.spec import RunSpec

FAILED, SOME_FAILED = 1, 3


def train(
    overrides: complete.Overrides = None,
    multirun: Annotated[bool, typer.Option("-m", "--multirun", help="A Hydra multirun: optim.lr=0.01,0.1 seed=0,1,2")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs and what they take; train none.")] = False,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
) -> None:
    """Train one network, or with -m many. Finished runs are never repeated.

    Example: bnexp train data=digits norm=batch   or   bnexp train -m data=digits norm=none,batch seed=0,1,2
    """
    format = pick_format(json, csv, md)
    from bnexp.cli.forecast import print_dry_run
    from bnexp.plan.compose import compose, expand_multirun, launch
    from bnexp.plan.spec import RunSpec, unique
    from bnexp.run.runner import run_job
    from bnexp.tracking.initial import resolve_starts
    from bnexp.tracking.store import Store

    store = Store()
    chosen = resolve_starts(overrides or [], store)
    if dry_run:
        configs = expand_multirun(chosen) if multirun else [compose(chosen)]
        _tell_notes(configs)
        planned = unique([RunSpec(config) for config in configs])
        finished = store.finished([spec.run_id for spec in planned])
        rows = [{**_row(spec), "state": "finished" if spec.run_id in finished else "to train"} for spec in planned]
        print_dry_run(rows, planned, store, format)
        return
    if not multirun:
        _tell_notes([compose(chosen)])  # every mistake is answered before Hydra starts
    jobs = launch(run_job, chosen, multirun=multirun)
    specs = unique([RunSpec(_config(job.cfg)) for job in jobs])
    if multirun:
        _tell_notes([spec.config for spec in specs])
    if not specs:
        raise ConfigError("the multirun has no jobs; give at least one value for each key.")
    rows = []
    missing = []
    for spec in specs:
        record = store.find(spec.run_id)
        if record is None:
            missing.append(spec)
            continue
        summary = record.summary
        accuracies: dict[str, Any] = {
            n: rounded(summary.metric(n), 4) for n in ("val/accuracy", "test/accuracy") if n in summary.metrics
        }
        rows.append({**_row(spec), **accuracies, "status": summary.status, "path": str(record.path)})
    print_rows(rows, format, right=("seed", "val/accuracy", "test/accuracy"))
    if missing:
        message(f"{len(missing)} of {len(specs)} runs failed; the reasons are above and in failure.json in each run's folder.")
        raise typer.Exit(SOME_FAILED if rows else FAILED)


def _tell_notes(configs: list[RunConfig]) -> None:
    """Say which data have fewer images than their budget."""
    from bnexp.data.amount import budget_note

    for note in dict.fromkeys(budget_note(config) for config in configs):
        if note:
            message(note)


def _config(tree: Any) -> RunConfig:
    from bnexp.plan.compose import to_config

    return to_config(tree)


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
