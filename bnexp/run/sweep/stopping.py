"""When a sweep stops runs: hyperband's brackets and median stopping.

A run is compared only with runs that began before it, so the answers depend neither on the speed nor on the number of workers,
and an interrupted sweep that goes on stops the same runs. If an earlier run trains at the same time and is not so far yet, the
answer waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

from bnexp.comparison.sweep.record import Trial
from bnexp.metrics import EpochMetrics, Record, RunFailed, RunFinished, RunStopped
from bnexp.plan.spec import RunSpec
from bnexp.plan.sweep.file import EarlyTerminate
from bnexp.plan.sweep.metric import Metric
from bnexp.run.cohorts import singles
from bnexp.tracking.store import Store

LEAST_RUNS = 3  # earlier runs that a median is taken of


@dataclass
class Rule:
    """A rule, and what it has seen.

    Args:
        by: id of the sweep.
        stops: the rule of the sweep file.
        metric: what runs are compared by.
        most: the largest number of epochs of a run.
        order: the ids of all runs so far, in the order in which they begin.
        ended: runs that train no more.
        seen: run -> epoch -> value.
    """

    by: str
    stops: EarlyTerminate
    metric: Metric
    most: int
    order: list[str]
    ended: set[str] = field(default_factory=set)
    seen: dict[str, dict[int, float]] = field(default_factory=dict)

    @property
    def epochs(self) -> Container[int]:
        """After which epochs runs are compared."""
        return self.stops.brackets if self.stops.kind == "hyperband" else range(self.stops.min_iter, self.most)

    def record(self, record: Record) -> None:
        """Take notice of a record."""
        if isinstance(record, EpochMetrics):
            value = record.metrics.get(self.metric.name, math.nan)
            self.seen.setdefault(record.run_id, {})[record.epoch] = value
        elif isinstance(record, RunFinished | RunStopped | RunFailed):
            self.ended.add(record.run_id)

    def decide(self, run_id: str, epoch: int, *, wait: bool) -> bool | None:
        """Whether a run stops after an epoch; see ``run.stopping.Stopping``."""
        earlier = self.order[: self.order.index(run_id)]
        behind = [other for other in earlier if other not in self.ended and epoch not in self.seen.get(other, {})]
        if behind and wait:
            return None
        others = [self.seen[other] for other in earlier if epoch in self.seen.get(other, {})]
        if self.stops.kind == "hyperband":
            return self._outside_bracket(self.seen[run_id][epoch], [values[epoch] for values in others])
        return self._below_median(self.seen[run_id], others, epoch)

    def _outside_bracket(self, own: float, others: Sequence[float]) -> bool:
        """Hyperband: whether a value is worse than that of about the best 1/eta of the runs that came so far.

        Of n runs, this one included, the best ``int(n / eta) + 1`` go on, as W&B counts them; ``ceil(n / eta)`` if strict.
        """
        n = len(others) + 1
        going_on = math.ceil(n / self.stops.eta) if self.stops.strict else int(n / self.stops.eta) + 1
        better = sum(self.metric.is_better(other, own) for other in others)
        return better >= going_on

    def _below_median(self, own: dict[int, float], others: Sequence[dict[int, float]], epoch: int) -> bool:
        """Whether the best value so far is worse than the median of the others' means so far (Golovin et al. 2017, "Google
        Vizier", section 3.2.1).
        """
        means = [fmean(value for e, value in values.items() if e <= epoch) for values in others]
        means = [mean for mean in means if not math.isnan(mean)]
        if len(means) < LEAST_RUNS:
            return False
        known = [value for value in own.values() if not math.isnan(value)]
        best = (max(known) if self.metric.goal == "maximize" else min(known)) if known else math.nan
        return self.metric.is_better(median(means), best)


def rule_of(
    stops: EarlyTerminate | None,
    metric: Metric,
    sweep_id: str,
    before: Sequence[Trial],
    specs: Sequence[RunSpec],
    store: Store,
) -> Rule | None:
    """The rule for the next runs of a sweep, which knows the recorded ones.

    Args:
        stops: the rule of the sweep file; None: nothing is stopped.
        metric: what runs are compared by.
        sweep_id: of the sweep.
        before: the points of earlier rounds.
        specs: the runs of this round, those that are recorded already included.
        store: where runs are recorded.
    """
    if stops is None:
        return None
    order = [run_id for trial in before for run_id in trial.run_ids]
    order += [spec.run_id for cohort in singles(specs) for spec in cohort]
    order = list(dict.fromkeys(order))
    rule = Rule(sweep_id, stops, metric, max(spec.config.train.epochs for spec in specs), order)
    rule.ended.update(run_id for trial in before for run_id in trial.run_ids)
    for run_id, record in store.records(order).items():
        ours = record.stopped is not None and record.stopped.by == sweep_id
        if record.finished or ours:
            rule.ended.add(run_id)
            rows = record.metrics(step_losses=False)
            rule.seen[run_id] = {int(row["epoch"]): row.get(metric.name, math.nan) for row in rows if "epoch" in row}
    return rule


def rule_text(stops: EarlyTerminate | None) -> str:
    """The rule in words; empty without one."""
    if stops is None:
        return ""
    if stops.kind == "median":
        return f"median stopping from epoch {stops.min_iter} on"
    some = ", ".join(map(str, stops.brackets[:4])) + (", ..." if len(stops.brackets) > 4 else "")
    return f"hyperband after epochs {some} (eta {stops.eta:g}{', strict' if stops.strict else ''})"
