"""Trains the runs that a sweep lacks, and brings those that it found recorded to W&B: its group there has all of them."""

from __future__ import annotations

from collections.abc import Sequence

from bnexp.data.shown import Prepared
from bnexp.plan.spec import RunSpec
from bnexp.run import runner
from bnexp.run.sweep.listener import Listener
from bnexp.run.sweep.stopping import Rule
from bnexp.tracking.store import Store
from bnexp.tracking.wandb.session import WandbSession


def train_and_bring(
    specs: Sequence[RunSpec],
    todo: Sequence[RunSpec],
    store: Store,
    prepared: Prepared,
    listener: Listener,
    wandb: WandbSession,
    rule: Rule | None = None,
) -> runner.Results:
    """Train runs of a sweep; what came of them.

    Args:
        specs: the runs.
        todo: those of them that have no record. The others may be W&B runs of another group only, or none.
        store: where runs are recorded.
        prepared: the data sets that the command has prepared so far.
        listener: is told what went wrong with W&B.
        wandb: W&B's session of the sweep.
        rule: which runs are stopped early; None: none.
    """
    results = runner.run(list(todo), store, prepared, rule, wandb) if todo else {}
    training = {spec.run_id for spec in todo}
    recorded = [spec for spec in specs if spec.run_id not in training]
    if recorded and not wandb.disabled:
        from bnexp.report.publish import bring_recorded

        for line in bring_recorded(recorded, store, wandb):
            listener.told(line)
    return results
