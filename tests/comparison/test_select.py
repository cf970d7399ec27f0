"""Planned runs are found in the store, wherever they were trained, or reported as failed or missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnexp.comparison.result import PlannedRun, Status
from bnexp.comparison.select import StoreRecords, study_outcomes
from bnexp.config.schema import ConfigError
from bnexp.metrics import Predictions
from bnexp.tracking.store import Store
from bnexp.tracking.tables import prediction_frame


def record(root: Path, study: str, run_id: str, status: str = "finished", **metrics: Any) -> None:
    path = root / study / run_id
    path.mkdir(parents=True)
    values = {name.replace("__", "/"): value for name, value in metrics.items()}
    summary = {"run_id": run_id, "study": study, "data": "digits", "arm": "none", "levels": {}, "seed": 0}
    rest = {"status": status, "metrics": values, "seconds": 1.5, "finished_at": "2024-01-01T00:00:00+0000"}
    (path / "summary.json").write_text(json.dumps(summary | rest))


def planned(*run_ids: str) -> list[PlannedRun]:
    return [PlannedRun(name, "none", {"optim.lr": 0.01}, seed) for seed, name in enumerate(run_ids)]


def test_every_planned_run_has_an_outcome_in_order(tmp_path: Path) -> None:
    record(tmp_path, "batchnorm", "aaa", test__accuracy=0.9)
    record(tmp_path, "other", "bbb", status="diverged", test__accuracy=0.1)
    record(tmp_path, "other", "unplanned", test__accuracy=0.5)
    (tmp_path / "batchnorm" / "ccc").mkdir()
    (tmp_path / "batchnorm" / "ccc" / "failure.json").write_text('{"error": "out of memory", "traceback": ""}')
    (tmp_path / "batchnorm" / "ddd").mkdir()  # interrupted: neither summary nor failure
    (tmp_path / "note.txt").write_text("not a study")
    found = study_outcomes(planned("aaa", "bbb", "ccc", "ddd", "eee"), Store(tmp_path), "test/accuracy")
    assert [(o.run_id, o.status, o.value) for o in found] == [
        ("aaa", Status.finished, 0.9),
        ("bbb", Status.diverged, 0.1),
        ("ccc", Status.failed, None),
        ("ddd", Status.missing, None),
        ("eee", Status.missing, None),
    ]
    assert (found[3].arm, found[3].level, found[3].levels, found[3].seed) == ("none", "lr=0.01", {"optim.lr": 0.01}, 3)


def test_a_finished_copy_wins_over_a_failed_one(tmp_path: Path) -> None:
    (tmp_path / "a" / "run").mkdir(parents=True)
    (tmp_path / "a" / "run" / "failure.json").write_text('{"error": "out of memory"}')
    record(tmp_path, "b", "run", test__accuracy=0.8)
    assert study_outcomes(planned("run"), Store(tmp_path), "test/accuracy")[0].value == 0.8


def test_a_run_whose_summary_is_damaged_is_told_from_one_that_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("aaa", "bbb"):
        record(tmp_path, "batchnorm", name, test__accuracy=0.9)
    (tmp_path / "batchnorm" / "aaa" / "summary.json").write_text("null")
    found = study_outcomes(planned("aaa", "bbb"), Store(tmp_path), "test/accuracy")
    assert [o.status for o in found] == [Status.damaged, Status.finished]
    assert f"{tmp_path / 'batchnorm' / 'aaa' / 'summary.json'} is damaged: it is null, not a mapping." in caplog.text
    record(tmp_path, "copy", "aaa", test__accuracy=0.8)
    assert study_outcomes(planned("aaa"), Store(tmp_path), "test/accuracy")[0].value == 0.8


def test_one_run_without_the_metric_costs_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record(tmp_path, "batchnorm", "aaa", test__accuracy=0.9)
    record(tmp_path, "batchnorm", "bbb", test__loss=0.3)
    found = study_outcomes(planned("aaa", "bbb"), Store(tmp_path), "test/accuracy")
    assert [o.status for o in found] == [Status.finished, Status.damaged]
    assert "it lacks the metric test/accuracy" in caplog.text


def test_no_store_yet_means_missing(tmp_path: Path) -> None:
    assert study_outcomes(planned("run"), Store(tmp_path / "runs"), "test/accuracy")[0].status is Status.missing


def test_an_unknown_metric_is_an_error_with_a_hint(tmp_path: Path) -> None:
    record(tmp_path, "batchnorm", "aaa", test__accuracy=0.9, test__loss=0.3)
    message = "Run aaa has not recorded the metric test/acuracy; it has test/accuracy, test/loss. Did you mean test/accuracy?"
    with pytest.raises(ConfigError) as error:
        study_outcomes(planned("aaa"), Store(tmp_path), "test/acuracy")
    assert str(error.value) == message


def test_a_diverged_run_may_lack_the_metric(tmp_path: Path) -> None:
    record(tmp_path, "batchnorm", "aaa", status="diverged")
    record(tmp_path, "batchnorm", "bbb", status="diverged", test__loss=None)
    found = study_outcomes(planned("aaa", "bbb"), Store(tmp_path), "test/loss")
    assert [(o.status, o.value) for o in found] == [(Status.diverged, None)] * 2


def test_arms_that_are_readings_of_one_run_have_a_metric_each(tmp_path: Path) -> None:
    record(tmp_path, "running_statistics", "aaa", statistics__running=0.8, statistics__precise=0.9)
    runs = [PlannedRun("aaa", arm, {}, 0) for arm in ("running", "precise")]
    found = study_outcomes(runs, Store(tmp_path), "statistics/running", {"precise": "statistics/precise"})
    assert [(o.arm, o.value) for o in found] == [("running", 0.8), ("precise", 0.9)]


def test_histories_and_predictions_are_read_from_the_finished_copy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a" / "aaa").mkdir(parents=True)
    record(tmp_path, "b", "aaa", test__accuracy=0.9)
    record(tmp_path, "b", "bbb", test__accuracy=0.9)
    (tmp_path / "b" / "aaa" / "metrics.jsonl").write_text('{"epoch": 1, "step": 5, "val/accuracy": 0.5}\n')
    probabilities = np.eye(8, dtype=np.float32)[[1, 2, 3]]
    frame = prediction_frame(Predictions(np.array([2, 0, 1]), np.array([7, 5, 6]), probabilities))
    frame.write_parquet(tmp_path / "b" / "aaa" / "predictions.parquet")
    (tmp_path / "b" / "bbb" / "predictions.parquet").write_bytes(b"junk")
    records = StoreRecords(planned("aaa", "bbb", "ccc"), Store(tmp_path))
    assert records.history("aaa") == [{"epoch": 1, "step": 5, "val/accuracy": 0.5}]
    guesses = records.guesses("aaa")
    assert guesses is not None
    assert guesses.tolist() == [[2, 5], [3, 6], [1, 7]]
    assert (records.history("ccc"), records.guesses("ccc"), records.guesses("bbb")) == ([], None, None)
    assert f"{tmp_path / 'b' / 'bbb' / 'predictions.parquet'} is damaged: it is no table of predictions." in caplog.text
