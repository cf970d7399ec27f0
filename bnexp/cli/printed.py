"""Prints how a study goes while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bnexp.cli.output import Format, message, print_rows, sentence, stderr
from bnexp.cli.result import print_result
from bnexp.config.validate import resolve_seeds
from bnexp.run.study import Listener

if TYPE_CHECKING:
    from rich.progress import Progress

    from bnexp.comparison.result import StudyResult
    from bnexp.plan.expand import StudyPlan
    from bnexp.plan.spec import RunSpec
    from bnexp.plan.study import Choice


class Printed(Listener):
    """Prints how a study goes: what will run, and notes, on stderr; tuned values and the verdict on stdout."""

    def __init__(self, format: Format) -> None:
        self.format = format
        self._told_plan = False
        self._publishing: Progress | None = None

    def tuning(self, setting: str, num_runs: int) -> None:
        message(f"tuning {setting} first: {num_runs} runs")

    def tuned(self, choices: Sequence[Choice]) -> None:
        from bnexp.comparison.tuned import tuning_rows

        if self.format is Format.table:
            print_rows(tuning_rows(choices), self.format)

    def refining(self, setting: str, levels: Sequence[float]) -> None:
        what = "1 level is" if len(levels) == 1 else f"{len(levels)} levels are"
        named = ", ".join(f"{level:g}" for level in levels)
        message(f"{what} added to find the largest {setting} that trains: {named}")

    def planned(self, plan: StudyPlan, todo: Sequence[RunSpec]) -> None:
        if not self._told_plan:
            stderr().print(plan.study.question, style="bold", markup=False)
        sentence(_what_runs(plan, todo))
        if self._told_plan:
            return
        self._told_plan = True
        if plan.study.max_seeds is not None:
            message(f"Seeds are added until it is settled, at most {plan.study.max_seeds}.")
        for note in plan_notes(plan):
            sentence(note)

    def looked(self, num_seeds: int, standing: str) -> None:
        sentence(f"{num_seeds} seeds: {standing}")

    def concluded(self, result: StudyResult) -> None:
        print_result(result, self.format)

    def published(self, done: int, total: int) -> None:
        from rich.progress import Progress

        if self._publishing is None:
            console = stderr()
            self._publishing = Progress(console=console, transient=True, disable=not console.is_terminal)
            self._publishing.add_task("publishing on W&B", total=total)
            self._publishing.start()
        self._publishing.update(self._publishing.task_ids[0], completed=done)
        if done == total:
            self._publishing.stop()
            self._publishing = None

    def told(self, text: str) -> None:
        message(text)


def plan_notes(plan: StudyPlan) -> list[str]:
    """What one should know of a plan before it trains: how it was fitted, whether it can reach a verdict, what may be added."""
    from bnexp.comparison.reach import out_of_reach

    reach = out_of_reach(plan.study, len(resolve_seeds(plan.study.seeds)))
    return [note for note in (plan.note, reach, what_is_added(plan)) if note]


def what_is_added(plan: StudyPlan) -> str:
    """How many levels and runs may follow those that are planned; empty if none may."""
    from bnexp.plan.grid import most_added

    if plan.study.refine.ratio is None:
        return ""
    ((name, levels),) = plan.study.factors.items()
    if plan.added:
        what = "1 level" if len(plan.added) == 1 else f"{len(plan.added)} levels"
        return f"{plan.study.name}: {what} of {name} added before, to find the largest that trains; more may follow."
    usual, most = most_added(plan.study, sorted(map(float, levels)))
    if not most:
        return ""
    each = len(plan.study.arms) * len(resolve_seeds(plan.study.seeds))
    about = f"about {usual}, if the seeds of an arm agree, and " if usual < most else ""
    return (
        f"{plan.study.name}: levels of {name} are added until the largest that trains is known to within a factor of "
        f"{plan.study.refine.ratio:g}: {about}at most {most}, each with {each} runs."
    )


def _what_runs(plan: StudyPlan, todo: Sequence[RunSpec]) -> str:
    """One line on the runs of a study: how many, of which arms, how many are finished, and the time that the rest takes."""
    from bnexp.cli.studies import times
    from bnexp.plan.spec import unique
    from bnexp.run.forecast import estimate_text, with_added
    from bnexp.tracking.store import Store

    own = unique(plan.specs)
    first = unique(plan.runs.pretraining.specs) if plan.runs.pretraining else []
    num_known = len(unique([*first, *own])) - len(todo)
    known = f", {num_known} finished before" if num_known else ""
    time_left = estimate_text(with_added(todo, plan.study, plan.added), Store(), begun=True)
    after = f", after {len(first)} that they start from" if first else ""
    read = f", {len(plan.specs)} readings" if len(own) < len(plan.specs) else ""
    product = ", ".join(plan.study.arms) + times(replace(plan.study, seeds=plan.seeds))
    what = f"{len(own)} run{'s' * (len(own) != 1)}{read}: {product}"
    return f"{what}{after}{known}{time_left}; study {plan.study.name}-{plan.study_id}"
