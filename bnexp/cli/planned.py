"""``--dry-run``: the runs with their cohorts, and the cohorts with the time and memory that they will take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bnexp.cli.output import Format, message, print_rows, sentence, stdout

if TYPE_CHECKING:
    from bnexp.plan.expand import StudyPlan
    from bnexp.plan.spec import RunSpec
    from bnexp.tracking.store import Store


def print_plan(name: str, overrides: list[str], format: Format) -> None:
    """Print the runs of a study, and the time and memory that they will take."""
    from bnexp.cli.printed import plan_notes
    from bnexp.plan.expand import expand_study
    from bnexp.run.forecast import estimate_text, with_added
    from bnexp.run.refining import recalled
    from bnexp.tracking.initial import resolve_starts
    from bnexp.tracking.store import Store

    store = Store()
    plan = recalled(expand_study(resolve_starts([f"study={name}", *overrides], store)), store)
    rows, specs = planned_rows(plan, store), planned_runs(plan)
    message(f"{plan.study.name}-{plan.study_id}: {plan.study.question}")
    print_dry_run(rows, specs, store, format)
    todo = [spec for spec, row in zip(specs, rows, strict=True) if row["state"] != "finished"]
    for note in [*plan_notes(plan), *_power(plan, overrides, store)]:
        sentence(note)
    most = "at most " if plan.study.max_seeds is not None else ""
    message(f"{most}{len(rows)} runs, {len(todo)} to train{estimate_text(with_added(todo, plan.study, plan.added), store)}")


def _power(plan: StudyPlan, overrides: list[str], store: Store) -> list[str]:
    """What the study can see with its number of seeds; nothing for one that adds seeds until it is settled."""
    from bnexp.comparison.conclude import conclude
    from bnexp.comparison.reach import what_it_sees
    from bnexp.comparison.record import from_plan
    from bnexp.config.keys import metric_unit

    study = plan.study
    if study.max_seeds is not None:
        return []
    unit = metric_unit(study.metric)
    margin = study.margin or (plan.configs[0].data.margin if unit == "pp" else math.nan)
    known = not study.tune.grid and store.finished([spec.run_id for spec in plan.specs])
    recorded = conclude(from_plan(plan, overrides, store), store).comparisons if known else []
    return what_it_sees(study, len(plan.seeds), margin, unit, recorded)


def print_dry_run(rows: Sequence[dict[str, Any]], specs: Sequence[RunSpec], store: Store, format: Format) -> None:
    """Print the runs, and the cohorts of those that are about to train.

    A table or Markdown has one row per run, then one row per cohort. JSON and CSV have everything in the rows of the runs.
    Networks of the user's own are tried as before training.

    Args:
        rows: one per spec, with ``state``: ``to train`` for a run that is about to train.
        specs: the runs, in the same order.
        store: recorded runs, from which times are estimated.
        format: how they are printed.
    """
    from bnexp.data.own import look_for_files
    from bnexp.run.forecast import forecast, part_columns, part_rows
    from bnexp.run.own_networks import try_planned

    for data in {(spec.config.data.name, spec.config.data.root): spec.config.data for spec in specs}.values():
        look_for_files(data)
    todo = [spec for spec, row in zip(specs, rows, strict=True) if row["state"] == "to train"]
    parts = forecast(todo, store) if todo else []
    columns = part_columns(parts)
    names: tuple[str, ...] = ("cohort", "cohort_seconds", "cohort_bytes")
    if format in (Format.table, Format.md):
        names = ("cohort",) if any(len(part.runs) > 1 for part in parts) else ()
    shown = []
    for spec, row in zip(specs, rows, strict=True):
        own = columns.get(spec.run_id, {}) if row["state"] == "to train" else {}
        shown.append(row | {name: own.get(name) for name in names})
    print_rows(shown, format, right=("seed", "cohort"))
    if parts and format in (Format.table, Format.md):
        stdout().print()
        print_rows(part_rows(parts), format, right=("runs", "seeds", "time", "memory"))
    for line in try_planned(todo):
        sentence(line)


def planned_runs(plan: StudyPlan) -> list[RunSpec]:
    """Every run of a study in the order of training: runs that tune, pretrainings, then the study's own.

    Runs that tune values beyond the given grid are not among them.
    """
    from bnexp.plan.spec import unique
    from bnexp.plan.study import tuning_jobs

    grid = sorted(plan.study.tune.grid)
    batches = [*(plan.batch(tuning_jobs(plan.study, grid)).phases if grid else ()), *plan.runs.phases]
    return unique([spec for batch in batches for spec in batch.specs])


def planned_rows(plan: StudyPlan, store: Store) -> list[dict[str, Any]]:
    """One row per planned run. The id of a tuned run is not known before its value is chosen, so its row has none."""
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
