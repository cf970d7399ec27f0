"""Runs a study from its name to its verdict, its report and its group on W&B: ``bnexp study`` without printing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bnexp.comparison.record import StudyRecord, from_plan
from bnexp.comparison.result import StudyResult
from bnexp.config.schema import WandbConfig, refuse_text
from bnexp.data.shown import Prepared
from bnexp.plan.expand import Batch, StudyPlan, expand
from bnexp.plan.session import Session, session
from bnexp.plan.spec import RunSpec
from bnexp.plan.study import Choice, texts_of
from bnexp.run import runner
from bnexp.run.arrange import prepare_workers
from bnexp.run.tuning import tune
from bnexp.tracking.initial import resolve_starts
from bnexp.tracking.store import Store
from bnexp.tracking.wandb_session import WandbSession

Launch = Callable[[Sequence[Batch]], None]  # trains runs, phase by phase; returns when each is recorded or has failed


class Listener:
    """Is told how a study goes, so that it can show it. Each method does nothing until a subclass overrides it."""

    def tuning(self, setting: str, num_runs: int) -> None:
        """``num_runs`` runs will train to choose values of ``setting``. More may follow, beyond the edge of the grid."""

    def tuned(self, choices: Sequence[Choice]) -> None:
        """These values were chosen."""

    def planned(self, plan: StudyPlan, todo: Sequence[RunSpec]) -> None:
        """The study is recorded, and the runs in ``todo`` are about to train."""

    def concluded(self, result: StudyResult) -> None:
        """The runs are compared; the report follows."""

    def told(self, text: str) -> None:
        """A sentence for the user: where the report is, or what is wrong with W&B."""


def run_study(
    name: str, overrides: Sequence[str] = (), *, listener: Listener | None = None, report: bool = True
) -> StudyResult:
    """Run a controlled comparison and say what it shows. Runs that are recorded already are not repeated.

    Everything is recorded in ``BNEXP_RUNS_DIR`` (default ``./runs``), as by ``bnexp study``. Progress is shown on stderr.

    Args:
        name: name of a study file, such as ``batchnorm``; ``bnexp study`` lists them.
        overrides: Hydra overrides, such as ``["data=digits", "study.seeds=3"]``.
        listener: is told how the study goes; None if nobody is.
        report: whether to write ``report.html`` into ``NAME/study-<result.study_id>/`` of the records. If results go to W&B, it
            is written in any case.

    Returns:
        ``result.verdict``, ``result.answer`` (one sentence), ``result.comparisons`` (differences, intervals, p values;
        accuracies in percentage points) and more: ``help(bnexp.StudyResult)``. A run that failed raises nothing:
        ``result.outcomes`` has the status of each run, and ``result.unpaired`` says what is missing.

    Raises:
        ConfigError: the study cannot run with these overrides; nothing has trained.
        DataError: the data set is out of reach.

    Example:
        >>> result = bnexp.run_study("batchnorm", ["data=digits", "study.seeds=3"])
        >>> print(result.verdict, result.answer)
    """
    refuse_text("overrides", overrides, "data=digits")
    return run_recorded(name, overrides, Store(), listener or Listener(), report=report)[1]


def run_recorded(
    name: str, overrides: Sequence[str], store: Store, listener: Listener, *, report: bool
) -> tuple[StudyRecord, StudyResult]:
    """:func:`run_study` for callers that have a store; the study's record and its result."""
    record, wandb = _train(name, overrides, store, listener)
    from bnexp.comparison.conclude import conclude  # scipy and altair take seconds, which the runs need not wait for

    result = conclude(record, store)
    record.save_verdict(result)
    listener.concluded(result)
    if report or wandb is not None:
        from bnexp.report.publish import publish

        for line in publish(record, result, store, wandb):
            listener.told(line)
    return record, result


def _train(name: str, overrides: Sequence[str], store: Store, listener: Listener) -> tuple[StudyRecord, WandbConfig | None]:
    """Record a study's question, then train the runs that have no record yet.

    Returns:
        The study's record and its W&B settings; None in place of the settings if W&B is off or already has the study.
    """
    prepare_workers()
    with session(resolve_starts([f"study={name}", *overrides], store)) as hydra:
        prepared = Prepared()
        plan = expand(hydra.loader, hydra.overrides)
        launch = _launch(hydra, plan, store, prepared)
        plan = _tuned(plan, store, launch, prepared, listener)
        record = from_plan(plan, overrides, store)
        is_new = not record.concluded
        record.save()
        todo = runner.unfinished([spec for phase in plan.runs.phases for spec in phase.specs], store, prepared)
        listener.planned(plan, todo)
        rest = [phase.only({spec.run_id for spec in todo}) for phase in plan.runs.phases]
        launch([phase for phase in rest if phase.jobs])
    wandb = plan.configs[0].track.wandb
    return record, wandb if (is_new or todo) and not WandbSession(wandb).disabled else None


def _launch(hydra: Session, plan: StudyPlan, store: Store, prepared: Prepared) -> Launch:
    """How the study's runs are launched."""

    def together(phases: Sequence[Batch]) -> None:
        """Hand all runs to the runner, which lets those wait that start from others."""
        runner.run([spec for phase in phases for spec in phase.specs], store, prepared)

    def one_by_one(phases: Sequence[Batch]) -> None:
        """Have Hydra's launcher compose and run each job, maybe on another machine."""
        for phase in phases:
            hydra.launch(runner.run_job, plan.master, [texts_of(job) for job in phase.jobs])

    return together if plan.launcher == "cohort" else one_by_one


def _tuned(plan: StudyPlan, store: Store, launch: Launch, prepared: Prepared, listener: Listener) -> StudyPlan:
    """:func:`tune`, while the listener is told."""

    def train(batch: Batch) -> None:
        listener.tuning(plan.study.tune.setting, len(batch.jobs))
        launch([batch])

    plan = tune(plan, store, train, prepared)
    if plan.choices:
        listener.tuned(plan.choices)
    return plan
