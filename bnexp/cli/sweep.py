"""``bnexp sweep``: runs a W&B sweep file on this machine, registers it with W&B, or works on a registered one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bnexp.cli import complete
from bnexp.cli.output import FAILED, SOME_FAILED, CsvFlag, Format, JsonFlag, MdFlag, message, pick_format, print_rows, sentence
from bnexp.config.schema import ConfigError
from bnexp.interrupt import end_cleanly_on_sigterm
from bnexp.run.sweep.defaults import CONFIRMED, FRESH_SEEDS

AGENT = "agent"


Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME|FILE",
        help="Which sweep, or agent and the id of a sweep at W&B; without a name the sweeps are listed.",
        autocompletion=complete.sweeps,
    ),
]
Count = Annotated[
    int | None, typer.Option("--count", metavar="N", min=1, help="Largest number of points; else run_cap of the file.")
]
Seeds = Annotated[
    int | None, typer.Option("--seeds", metavar="N", min=1, help="Seeds that each point trains with; 1 without it.")
]
Confirm = Annotated[
    int,
    typer.Option(
        "--confirm",
        metavar="K",
        min=0,
        help="Train the best K points, and the best of each norm, again with fresh seeds; 0: none.",
    ),
]
FreshSeeds = Annotated[
    int,
    typer.Option(
        "--fresh-seeds", metavar="N", min=1, help=f"With how many fresh seeds. With {FRESH_SEEDS}, points can be told apart."
    ),
]
SearchSeed = Annotated[int, typer.Option("--search-seed", metavar="N", min=0, help="Seed of the draws of random and bayes.")]
Parallel = Annotated[
    int | None,
    typer.Option(
        "--parallel", metavar="K", min=1, help="Points that bayes chooses at once, or with agent how many agents work."
    ),
]
Wandb = Annotated[bool, typer.Option("--wandb", help="Register the sweep with W&B instead of running it here.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List the points, their time and memory; train none.")]


def sweep(
    name: Name = None,
    overrides: complete.Overrides = None,
    count: Count = None,
    seeds: Seeds = None,
    confirm: Confirm = CONFIRMED,
    fresh_seeds: FreshSeeds = FRESH_SEEDS,
    search_seed: SearchSeed = 0,
    parallel: Parallel = None,
    wandb: Wandb = False,
    dry_run: DryRun = False,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
) -> None:
    """Search for the best settings with a W&B sweep file, and say how sure the best one is. Finished runs are never repeated.

    Example: bnexp sweep lr_norm data=digits   or   bnexp sweep lr_norm --wandb, then bnexp sweep agent ID
    """
    format, given = pick_format(json, csv, md), list(overrides or [])
    if name is None:
        return _print_files(format)
    if name == AGENT:
        return _agent(given, count, parallel)
    if wandb:
        return _register(name, given, count, seeds, format)
    if dry_run:
        return _print_points(name, given, count, seeds, search_seed, format)
    searching = {"count": count, "seeds": seeds, "search_seed": search_seed, "at_once": parallel}
    _run(name, given, format, **searching, confirm=confirm, fresh_seeds=fresh_seeds)


def _run(name: str, overrides: list[str], format: Format, **options: Any) -> None:
    """Run a sweep here. Of a search some points may fail, but a run that fails is said in the exit code."""
    from bnexp.cli.swept import Printed
    from bnexp.run.runner import command_line
    from bnexp.run.sweep.sweep import run_sweep

    result = run_sweep(name, overrides, **options, listener=Printed(format), command=command_line())
    if result.best is None:
        raise typer.Exit(FAILED)
    if any(trial.state == "failed" and trial.run_ids for trial in result.record.trials):
        raise typer.Exit(SOME_FAILED)


def _print_files(format: Format) -> None:
    """List the sweep files."""
    from bnexp.plan.sweep.file import load_file, sweep_files

    rows = []
    for name in sorted(sweep_files()):
        file = load_file(name)
        searched = ", ".join(key for key, item in file.parameters.items() if item.varies)
        rows.append({"sweep": name, "method": file.method, "searches": searched, "about": file.description})
    print_rows(rows, format)
    if format is Format.table:
        message("\nRun one: bnexp sweep lr_norm data=digits. Any W&B sweep file does: bnexp sweep FILE.yaml")


def _print_points(
    name: str, overrides: list[str], count: int | None, seeds: int | None, search_seed: int, format: Format
) -> None:
    """List the points, and the time and memory that they take."""
    from bnexp.cli.planned import print_dry_run
    from bnexp.plan.spec import unique
    from bnexp.run.forecast import estimate_text
    from bnexp.run.sweep.sweep import num_points, plan_points
    from bnexp.tracking.store import Store

    store = Store()
    plan, points = plan_points(name, overrides, count=count, seeds=seeds, search_seed=search_seed)
    specs = unique([spec for item in points for spec in item.specs])
    finished = store.finished([spec.run_id for spec in specs])
    rows: dict[str, dict[str, Any]] = {}
    for item in points:
        for spec in item.specs:
            row = {"run": spec.run_id, "point": item.number, **item.point, "seed": spec.seed}
            rows.setdefault(spec.run_id, {**row, "state": "finished" if spec.run_id in finished else "to train"})
    print_dry_run(list(rows.values()), specs, store, format)
    for item in points:
        if item.problem:
            sentence(f"Point {item.number} cannot train: {item.problem}.")
    todo = [spec for spec in specs if spec.run_id not in finished]
    if plan.file.method == "bayes":
        sentence(f"bayes chooses the other {num_points(plan, count) - 1} points from the results so far.")
    message(
        f"sweep {plan.file.name}-{plan.sweep_id}: {len(points)} points, {len(todo)} runs to train{estimate_text(todo, store)}"
    )


def _register(name: str, overrides: list[str], count: int | None, seeds: int | None, format: Format) -> None:
    from bnexp.run.sweep.remote import register

    found = register(name, overrides, count, seeds)
    print_rows([found], format)
    sentence(f"Work on it: bnexp sweep agent {found['sweep']}   or: wandb agent {found['sweep']}")


def _agent(words: list[str], count: int | None, parallel: int | None) -> None:
    from bnexp.run.sweep.remote import work

    end_cleanly_on_sigterm("Stopped. The same command goes on with the sweep.")
    if len(words) != 1:
        raise ConfigError("bnexp sweep agent takes the id of one sweep, as bnexp sweep NAME --wandb prints it.")
    if code := work(words[0], count, parallel or 1):
        raise typer.Exit(code)
