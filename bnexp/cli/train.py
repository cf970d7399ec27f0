"""``bnexp train``: trains one run, or with ``-m`` a Hydra multirun with any launcher and sweeper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnexp.cli import complete, hydra_options
from bnexp.cli.output import FAILED, SOME_FAILED, CsvFlag, Format, JsonFlag, MdFlag, message, pick_format, print_rows, rounded
from bnexp.config.schema import ConfigError

if TYPE_CHECKING:
    from bnexp.plan.spec import RunSpec
    from bnexp.run.trials import Trials
    from bnexp.tracking.records import RecordedRun


def train(
    overrides: complete.Overrides = None,
    multirun: Annotated[bool, typer.Option("-m", "--multirun", help="A Hydra multirun: optim.lr=0.01,0.1 seed=0,1,2")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs, their time and memory; train none.")] = False,
    config_dir: hydra_options.ConfigDir = None,
    cfg: hydra_options.Cfg = None,
    package: hydra_options.Package = None,
    resolve: hydra_options.Resolve = False,
    run: hydra_options.Run = False,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
) -> None:
    """Train one network, or with -m many. Finished runs are never repeated.

    Example: bnexp train data=digits norm=batch   or   bnexp train -m data=digits norm=none,batch seed=0,1,2
    """
    del config_dir  # set already
    format = pick_format(json, csv, md)
    if run and multirun:
        raise ConfigError("--run and --multirun exclude each other; give one.")
    if cfg in ("job", "all") and multirun:
        raise ConfigError(f"--cfg {cfg} shows one run; leave out -m, or list the runs of a multirun with --dry-run.")
    if cfg:
        hydra_options.print_composed(overrides or [], cfg, package, resolve, format)
        return
    if package or resolve:
        raise ConfigError(f"{'--package' if package else '--resolve'} goes with --cfg; add --cfg job.")
    if dry_run:
        _print_plan(overrides or [], multirun, format)
        return
    from bnexp.run.train import launch
    from bnexp.run.trials import Trials

    trials = Trials(message)
    try:
        specs = launch(overrides or [], multirun=multirun, tell=message, trials=trials)
    except BaseException:  # Ctrl-C too: what has ended is not lost
        if trials.search and trials.ended:
            _print_trials(trials, format)
        raise
    if not specs:
        raise ConfigError("the multirun has no jobs; give at least one value for each key.")
    num_recorded = _print_trials(trials, format) if trials.search else _print_runs(specs, trials, format)
    if missing := len(specs) - num_recorded:
        message(f"{missing} of {len(specs)} runs failed; the reasons are above and in failure.json in each run's folder.")
        raise typer.Exit(SOME_FAILED if num_recorded else FAILED)


def _print_runs(specs: Sequence[RunSpec], trials: Trials, format: Format) -> int:
    """Print a row for each recorded run; how many there are."""
    from bnexp.tracking.store import Store

    finished = Store().finished([spec.run_id for spec in specs])
    chosen = {trial.spec.run_id: trial.chosen for trial in trials.ended if not trial.spec.config.study.name}
    rows = [
        _recorded_row(spec, finished[spec.run_id], chosen.get(spec.run_id, {})) for spec in specs if spec.run_id in finished
    ]
    print_rows(rows, format, right=("seed", "val/accuracy", "test/accuracy"))
    return len(rows)


def _print_trials(trials: Trials, format: Format) -> int:
    """Print a row for each trial of a search, and the best on stderr; how many different runs are recorded."""
    from bnexp.run.trials import short, typed
    from bnexp.tracking.store import Store

    assert trials.search
    metric = trials.search.metric
    finished = Store().finished([trial.spec.run_id for trial in trials.ended])
    names = list(dict.fromkeys(name for trial in trials.ended for name in trial.chosen))
    tails = [name.rsplit(".", 1)[-1] for name in names]
    titles = names if format.for_programs or len(set(tails)) < len(tails) else tails
    rows = []
    for trial in trials.ended:
        record = finished.get(trial.spec.run_id)
        shown = typed if format.for_programs else short
        values = [shown(trial.chosen[name]) if name in trial.chosen else None for name in names]
        rows.append(
            {
                "trial": trial.number,
                "run": trial.spec.run_id,
                **dict(zip(titles, values, strict=True)),
                metric: rounded(trial.value, 4),
                "status": record.summary.status if record else "failed",
                "best": (trial is trials.best) if format.for_programs else "*" if trial is trials.best else "",
                **({"path": record and str(record.path)} if format.for_programs else {}),
            }
        )
    numbers = [title for title, name in zip(titles, names, strict=True) if _are_numbers(trials, name)]
    print_rows(rows, format, right=("trial", *numbers, metric))
    for line in trials.summary():
        message(line)
    return len(finished)


def _are_numbers(trials: Trials, name: str) -> bool:
    from bnexp.run.trials import typed

    return not any(isinstance(typed(trial.chosen.get(name, "0")), str) for trial in trials.ended)


def _print_plan(overrides: list[str], multirun: bool, format: Format) -> None:
    """Print the runs of the command line, and the time and memory that they will take."""
    from bnexp.cli.planned import print_dry_run
    from bnexp.plan.expand import expand_multirun
    from bnexp.plan.spec import RunSpec, unique
    from bnexp.run.train import tell_notes
    from bnexp.tracking.initial import resolve_starts
    from bnexp.tracking.store import Store

    store = Store()
    chosen = resolve_starts(overrides, store)
    specs = unique([RunSpec(config) for config in expand_multirun(chosen, asked=multirun)])
    tell_notes(specs, message)
    finished = store.finished([spec.run_id for spec in specs])
    rows = [{**_row(spec), "state": "finished" if spec.run_id in finished else "to train"} for spec in specs]
    print_dry_run(rows, specs, store, format)
    if multirun and any(spec.config.study.refine.ratio is not None for spec in specs):
        name = specs[0].config.study.name
        message(f"Runs at further levels follow; how many at most says bnexp study {name} --dry-run.")


# Keys and config groups whose values a row shows in any case.
SHOWN = ("data", "data.name", "norm", "norm.kind", "norm.placement", "optim.lr", "train.batch_size", "seed")


def _recorded_row(spec: RunSpec, record: RecordedRun, chosen: Mapping[str, str]) -> dict[str, Any]:
    """The row of a finished run, with what the multirun chose for it and its accuracies."""
    summary = record.summary
    names = [name for name in ("val/accuracy", "test/accuracy") if name in summary.metrics]
    accuracies: dict[str, Any] = {name: rounded(summary.metric(name), 4) for name in names}
    others = {name: value for name, value in chosen.items() if name not in SHOWN}
    return {**_row(spec), **others, **accuracies, "status": summary.status, "path": str(record.path)}


def _row(spec: RunSpec) -> dict[str, Any]:
    from bnexp.plan.spec import identity

    config = spec.config
    placed = "norm.placement" in identity(config)
    norm = f"{config.norm.kind} {config.norm.placement}" if placed else config.norm.kind.value
    return {
        "run": spec.run_id,
        "data": config.data.name.value,
        "norm": norm,
        "lr": config.optim.lr,
        "batch_size": config.train.batch_size,
        "seed": spec.seed,
    }
