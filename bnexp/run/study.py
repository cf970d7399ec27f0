"""Runs a study from its name to its verdict, its report and its group on W&B: ``bnexp study`` without printing."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic

from bnexp.comparison.looks import look_at
from bnexp.comparison.prospects import standing
from bnexp.comparison.record import StudyRecord, from_plan
from bnexp.comparison.result import Status, StudyResult
from bnexp.config.schema import ConfigError, TrackConfig, refuse_text
from bnexp.data.download import DataError
from bnexp.data.shown import Prepared
from bnexp.plan.expand import Batch, StudyPlan, expand
from bnexp.plan.session import Session, session
from bnexp.plan.spec import RunSpec, unique
from bnexp.plan.study import Choice, texts_of
from bnexp.run import runner
from bnexp.run.arrange import arrange
from bnexp.run.pool_server import prepare_workers
from bnexp.run.refining import next_levels, recalled
from bnexp.run.seeds import Clock, growing, next_number, parse_time, why_stop
from bnexp.run.tuning import tune
from bnexp.tracking.initial import resolve_starts
from bnexp.tracking.store import Store
from bnexp.tracking.wandb.access import requested_mode

Launch = Callable[[Sequence[Batch]], None]  # trains runs, phase by phase; returns when each is recorded or has failed


class Listener:
    """Is told how a study goes, so that it can show it. Each method does nothing until a subclass overrides it."""

    def tuning(self, setting: str, num_runs: int) -> None:
        """``num_runs`` runs will train to choose values of ``setting``. More may follow, beyond the edge of the grid."""

    def tuned(self, choices: Sequence[Choice]) -> None:
        """These values were chosen."""

    def refining(self, setting: str, levels: Sequence[float]) -> None:
        """These levels of ``setting`` are added for all arms and seeds, to find the largest that trains."""

    def planned(self, plan: StudyPlan, todo: Sequence[RunSpec]) -> None:
        """The study is recorded, and the runs in ``todo`` are about to train."""

    def looked(self, num_seeds: int, standing: str) -> None:
        """The runs of ``num_seeds`` seeds are compared, and more will follow; ``standing`` says what is settled."""

    def concluded(self, result: StudyResult) -> None:
        """The runs are compared; the report follows. After Ctrl-C these are the runs that are recorded so far."""

    def published(self, done: int, total: int) -> None:
        """So many of the runs that W&B lacked are there now."""

    def told(self, text: str) -> None:
        """A sentence for the user: why no more seeds train, where the report is, or what is wrong with W&B."""


def run_study(
    name: str,
    overrides: Sequence[str] = (),
    *,
    until_settled: bool = False,
    max_seeds: int | None = None,
    time: str | None = None,
    listener: Listener | None = None,
    report: bool = True,
) -> StudyResult:
    """Run a controlled comparison and say what it shows. Runs that are recorded already are not repeated.

    Everything is recorded in ``BNEXP_RUNS_DIR`` (default ``./runs``), as by ``bnexp study``. Progress is shown on stderr.

    Args:
        name: name of a study file, such as ``batchnorm``; ``bnexp study`` lists them.
        overrides: Hydra overrides, such as ``["data=digits", "study.seeds=3"]``.
        until_settled: whether to add seeds until every deciding comparison is settled, from 6 on. The tests are then valid at
            every look.
        max_seeds: the largest number of seeds; None for 40. It implies ``until_settled``.
        time: how long seeds may be added, like ``"30m"``; None for any time. It implies ``until_settled``. A step that is not
            expected to fit is not begun.
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
        >>> result = bnexp.run_study("batchnorm", ["data=digits"], until_settled=True)
        >>> print(result.verdict, result.answer)
    """
    refuse_text("overrides", overrides, "data=digits")
    clock = Clock(None if time is None else parse_time(time))
    chosen = [*overrides, *growing(overrides, until_settled or time is not None, max_seeds)]
    return run_recorded(name, chosen, Store(), listener or Listener(), clock, report=report)[1]


def run_recorded(
    name: str,
    overrides: Sequence[str],
    store: Store,
    listener: Listener,
    clock: Clock | None = None,
    *,
    report: bool,
    at_most: int | None = None,
) -> tuple[StudyRecord, StudyResult]:
    """:func:`run_study` for callers that have a store; the study's record and its result.

    Args:
        name: name of a study file.
        overrides: Hydra overrides.
        store: where runs and studies are recorded.
        listener: is told how the study goes.
        clock: how much time there is to add seeds; None: any time.
        report: whether to write ``report.html``.
        at_most: a study that adds seeds stops at so many for now; None: at its own largest number.
    """
    prepare_workers()
    with session(resolve_starts([f"study={name}", *overrides], store)) as hydra:
        study = _Running(hydra, overrides, store, listener)
        record, result = study.until_settled(clock or Clock(), at_most) if study.grows else study.once()
        listener.concluded(result)
    track = study.track
    publishes = requested_mode(track.wandb) != "disabled"
    if report or publishes:
        from bnexp.report.publish import Logging, publish

        wandb = Logging(track, again=study.is_new, step=listener.published) if publishes else None
        if wandb is not None and wandb.session.disabled and not report:  # by W&B's own settings, or because it is broken
            told = wandb.session.messages
        else:
            told = publish(record, result, store, wandb)
        for line in told:
            listener.told(line)
    return record, result


class _Running:
    """A study that is running: plans, trains and compares.

    Args:
        hydra: the session with its overrides.
        overrides: those besides ``study=NAME``.
        store: where runs and studies are recorded.
        listener: is told how the study goes.
    """

    def __init__(self, hydra: Session, overrides: Sequence[str], store: Store, listener: Listener) -> None:
        self._overrides, self._store, self._listener = overrides, store, listener
        self._prepared = Prepared()
        plan = expand(hydra.loader, hydra.overrides)
        self._launch = _launch(hydra, plan, store, self._prepared)
        self._plan = self._tuned(recalled(plan, store))
        self.is_new = False  # something trained, or the study was not concluded before

    @property
    def grows(self) -> bool:
        """Whether seeds are added until the study is settled."""
        return self._plan.study.max_seeds is not None

    @property
    def track(self) -> TrackConfig:
        """How the study goes to W&B."""
        return self._plan.configs[0].track

    def once(self) -> tuple[StudyRecord, StudyResult]:
        """Train all planned runs, then compare them."""
        return self._advance(len(self._plan.seeds))

    def until_settled(self, clock: Clock, at_most: int | None) -> tuple[StudyRecord, StudyResult]:
        """Add seeds until every deciding comparison is settled, none can be, or the largest number or the time is reached."""
        most = len(self._plan.seeds)
        stop_at = min(most, at_most or most)
        trained = min(self._num_finished(), stop_at)  # only seeds that train tell how long one takes
        now = max(next_number(0, most, 1), trained)
        while True:
            start = monotonic()
            record, result = self._advance(now)
            clock.trained(monotonic() - start, now - trained)
            trained = now
            look = look_at(record.earlier, most, unfinished=False)
            if why := why_stop(result, look, now, most):
                self._listener.told(why)
                return record, result
            if now >= stop_at:
                return record, result
            following = next_number(now, stop_at, self._fill())
            if not clock.allows(following - now):
                self._listener.told(f"Stopped with {now} seeds: the time is over. {standing(result.deciding, look)}.")
                return record, result
            self._listener.looked(now, standing(result.deciding, look))
            now = following

    def _num_finished(self) -> int:
        """How many seeds have all of their runs recorded: those before the first seed that lacks one."""
        todo = {spec.seed for spec in runner.unfinished(self._plan.specs, self._store, self._prepared)}
        return next((n for n, seed in enumerate(self._plan.seeds) if seed in todo), len(self._plan.seeds))

    def _fill(self) -> int:
        """How many seeds keep the machine busy."""
        one = self._plan.first(1).specs
        return math.ceil(arrange(one).workers / len(unique(one)))

    def _advance(self, num_seeds: int) -> tuple[StudyRecord, StudyResult]:
        """Train the runs of the first seeds that have no record yet, add levels and train those, until none is to add; compare.

        After Ctrl-C the runs that are there are compared, before KeyboardInterrupt goes on.
        """
        record = self._train(self._plan.first(num_seeds))
        while levels := next_levels(self._plan.first(num_seeds), self._store):
            self._listener.refining(next(iter(self._plan.study.factors)), levels)
            self._plan = self._tuned(self._plan.with_levels(levels))
            record = self._train(self._plan.first(num_seeds))
        return record, _concluded(record, self._store)

    def _train(self, plan: StudyPlan) -> StudyRecord:
        """Record the study with these runs, and train those that have no record yet."""
        record = from_plan(plan, self._overrides, self._store)
        was_concluded, is_first = record.concluded, not record.saved
        record.save()
        todo = runner.unfinished([spec for phase in plan.runs.phases for spec in phase.specs], self._store, self._prepared)
        self.is_new = self.is_new or bool(todo) or not was_concluded
        self._listener.planned(plan, todo)
        rest = [phase.only({spec.run_id for spec in todo}) for phase in plan.runs.phases]
        try:
            self._launch([phase for phase in rest if phase.jobs])
        except KeyboardInterrupt:
            result = _concluded(record, self._store)
            if any(outcome.status is not Status.missing for outcome in result.outcomes):
                self._listener.concluded(result)
            raise
        except (ConfigError, DataError):
            if is_first:
                record.forget()
            raise
        return record

    def _tuned(self, plan: StudyPlan) -> StudyPlan:
        """:func:`tune`, while the listener is told."""

        def train(batch: Batch) -> None:
            self._listener.tuning(plan.study.tune.setting, len(batch.jobs))
            self._launch([batch])

        tuned = tune(plan, self._store, train, self._prepared)
        if tuned.choices:
            self._listener.tuned(tuned.choices)
        return tuned


def _concluded(record: StudyRecord, store: Store) -> StudyResult:
    from bnexp.comparison.conclude import conclude  # scipy takes a second, which the runs need not wait for

    result = conclude(record, store)
    record.save_verdict(result)
    return result


def _load_the_end() -> None:
    """Load what follows the training. While worker processes load torch, this process has nothing else to do."""
    with suppress(Exception):  # it is loaded again where it is needed, and there an error is told
        import bnexp.comparison.conclude
        import bnexp.report.publish  # noqa: F401
        from bnexp.report import html

        html.load()


def _launch(hydra: Session, plan: StudyPlan, store: Store, prepared: Prepared) -> Launch:
    """How the study's runs are launched."""

    def together(phases: Sequence[Batch]) -> None:
        """Hand all runs to the runner, which lets those wait that start from others."""
        threading.Thread(target=_load_the_end, daemon=True).start()
        runner.run([spec for phase in phases for spec in phase.specs], store, prepared)

    def one_by_one(phases: Sequence[Batch]) -> None:
        """Have Hydra's launcher compose and run each job, maybe on another machine."""
        for phase in phases:
            hydra.launch(runner.run_job, plan.master, [texts_of(job) for job in phase.jobs])

    return together if plan.launcher == "cohort" else one_by_one
