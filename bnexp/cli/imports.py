"""``bnexp import``: runs of other tools into the local store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnexp.cli.output import SOME_FAILED, CsvFlag, Format, JsonFlag, MdFlag, message, pick_format, print_rows, sentence

if TYPE_CHECKING:
    from bnexp.tracking.foreign.importing import Import

MOST_PROBLEMS = 20  # that are printed


def import_(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files or folders of W&B, MLflow or TensorBoard, and CSV files.")
    ],
    study: Annotated[
        str | None,
        typer.Option(
            "--study", metavar="NAME", help="Record all these runs in this study; else in one named like their project."
        ),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option("--metrics", metavar="A,B", help="CSV: the columns that are metrics; all others are settings.")
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option("--seed", metavar="NAME", help="The key or column that is the seed; else seed, random_state, ..."),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="NAME", help="CSV: the column that names the run; else run, run_id, name, ..."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; show what would be imported, and how.")] = False,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
) -> None:
    """Take runs of other tools into the local store: bnexp runs, show and compare read them like our own.

    Importing again adds nothing twice: runs that have grown are updated. Names and numbers stay as they are.

    - W&B: offline runs of any project: a folder wandb, one run in it, or its file run-ID.wandb.

    - MLflow: its file store mlruns, one experiment or one run.

    - TensorBoard: a folder with events.out.tfevents files; each folder with such files is a run.

    - CSV: one row for each run, such as norm,lr,seed,test_accuracy; or one row for each epoch: the same with a column epoch or
    step, and a column run unless settings and seed tell the runs apart. Columns of numbers that sound like a metric (accuracy,
    val_loss, f1, ...) are metrics, the others are settings. With --dry-run you see what is taken for what.

    Example: bnexp import wandb/ results.csv --study baseline
    """
    from bnexp.tracking.foreign.importing import import_runs

    format = pick_format(json, csv, md)
    names = [name.strip() for name in (metrics or "").split(",") if name.strip()]
    done = import_runs(paths, study=study, metrics=names, seed=seed, run=run, dry_run=dry_run)
    if format is Format.table:
        print_rows(_by_study(done), format, right=("runs", "new", "updated", "unchanged", "settings"))
    else:
        print_rows([_row(asdict(imported)) for imported in done.runs], format)
    for problem in done.problems[:MOST_PROBLEMS]:
        message(problem)
    if len(done.problems) > MOST_PROBLEMS:
        message(f"... and {len(done.problems) - MOST_PROBLEMS} more like these.")
    sentence(_summary(done, dry_run))
    if done.lost:
        raise typer.Exit(SOME_FAILED)


def _row(run: dict[str, Any]) -> dict[str, Any]:
    return run | {"metrics": ", ".join(run["metrics"]), "path": str(run["path"]), "notes": " ".join(run["notes"])}


def _by_study(done: Import) -> list[dict[str, Any]]:
    """One row for each study and tool."""
    from bnexp.tracking.foreign.recording import Action

    groups: dict[tuple[str, str], list[Any]] = {}
    for run in done.runs:
        groups.setdefault((run.study, run.source), []).append(run)
    rows = []
    for (study, source), runs in groups.items():
        seeds = {run.seed for run in runs if run.seed is not None}
        names = dict.fromkeys(name for run in runs for name in run.metrics)
        shown = ", ".join(list(names)[:4]) + (f", and {len(names) - 4} more" if len(names) > 4 else "")
        counts = {str(action): sum(run.action is action for run in runs) for action in (Action.new, Action.updated)}
        rows.append(
            {"study": study, "source": source, "runs": len(runs)}
            | counts
            | {"seeds": len(seeds) or "none known", "settings": max(run.settings for run in runs), "metrics": shown}
        )
    return rows


def _summary(done: Import, dry: bool) -> str:
    """What was done, in one sentence or two, and what to do next."""
    from bnexp.tracking.foreign.recording import Action

    new, updated, unchanged, own = (done.count(action) for action in Action)
    parts = [f"{new} new"] if new else []
    parts += [f"{updated} updated"] if updated else []
    parts += [f"{unchanged} already there"] if unchanged else []
    parts += [f"{own} of our own, which are recorded"] if own else []
    parts += [f"{done.lost} could not be imported"] if done.lost else []
    studies = sorted({run.study for run in done.runs})
    following = f" Compare them: bnexp compare {' '.join(studies[:3])}" if studies and not dry else ""
    return f"{'Nothing is written. ' if dry else ''}Runs: {', '.join(parts)}.{following}"
