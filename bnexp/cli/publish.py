"""``bnexp publish``: brings recorded runs and studies to W&B."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from bnexp.cli.output import FAILED, Format, JsonFlag, message, print_json, print_rows, sentence, stderr
from bnexp.cli.selecting import LastOption, SelectArgument, StatusOption, WhereOption
from bnexp.interrupt import INTERRUPTED

if TYPE_CHECKING:
    from bnexp.run.publish import Published


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

    from bnexp.run.publish import PublishInterrupted
    from bnexp.run.publish import publish as publish_selected

    console, interrupted = stderr(), False
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("publishing", total=None)
        try:
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
        except PublishInterrupted as ctrl_c:
            done, interrupted = ctrl_c.published, True
    if json:
        print_json(done.to_dict())
    else:
        _print(done)
    if dry_run and done.runs:
        message(_not_sent(done.count("missing"), len(done.runs)))
    for line in done.messages:
        message(line)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if done.count("failed") or done.count("incomplete"):
        raise typer.Exit(FAILED)


_NAMES = {
    "sent": "sent",
    "written": "written offline",
    "missing": "to send",
    "there": "there already",
    "incomplete": "incomplete",
    "failed": "failed",
}


def _not_sent(missing: int, total: int) -> str:
    """What a dry run would have sent."""
    if missing:
        return f"Nothing was sent. W&B lacks {missing} of {total}; without --dry-run the same command sends them."
    return f"Nothing was sent. All {total} are at W&B or recorded offline already."


def _print(done: Published) -> None:
    """One row per study with the number of its runs for each action, and what went wrong."""
    actions = [action for action in _NAMES if done.count(action)]
    counts = Counter((run.study, run.action) for run in done.runs)
    rows = [
        {"study": study} | {_NAMES[action]: counts[study, action] for action in actions}
        for study in dict.fromkeys(run.study for run in done.runs)
    ]
    print_rows(rows, Format.table, right=[_NAMES[action] for action in actions])
    for problem in dict.fromkeys(run.problem for run in done.runs if run.problem):
        sentence(f"Not published: {problem}.")
