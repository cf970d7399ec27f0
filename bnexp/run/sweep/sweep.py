"""Runs a sweep from its file to the best setting: ``bnexp sweep`` without printing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bnexp.comparison.sweep.record import SweepRecord
from bnexp.comparison.sweep.result import SweepResult, conclude
from bnexp.config.schema import ConfigError, refuse_text
from bnexp.config.validate import MAX_RUNS
from bnexp.plan.session import session
from bnexp.plan.sweep.file import load_file
from bnexp.plan.sweep.points import PlannedPoint, SweepPlan, plan_sweep
from bnexp.run.pool_server import prepare_workers
from bnexp.run.sweep.defaults import CONFIRMED, FRESH_SEEDS
from bnexp.run.sweep.listener import Listener
from bnexp.run.sweep.rounds import Rounds
from bnexp.run.sweep.search import search_of
from bnexp.tracking.initial import resolve_starts
from bnexp.tracking.store import Store


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
        confirm: how many of the best points are trained again with fresh seeds, besides the best point of each norm;
            0: none.
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
        rounds = Rounds(plan, store, listener, num_points(plan, count), at_once, command or f"bnexp sweep {name}")
        with rounds.published():
            try:
                rounds.run()
                rounds.confirm(confirm, fresh_seeds)
            except KeyboardInterrupt:
                if any(trial.state != "missing" for trial in rounds.record.trials):
                    listener.concluded(conclude(rounds.record, store))
                raise
            return _concluded(rounds.record, store, listener, report)


def _concluded(record: SweepRecord, store: Store, listener: Listener, report: bool) -> SweepResult:
    """What a whole sweep found, told and written."""
    result = conclude(record, store)
    listener.concluded(result)
    if report:
        from bnexp.report.sweep.page import write

        for line in write(result):
            listener.told(line)
    return result


def plan_points(
    name: str, overrides: Sequence[str], *, count: int | None, seeds: int | None, search_seed: int
) -> tuple[SweepPlan, list[PlannedPoint]]:
    """The points of a sweep with their runs, without training any. Those of ``bayes`` are only the first ones.

    Args and errors are those of ``run_sweep``.
    """
    with session(resolve_starts(list(overrides), Store())) as hydra:
        plan = plan_sweep(hydra, load_file(name), seeds, search_seed)
        most = num_points(plan, count)
        points = search_of(plan).ask(most if plan.file.method != "bayes" else 1)
        return plan, [plan.planned(number, point) for number, point in enumerate(points, 1)]


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
