"""Runs a sweep from its file to the best setting: ``bnexp sweep`` without printing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bnexp.comparison.sweep.record import Axis, SweepRecord, Trial, load, sweep_folder
from bnexp.comparison.sweep.result import SweepResult, conclude
from bnexp.config.schema import ConfigError, refuse_text
from bnexp.config.validate import MAX_RUNS
from bnexp.data.download import DataError
from bnexp.data.shown import Prepared
from bnexp.plan.session import session
from bnexp.plan.spec import RunSpec
from bnexp.plan.sweep.file import load_file
from bnexp.plan.sweep.points import Point, SweepPlan, plan_sweep
from bnexp.run import runner
from bnexp.run.arrange import arrange, prepare_workers
from bnexp.run.sweep.confirm import confirm_best
from bnexp.run.sweep.listener import Listener
from bnexp.run.sweep.search import search_of
from bnexp.run.sweep.stopping import rule_of, rule_text
from bnexp.run.sweep.trials import trial_of
from bnexp.tracking.initial import resolve_starts
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.store import Store

CONFIRMED, FRESH_SEEDS = 3, 6  # points that are trained again, and the seeds of each: with six, a pair can be told apart
LEAST_TRIALS_AT_ONCE = 8  # that bayes chooses for a GPU, where a cohort costs little more than a run


def run_sweep(
    name: str,
    overrides: Sequence[str] = (),
    *,
    count: int | None = None,
    seeds: int | None = None,
    search_seed: int = 0,
    at_once: int | None = None,
    confirm: int = CONFIRMED,
    fresh_seeds: int = FRESH_SEEDS,
    listener: Listener | None = None,
    report: bool = True,
    store: Store | None = None,
    command: str = "",
) -> SweepResult:
    """Run a hyperparameter sweep on this machine. Runs that are recorded already are not repeated.

    Args:
        name: of a sweep file, such as ``lr_norm``, or the path of one. Any W&B sweep file whose parameters are keys of bnexp.
        overrides: Hydra overrides that all runs share, such as ``["data=digits"]``. One of a searched parameter replaces its
            values.
        count: largest number of points; None: ``run_cap`` of the file.
        seeds: number of seeds that each point trains with; None: those of the file, else one.
        search_seed: of the draws of ``random`` and ``bayes``.
        at_once: how many points ``bayes`` chooses before it looks at results again; None: as many as fill the machine.
        confirm: how many of the best points are trained again with fresh seeds; 0: none.
        fresh_seeds: with how many.
        listener: is told how the sweep goes; None if nobody is.
        report: whether to write ``report.html`` beside the sweep's record.
        store: where runs are recorded; None: ``BNEXP_RUNS_DIR`` or its default.
        command: the command line that runs it again, for the record.

    Returns:
        ``result.answer`` (one sentence), ``result.best`` (its parameters), ``result.record.trials``.

    Raises:
        ConfigError: the file or an override is not possible; nothing has trained.
        DataError: the data set is out of reach.
    """
    refuse_text("overrides", overrides, "data=digits")
    store, listener = store or Store(), listener or Listener()
    file = load_file(name)
    prepare_workers()
    with session(resolve_starts(list(overrides), store)) as hydra:
        plan = plan_sweep(hydra, file, seeds, search_seed)
        sweep = _Running(plan, store, listener, count, at_once, command or f"bnexp sweep {name}")
        try:
            sweep.run()
            sweep.confirm(confirm, fresh_seeds)
        except KeyboardInterrupt:
            if any(trial.state != "missing" for trial in sweep.record.trials):
                listener.concluded(conclude(sweep.record, store))
            raise
    result = conclude(sweep.record, store)
    listener.concluded(result)
    if report:
        from bnexp.report.sweep.page import write

        for line in write(result):
            listener.told(line)
    return result


def plan_points(
    name: str, overrides: Sequence[str], *, count: int | None, seeds: int | None, search_seed: int
) -> tuple[SweepPlan, list[tuple[Point, list[RunSpec]]]]:
    """The points of a sweep with their runs, without training any. Those of ``bayes`` are only the first ones.

    Args and errors are those of ``run_sweep``.
    """
    with session(resolve_starts(list(overrides), Store())) as hydra:
        plan = plan_sweep(hydra, load_file(name), seeds, search_seed)
        most = num_points(plan, count)
        points = search_of(plan).ask(most if plan.file.method != "bayes" else 1)
        return plan, [(point, plan.specs(point)) for point in points]


def num_points(plan: SweepPlan, count: int | None) -> int:
    """The largest number of points. Raises ConfigError if there is no end of them, or if they are too many to be planned."""
    most = min((number for number in (count, plan.file.run_cap) if number is not None), default=None)
    if most is None and plan.file.method != "grid":
        raise ConfigError(
            f"{plan.file.name}: method: {plan.file.method} has no end by itself; give a number of points: --count 20, or "
            "run_cap: 20 in the file."
        )
    if plan.file.method == "grid":
        whole = math.prod(len(item.grid()) for item in plan.parameters.values())
        most = min(most or whole, whole)
    assert most is not None
    if (runs := most * len(plan.seeds)) > MAX_RUNS:
        raise ConfigError(
            f"{plan.file.name} makes {runs:,} runs: allowed are at most {MAX_RUNS:,}; give fewer values, or --count 100."
        )
    return most


class _Running:
    """A sweep that is running."""

    def __init__(
        self, plan: SweepPlan, store: Store, listener: Listener, count: int | None, at_once: int | None, command: str
    ) -> None:
        self.plan, self._store, self._listener = plan, store, listener
        self._most = num_points(plan, count)
        self._prepared = Prepared()
        folder = sweep_folder(store, plan.file.name, plan.sweep_id)
        self._earlier = _earlier(folder)
        self.record = SweepRecord(
            folder=folder,
            name=plan.file.name,
            sweep_id=plan.sweep_id,
            description=plan.file.description,
            method=plan.file.method,
            metric=plan.metric.name,
            goal=plan.metric.goal,
            axes=[Axis(item.name, item.is_log, list(item.values)) for item in plan.parameters.values()],
            stopping=rule_text(plan.file.early_terminate),
            overrides=plan.overrides,
            seeds=plan.seeds,
            search_seed=plan.search_seed,
            at_once=at_once or (self._earlier.at_once if self._earlier else self._filling()),
            command=command,
        )

    def _filling(self) -> int:
        """How many points keep the machine busy."""
        first = self.plan.specs({name: item.at(0.5) for name, item in self.plan.parameters.items()})
        arranged = arrange(first * 2)
        per_point = max(1, len(first))
        return max(1, LEAST_TRIALS_AT_ONCE if arranged.accelerated else -(-arranged.workers // per_point))

    def run(self) -> None:
        """Try points until there are no more, or the target is reached."""
        search, metric = search_of(self.plan), self.plan.metric
        stepwise = self.plan.file.method == "bayes" or metric.target is not None
        while (left := self._most - len(self.record.trials)) > 0:
            points = search.ask(min(left, self.record.at_once) if stepwise else left)
            if not points:
                break
            for trial in self._try(points):
                search.tell(trial)
            if any(trial.whole and metric.reached(trial.value) for trial in self.record.trials):
                self._listener.told(f"{metric.name} has reached the target of {metric.target:g}; no new point is tried.")
                break

    def _try(self, points: Sequence[Point]) -> list[Trial]:
        """Train the runs of some points that have no record yet."""
        before = self.record.trials
        specs = [self.plan.specs(point) for point in points]
        ended = self._ended(len(before), points, specs, {})
        self._save([*before, *ended])
        decided = {run_id for trial in ended for run_id in trial.stopped}
        wanted = [spec for own in specs for spec in own if spec.run_id not in decided]
        todo = runner.unfinished(wanted, self._store, self._prepared)
        self._listener.planned(self.record, points, todo)
        every = [spec for own in specs for spec in own]
        rule = rule_of(self.plan.file.early_terminate, self.plan.metric, self.plan.sweep_id, before, every, self._store)
        results: runner.Results = {}
        try:
            results = runner.run(todo, self._store, self._prepared, rule) if todo else {}
        except (ConfigError, DataError):
            if self._earlier is None and not before:
                self.record.forget()
            raise
        except KeyboardInterrupt:
            self._save([*before, *self._ended(len(before), points, specs, {})])
            raise
        ended = self._ended(len(before), points, specs, results)
        self._save([*before, *ended])
        self._listener.tried(self.record)
        return ended

    def _ended(
        self, num_before: int, points: Sequence[Point], specs: Sequence[Sequence[RunSpec]], results: runner.Results
    ) -> list[Trial]:
        """What came of some points so far."""
        numbered = enumerate(zip(points, specs, strict=True), num_before + 1)
        return [
            trial_of(number, point, own, self.plan.metric.name, self._store, self.plan.sweep_id, results)
            for number, (point, own) in numbered
        ]

    def confirm(self, num_points: int, num_seeds: int) -> None:
        """Train the best points again with fresh seeds."""
        confirmed = confirm_best(self.plan, self.record, num_points, num_seeds, self._store, self._prepared, self._listener)
        if confirmed is not None:
            self.record = replace(self.record, confirmed=confirmed)
            self.record.save()

    def _save(self, trials: list[Trial]) -> None:
        self.record = replace(self.record, trials=trials)
        self.record.save()


def _earlier(folder: Path) -> SweepRecord | None:
    """The record of the same sweep from an earlier command; None without a whole one."""
    try:
        return load(folder)
    except DamagedRecord:
        return None
