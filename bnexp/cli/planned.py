"""The runs of a study as ``--dry-run`` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnexp.plan.compose import StudyPlan
    from bnexp.plan.spec import RunSpec
    from bnexp.tracking.store import Store


def planned_runs(plan: StudyPlan) -> list[RunSpec]:
    """Every run in the order of training: those that tune (not what extends the grid), those that others start from, and the
    study's own."""
    from bnexp.plan.spec import RunSpec, unique
    from bnexp.plan.study import tuning_jobs

    grid = sorted(plan.study.tune.grid)
    batches = [*(plan.batch(tuning_jobs(plan.study, grid)).phases if grid else ()), *plan.runs.phases]
    return unique([RunSpec(config) for batch in batches for config in batch.configs])


def planned_rows(plan: StudyPlan, store: Store) -> list[dict[str, Any]]:
    """A row a planned run. What a tuned run will be, and so its id, is open until the tuning has chosen."""
    specs = planned_runs(plan)
    finished = store.finished([spec.run_id for spec in specs])
    names = dict.fromkeys(name for spec in specs for name in spec.levels)
    rows = []
    for spec in specs:
        levels = {name: spec.levels.get(name) for name in names}
        state = "finished" if spec.run_id in finished else "to train"
        row = {"run": spec.run_id, "arm": spec.arm, **levels, "seed": spec.seed, "state": state}
        if plan.study.tune.grid and spec.config.study.id:
            row |= {"run": None, plan.study.tune.setting: "tuned", "state": "after tuning"}
        rows.append(row)
    return rows
