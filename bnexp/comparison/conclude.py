"""From a study's record to its verdict."""

from __future__ import annotations

from dataclasses import replace

from bnexp.comparison.looks import look_at
from bnexp.comparison.record import StudyRecord
from bnexp.comparison.refined import refining_notes
from bnexp.comparison.result import Status, StudyResult
from bnexp.comparison.select import StoreRecords, study_facts, study_outcomes
from bnexp.comparison.tuned import tuning_notes
from bnexp.comparison.verdict import analyse
from bnexp.tracking.store import Store


def conclude(record: StudyRecord, store: Store) -> StudyResult:
    """Compare what is recorded of a study's runs. Needs no data set."""
    record = record.up_to_date()
    facts = study_facts(record.runs, store)
    records = store.records([run.run_id for run in record.runs])
    outcomes = study_outcomes(record.runs, store, record.study.metric, record.study.metrics, records)
    unfinished = any(outcome.status is Status.missing for outcome in outcomes)
    result = analyse(
        record.study,
        outcomes,
        study_id=record.study_id,
        margin=record.study.margin or record.data.margin,
        settings=record.settings,
        chance=facts.chance if facts else None,
        num_test=facts.num_test if facts else None,
        records=StoreRecords(records, store),
        look=look_at(record.earlier, record.study.max_seeds, unfinished=unfinished),
        overrides=record.overrides,
    )
    told = [*tuning_notes(record.tuning, record.study.tune), *refining_notes(record.study, record.added)]
    return replace(result, notes=[*result.notes, *told])
