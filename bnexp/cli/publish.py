"""``bnexp publish``: brings recorded runs and studies to W&B."""

from __future__ import annotations

from typing import Annotated

import typer

from bnexp.cli.output import FAILED, JsonFlag, message, print_json, print_rows, sentence, stderr
from bnexp.cli.selecting import LastOption, SelectArgument, StatusOption, WhereOption


def publish(
    select: SelectArgument = None,
    where: WhereOption = None,
    last: LastOption = None,
    status: StatusOption = None,
    project: Annotated[
        str | None,
        typer.Option("--project", metavar="NAME", help="W&B's project. Default: the one that the runs were configured with."),
    ] = None,
    entity: Annotated[
        str | None, typer.Option("--entity", metavar="NAME", help="W&B's user or team. Default: likewise.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent; send nothing.")] = False,
    json: JsonFlag = False,
) -> None:
    """Bring recorded runs and studies to Weights & Biases, whenever and as often as wanted.

    What W&B has already is not sent again. A study stands for all runs that it
    compares, whichever study trained them, and for itself. No data set is
    needed; without it, tables have no pictures. Without access to a server,
    offline runs are written. Example: bnexp publish batchnorm
    """
    from rich.progress import Progress

    from bnexp.cli.output import Format
    from bnexp.run.publish import publish as publish_selected

    console = stderr()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("publishing", total=None)
        done = publish_selected(
            select or (),
            where=where,
            last=last,
            status=status,
            project=project,
            entity=entity,
            dry_run=dry_run,
            step=lambda count, total: bar.update(task, completed=count, total=total),
        )
    if json:
        print_json(done.to_dict())
    else:
        studies = list(dict.fromkeys(run.study for run in done.runs))
        actions = [name for name in ("sent", "written", "missing", "there", "failed") if done.count(name)]
        names = {"missing": "to send", "there": "there already", "written": "written offline"}
        rows = [
            {"study": study}
            | {
                names.get(action, action): sum(run.study == study and run.action == action for run in done.runs)
                for action in actions
            }
            for study in studies
        ]
        print_rows(rows, Format.table, right=[names.get(action, action) for action in actions])
        for problem in dict.fromkeys(run.problem for run in done.runs if run.problem):
            sentence(f"Not published: {problem}.")
    for line in done.messages:
        message(line)
    if done.count("failed"):
        raise typer.Exit(FAILED)
