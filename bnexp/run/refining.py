"""Refining: a study gets further levels of its one factor after those before have trained (``comparison.refined``)."""

from __future__ import annotations

from bnexp.comparison.record import STUDY
from bnexp.comparison.record import load as load_record
from bnexp.comparison.result import PlannedRun
from bnexp.plan.expand import StudyPlan
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.store import Store


def next_levels(plan: StudyPlan, store: Store) -> list[float]:
    """The levels that a study adds next, from the records of the runs it has; empty if it adds none.

    Args:
        plan: the study. Its runs have been trained.
        store: where they are recorded.
    """
    if plan.study.refine.ratio is None:
        return []
    from bnexp.comparison.refined import further_levels  # scipy takes a second, which the runs need not wait for
    from bnexp.comparison.select import study_facts, study_outcomes

    runs = [PlannedRun(spec.run_id, spec.arm, spec.levels, spec.seed) for spec in plan.specs]
    outcomes = study_outcomes(runs, store, plan.study.metric, plan.study.metrics)
    facts = study_facts(runs, store)
    return further_levels(plan.study, outcomes, facts.chance if facts else None, plan.added)


def recalled(plan: StudyPlan, store: Store) -> StudyPlan:
    """The plan with the levels that were added when the same study ran before.

    So an interrupted study goes on with them, and one that is finished has the same levels again.
    """
    folder = store.study_path(plan.study.name, plan.study_id)
    if plan.study.refine.ratio is None or not (folder / STUDY).exists():
        return plan
    try:
        return plan.with_levels(load_record(folder).added)
    except DamagedRecord as damage:
        store.report_damage(damage, "The levels that were added to the study are looked for again.")
        return plan
