"""The rounds of a sweep: points are chosen, their runs train, and what came of them is recorded and told to the search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from bnexp.comparison.sweep.record import Axis, SweepRecord, Trial, sweep_folder
from bnexp.config.schema import ConfigError
from bnexp.data.download import DataError
from bnexp.data.shown import Prepared
from bnexp.plan.spec import RunSpec
from bnexp.plan.study import overrides_of
from bnexp.plan.sweep.points import PlannedPoint, Point, SweepPlan
from bnexp.run import runner
from bnexp.run.arrange import arrange
from bnexp.run.sweep.bring import train_and_bring
from bnexp.run.sweep.confirm import confirm_best
from bnexp.run.sweep.earlier import earlier_record, with_earlier
from bnexp.run.sweep.listener import Listener
from bnexp.run.sweep.search import search_of
from bnexp.run.sweep.stopping import rule_of, rule_text
from bnexp.run.sweep.trials import trial_of
from bnexp.tracking.store import Store
from bnexp.tracking.wandb.session import WandbSession

LEAST_TRIALS_AT_ONCE = 8  # that bayes chooses for a GPU, where a cohort costs little more than a run


class Rounds:
    """A sweep that is running.

    Args:
        plan: the sweep.
        store: where runs are recorded.
        listener: is told how it goes.
        most: the largest number of points.
        at_once: how many points ``bayes`` chooses before it looks at results again; None: as the record says, else as many as
            fill the machine.
        command: the command line that runs it again, for the record.

    Attributes:
        record: the sweep so far. What an earlier command has recorded stays in it.

    Raises:
        ConfigError: ``at_once`` is not that of the record, so other points would be chosen.
    """

    def __init__(self, plan: SweepPlan, store: Store, listener: Listener, most: int, at_once: int | None, command: str) -> None:
        self.plan, self._store, self._listener, self._most = plan, store, listener, most
        self._prepared, self._tried = Prepared(), list[Trial]()
        folder = sweep_folder(store, plan.file.name, plan.sweep_id)
        self._earlier = earlier_record(folder, plan.varied)
        example = plan.middle()
        self._wandb = WandbSession(example[0].config.track.wandb)
        self.record = SweepRecord(
            folder=folder,
            name=plan.file.name,
            sweep_id=plan.sweep_id,
            description=plan.file.description,
            method=plan.file.method,
            metric=plan.metric.name,
            goal=plan.metric.goal,
            axes=[Axis(item.name, item.is_log, list(item.values)) for item in plan.varied.values()],
            stopping=rule_text(plan.file.early_terminate),
            overrides=[*plan.overrides, *overrides_of(plan.constants)],
            seeds=plan.seeds,
            search_seed=plan.search_seed,
            at_once=self._at_once(at_once) or _filling(example),
            command=command,
        )

    def _at_once(self, asked: int | None) -> int | None:
        """How many points are chosen at once, by the record or the user; None if neither says it."""
        earlier = self._earlier
        if earlier is None or not earlier.trials:
            return asked
        if self.plan.file.method == "bayes" and asked not in (None, earlier.at_once):
            raise ConfigError(
                f"{earlier.name}-{earlier.sweep_id} chose {earlier.at_once} points at once so far; with {asked} it would "
                f"choose others than are recorded. Leave out --parallel {asked}, or begin another search: --search-seed "
                f"{self.plan.search_seed + 1}."
            )
        return asked or earlier.at_once

    def run(self) -> None:
        """Try points until there are no more, or the target is reached."""
        search, metric = search_of(self.plan), self.plan.metric
        stepwise = self.plan.file.method == "bayes" or metric.target is not None
        while (left := self._most - len(self._tried)) > 0:
            points = search.ask(min(left, self.record.at_once) if stepwise else left)
            if not points:
                break
            for trial in self._try(points):
                search.tell(trial)
            if any(trial.whole and metric.reached(trial.value) for trial in self._tried):
                self._listener.told(f"{metric.name} has reached the target of {metric.target:g}; no new point is tried.")
                break

    def _try(self, points: Sequence[Point]) -> list[Trial]:
        """Train the runs of some points that have no record yet."""
        planned = [self.plan.planned(number, point) for number, point in enumerate(points, len(self._tried) + 1)]
        every = [spec for item in planned for spec in item.specs]
        try:
            ended = self._note(planned, self._train(every, self._note(planned, {})))
        except (ConfigError, DataError):
            if self._earlier is None and not self._tried:
                self.record.forget()
            raise
        except KeyboardInterrupt:
            self._note(planned, {})
            raise
        self._tried += ended
        self._listener.tried(self.record)
        return ended

    def _train(self, specs: Sequence[RunSpec], known: Sequence[Trial]) -> runner.Results:
        """Train those of the runs of a round that have no record.

        Args:
            specs: all of its runs.
            known: its points, with what is recorded of them.
        """
        decided = {run_id for trial in known for run_id in trial.stopped}
        todo = runner.unfinished([spec for spec in specs if spec.run_id not in decided], self._store, self._prepared)
        self._listener.planned(self.record, known, todo)
        stops = self.plan.file.early_terminate
        rule = rule_of(stops, self.plan.metric, self.plan.sweep_id, self._tried, specs, self._store) if todo else None
        return train_and_bring(specs, todo, self._store, self._prepared, self._listener, self._wandb, rule)

    def _note(self, planned: Sequence[PlannedPoint], results: runner.Results) -> list[Trial]:
        """Record what came of the points of a round so far."""
        metric, sweep_id = self.plan.metric.name, self.plan.sweep_id
        trials = [trial_of(item, metric, self._store, sweep_id, results) for item in planned]
        earlier = earlier_record(self.record.folder, self.plan.varied)  # again: another process may work on it too
        self.record = with_earlier(replace(self.record, trials=[*self._tried, *trials]), earlier)
        self.record.save()
        return trials

    def confirm(self, num_points: int, num_seeds: int) -> None:
        """Train the best points again with fresh seeds."""
        confirmed = confirm_best(
            self.plan, self.record, num_points, num_seeds, self._store, self._prepared, self._listener, self._wandb
        )
        self.record = replace(self.record, confirmed=confirmed)
        self.record.save()

    @contextmanager
    def published(self) -> Iterator[None]:
        """Say at the end, also after an error, where W&B has the runs."""
        try:
            yield
        finally:
            said = len(self._wandb.messages)
            self._wandb.report()
            for line in self._wandb.messages[said:]:
                self._listener.told(line)


def _filling(example: list[RunSpec]) -> int:
    """How many points keep the machine busy.

    Args:
        example: the runs of one point.
    """
    arranged = arrange(example * 2)
    return max(1, LEAST_TRIALS_AT_ONCE if arranged.accelerated else -(-arranged.workers // len(example)))
