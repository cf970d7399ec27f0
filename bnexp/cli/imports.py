"""``bnexp import``: runs of other tools into the local store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnexp.cli.output import SOME_FAILED, CsvFlag, Format, JsonFlag, MdFlag, message, pick_format, print_rows, sentence, stderr
from bnexp.terminal import visible_line

if TYPE_CHECKING:
    from bnexp.tracking.foreign.importing import Import
    from bnexp.tracking.foreign.recording import Imported

MOST_LISTED = 8  # names in a sentence
MOST_PROBLEMS = 20  # that are printed


def import_(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Files or folders of W&B, MLflow or TensorBoard, and CSV files.")
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

    W&B: offline runs of any project: a folder wandb, or a file run-ID.wandb.

    MLflow: a file store mlruns, an experiment or a run in it.

    TensorBoard: a folder; each folder in it with event files is a run.

    CSV, one row for each run: such as norm,lr,seed,test_accuracy.

    CSV, one row for each epoch: it has a column epoch or step, too.
    Which rows are a run tells a column run, or else settings and seed.
    The logs of Keras' and Lightning's CSVLogger are such files; a folder of
    Lightning's is searched, and the hparams.yaml in it are the settings.

    Columns of numbers that sound like a metric (accuracy, val_loss, f1, ...)
    are metrics. All others are settings. --dry-run shows what is taken for what.

    Nothing is added twice; a run that has grown is updated. Names and numbers
    stay as they are, but config. or metric. is put before a name that bnexp
    uses for something else.

    Example: bnexp import wandb/ results.csv --study baseline
    """
    from rich.progress import Progress

    from bnexp.tracking.foreign.importing import import_runs

    format = pick_format(json, csv, md)
    names = [name.strip() for name in (metrics or "").split(",") if name.strip()]
    console = stderr()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("importing", total=None)
        done = import_runs(
            paths,
            study=study,
            metrics=names,
            seed=seed,
            run=run,
            dry_run=dry_run,
            progress=lambda number, total: bar.update(task, completed=number, total=total),
        )
    _print(done, format)
    sentence(_summary(done, dry_run))
    if done.lost:
        raise typer.Exit(SOME_FAILED)


def _print(done: Import, format: Format) -> None:
    """What was imported, what its columns were taken for, and what could not be imported."""
    if format is Format.table:
        print_rows(_by_study(done), format, right=("runs", "new", "updated", "unchanged", "own", "seeds"))
        for line in _taken_for(done):
            sentence(line)
    else:
        print_rows([_row(imported, format) for imported in done.runs], format)
    for problem in done.problems[:MOST_PROBLEMS]:
        message(problem)
    if len(done.problems) > MOST_PROBLEMS:
        message(f"... and {len(done.problems) - MOST_PROBLEMS} more like these.")


def _row(imported: Imported, format: Format) -> dict[str, Any]:
    """One run. JSON has lists; the other formats have texts."""
    row = asdict(imported) | {"path": str(imported.path)}
    return row if format is Format.json else {k: ", ".join(v) if isinstance(v, list) else v for k, v in row.items()}


def _groups(done: Import) -> dict[tuple[str, str], list[Imported]]:
    """The runs of each study and tool."""
    groups: dict[tuple[str, str], list[Imported]] = {}
    for run in done.runs:
        groups.setdefault((run.study, run.source), []).append(run)
    return groups


def _by_study(done: Import) -> list[dict[str, Any]]:
    """One row for each study and tool, with the actions that there are."""
    actions = dict.fromkeys(run.action for run in done.runs)
    rows = []
    for (study, source), runs in _groups(done).items():
        counts = {str(action): sum(run.action is action for run in runs) for action in actions}
        seeds = {run.seed for run in runs if run.seed is not None}
        rows.append({"study": study, "source": source, "runs": len(runs)} | counts | {"seeds": len(seeds)})
    return rows


def _taken_for(done: Import) -> list[str]:
    """For each study one sentence on what was taken for what."""
    lines = []
    for (study, _), runs in _groups(done).items():
        runs = [run for run in runs if run.action != "own"]
        metrics, settings, seeds = (
            _listed(dict.fromkeys(name for run in runs for name in names(run)))
            for names in (lambda run: run.metrics, lambda run: run.settings, lambda run: [run.seed_key] if run.seed_key else [])
        )
        in_names = not seeds and any(run.seed is not None for run in runs)
        seeds = seeds or ("part of the names" if in_names else "not known; name it with --seed, if there is one")
        if runs:
            lines.append(f"{study}: metrics: {metrics or 'none'}. Settings: {settings or 'none'}. Seed: {seeds}.")
    return lines


def _listed(names: Iterable[str]) -> str:
    known = [visible_line(name) for name in names]
    return ", ".join(known[:MOST_LISTED]) + (f" and {len(known) - MOST_LISTED} more" if len(known) > MOST_LISTED else "")


def _summary(done: Import, dry: bool) -> str:
    """What was done, in one sentence or two, and what to do next."""
    from bnexp.tracking.foreign.recording import Action

    words = {
        Action.new: "new",
        Action.updated: "updated",
        Action.unchanged: "already there",
        Action.own: "bnexp's own, recorded already",
    }
    parts = [f"{done.count(action)} {word}" for action, word in words.items() if done.count(action)]
    parts += [f"{done.lost} could not be imported"] if done.lost else []
    studies = {run.study for run in done.runs if run.action is not Action.own}
    following = f" Compare them: bnexp compare {studies.pop()}" if len(studies) == 1 else " See them: bnexp runs"
    return f"{'Nothing is written. ' if dry else ''}Runs: {', '.join(parts)}.{'' if dry or not done.runs else following}"
