"""From a study's record to its verdict."""

from __future__ import annotations

from bnexp.compare.record import StudyRecord
from bnexp.compare.result import StudyResult
from bnexp.compare.select import study_outcomes
from bnexp.compare.verdict import analyse
from bnexp.data.resident import prepare
from bnexp.tracking.store import Store, write_json


def conclude(record: StudyRecord, store: Store) -> StudyResult:
    """Compare what is recorded of a study's runs and write ``verdict.json``."""
    resident = prepare(record.data)
    result = analyse(
        record.study,
        study_outcomes(record.runs, store, record.study.metric),
        study_id=record.study_id,
        margin=record.study.margin or record.data.margin,
        settings=record.settings,
        chance=1 / resident.num_classes,
        num_test=len(resident.test_labels),
    )
    write_json(record.path(store) / "verdict.json", result.to_dict())
    return result
