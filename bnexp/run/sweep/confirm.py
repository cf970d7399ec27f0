"""Trains the best points of a sweep again, with seeds that it has not used: the best of many is better by luck.

The best point of each norm is among them. So a sweep over norms says whether batch norm helps when each has its best settings.
"""

from __future__ import annotations

from bnexp.comparison.sweep.record import Confirmed, SweepRecord, Trial
from bnexp.data.shown import Prepared
from bnexp.plan.sweep.points import SweepPlan
from bnexp.run import runner
from bnexp.run.sweep.bring import train_and_bring
from bnexp.run.sweep.earlier import merged
from bnexp.run.sweep.listener import Listener
from bnexp.tracking.store import Store
from bnexp.tracking.wandb.session import WandbSession


def confirm_best(
    plan: SweepPlan,
    record: SweepRecord,
    num_points: int,
    num_seeds: int,
    store: Store,
    prepared: Prepared,
    listener: Listener,
    wandb: WandbSession,
) -> Confirmed | None:
    """Train the best points again.

    Args:
        plan: the sweep.
        record: its points.
        num_points: how many of the best. The best of each norm that is not among them is added.
        num_seeds: with how many seeds, those that follow the largest seed of the sweep.
        store: where runs are recorded.
        prepared: the data sets that the command has prepared so far.
        listener: is told of it.
        wandb: W&B's session of the sweep.

    Returns:
        These points and those that earlier commands trained again; None if there are none.
    """
    best = chosen(record, num_points)
    if not best or num_seeds < 1:
        return record.confirmed
    first = max(plan.seeds) + 1
    seeds = list(range(first, first + num_seeds))
    specs = {trial.number: plan.specs(trial.params, seeds) for trial in best}
    every = [spec for own in specs.values() for spec in own]
    todo = runner.unfinished(every, store, prepared)
    listener.confirming(best, seeds, todo)
    train_and_bring(every, todo, store, prepared, listener, wandb)
    run_ids = {str(number): [spec.run_id for spec in own] for number, own in specs.items()}
    return merged(Confirmed([trial.number for trial in best], seeds, run_ids), record.confirmed)


def chosen(record: SweepRecord, num_points: int) -> list[Trial]:
    """The best points, and after them the best one of each norm that none of them has; none if none are asked for."""
    ranked = record.ranked()
    best, others = ranked[:num_points], ranked[num_points:] if num_points else []
    norms = {trial.norm for trial in best}
    for trial in others:
        if trial.norm not in norms:
            norms.add(trial.norm)
            best.append(trial)
    return best
