"""Tuning: each cell of a study gets its own best value of one key, chosen on validation before the study's runs train.

All cells try the same values with the same seeds, so the search is equally long for each. No seed is one of the study's, so the
runs that choose a value do not judge it. If a best value lies on the grid's edge, the grid grows there for all cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bnexp.config.schema import ConfigError
from bnexp.data.shown import Prepared
from bnexp.plan.expand import Batch, StudyPlan
from bnexp.plan.grid import is_allowed, next_level
from bnexp.plan.spec import RunSpec
from bnexp.plan.study import Choice, tuned_cells, tuning_jobs, with_linear_rule
from bnexp.run.runner import objective, unfinished
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.store import Store


def tune(plan: StudyPlan, store: Store, train: Callable[[Batch], Any], prepared: Prepared | None = None) -> StudyPlan:
    """Choose the best value of ``study.tune.setting`` for each cell of a study.

    Args:
        plan: the study, expanded.
        store: where the tuning runs are recorded.
        train: is called with runs that have no record yet, and returns when each is recorded or has failed.
        prepared: the data sets that the command has prepared so far; None if it has prepared none.

    Returns:
        The plan with the chosen values in its runs; the same plan if the study has no grid.

    Raises:
        ConfigError: a tuning run left no record.
    """
    tune = plan.study.tune
    if not tune.grid:
        return plan
    grid = sorted(tune.grid)
    for extension in range(tune.extensions + 1):
        batch = plan.batch(tuning_jobs(plan.study, grid))
        for phase in batch.phases:
            if todo := unfinished(phase.specs, store, prepared):
                train(phase.only({spec.run_id for spec in todo}))
        choices = choose(plan, grid, batch, store)
        wider = extended(grid, choices)
        if wider == grid or extension == tune.extensions:
            break
        grid = wider
    return plan.with_choices(with_linear_rule(plan.study, choices))


def choose(plan: StudyPlan, grid: Sequence[float], batch: Batch, store: Store) -> list[Choice]:
    """The best value of the grid for each cell: the one with the highest mean validation accuracy of the last epoch.

    Args:
        plan: the study, expanded.
        grid: values tried, ascending. Of equally good values the smaller is chosen.
        batch: the tuning runs, in the order of ``tuning_jobs``.
        store: where they are recorded.

    Raises:
        ConfigError: a tuning run left no record.
    """
    accuracies = np.array([_accuracy(spec, store) for spec in batch.specs])
    found = tuned_cells(plan.study)
    means = accuracies.reshape(len(found), len(grid), len(plan.study.tune.seeds)).mean(2)
    choices = []
    for cell, row in zip(found, means.tolist(), strict=True):
        best = int(np.argmax(row))  # the first of equal ones
        by_value = dict(zip(grid, row, strict=True))
        choices.append(Choice(cell.arm, cell.levels, plan.study.tune.setting, grid[best], by_value, best in (0, len(grid) - 1)))
    return choices


def _accuracy(spec: RunSpec, store: Store) -> float:
    """Validation accuracy of the last epoch of a recorded run. Raises ConfigError if the run left no record."""
    run = store.find(spec.run_id)
    if run is None:
        failed = RecordedRun(store.run_path(spec)).failure
        raise ConfigError(
            f"study {spec.study} cannot choose a value: its tuning run {spec.run_id} ({spec.label}) "
            f"{f'failed: {failed}' if failed else 'is not recorded'}"
        )
    return objective(run)


def extended(grid: Sequence[float], choices: Sequence[Choice]) -> list[float]:
    """The grid with one more value beyond each end that is the best value of some cell.

    The new value continues the ratio of the two before it. An end stays as it is if the key does not allow the new value.

    Args:
        grid: values tried, ascending.
        choices: the best value of each cell.
    """
    best, setting = {choice.value for choice in choices}, choices[0].setting
    below = [next_level(grid[1], grid[0])] if grid[0] in best else []
    above = [next_level(grid[-2], grid[-1])] if grid[-1] in best else []
    return [*(v for v in below if is_allowed(setting, v)), *grid, *(v for v in above if is_allowed(setting, v))]
