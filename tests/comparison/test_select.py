"""Planned runs are found in the store, wherever they were trained, or reported as failed or missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_outcomes import only, study
from scipy.stats import binom

from bnexp.comparison.conclude import conclude
from bnexp.comparison.record import StudyRecord
from bnexp.comparison.result import PlannedRun, Status, StudyResult
from bnexp.comparison.select import StoreRecords, study_facts, study_outcomes
from bnexp.comparison.untrained import guessing_limit
from bnexp.config.schema import ConfigError, DataConfig
from bnexp.metrics import Predictions
from bnexp.plan.study import Choice
from bnexp.tracking.records import RecordedRun
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


def test_records_that_were_looked_up_before_are_not_looked_up_again(tmp_path: Path) -> None:
    record(tmp_path, "batchnorm", "aaa", test__accuracy=0.9)
    known = Store(tmp_path).records(["aaa"])
    (found,) = study_outcomes(planned("aaa"), Store(tmp_path / "none"), "test/accuracy", records=known)
    assert found.value == 0.9


def test_facts_of_the_data_are_those_of_the_first_finished_run_that_tells(tmp_path: Path) -> None:
    (tmp_path / "s" / "begun").mkdir(parents=True)
    record(tmp_path, "s", "bare", test__accuracy=0.9)
    course(tmp_path, "tells", 0.5, 0.6, label_counts=EVEN)
    facts = study_facts(planned("lost", "begun", "bare", "tells"), Store(tmp_path))
    assert facts is not None
    assert (facts.num_test, len(facts.class_names)) == (1000, 10)
    assert study_facts(planned("lost", "begun", "bare"), Store(tmp_path)) is None


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
    (alone,) = study_outcomes(planned("aaa"), Store(tmp_path), "test/loss")
    assert (alone.status, alone.value) == (Status.diverged, None)


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
    (tmp_path / "b" / "cut").mkdir()
    (tmp_path / "b" / "cut" / "failure.json").write_text('{"error": "out of memory", "traceback": ""}')
    (tmp_path / "b" / "cut" / "metrics.jsonl").write_text('{"epoch": 1, "step": 5, "val/accuracy": 0.5}\n')
    store = Store(tmp_path)
    records = StoreRecords(store.records(["aaa", "bbb", "ccc", "cut"]), store)
    assert records.history("cut") == []  # a training that failed half way is no course
    assert records.history("aaa") == [{"epoch": 1, "step": 5, "val/accuracy": 0.5}]
    guesses = records.guesses("aaa")
    assert guesses is not None
    assert guesses.tolist() == [[2, 5], [3, 6], [1, 7]]
    assert (records.history("ccc"), records.guesses("ccc"), records.guesses("bbb")) == ([], None, None)
    assert f"{tmp_path / 'b' / 'bbb' / 'predictions.parquet'} is damaged: it is no table of predictions." in caplog.text


def course(root: Path, run_id: str, *train: float, label_counts: Sequence[int] = (), **summary: Any) -> None:
    """A run with 900 updates per epoch, its training accuracies, and how often its test images hold each label."""
    record(root, "s", run_id, test__accuracy=0.5, train__accuracy=train[-1])
    path = root / "s" / run_id
    text = json.loads((path / "summary.json").read_text()) | {"batch_size": 64, "class_names": list("0123456789")} | summary
    (path / "summary.json").write_text(json.dumps(text | {"num_test": sum(label_counts) or 1000}))
    lines = [{"epoch": k, "step": 900 * k, "train/accuracy": value} for k, value in enumerate(train, 1)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if label_counts:
        labels = np.repeat(np.arange(10), label_counts)
        table = Predictions(np.arange(labels.size), labels, np.eye(10, dtype=np.float32)[labels])
        prediction_frame(table).write_parquet(path / "predictions.parquet")


EVEN = [100] * 10
MNIST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # as often as each digit is in the test set of MNIST


def test_a_run_whose_training_accuracy_never_leaves_chance_is_stuck(tmp_path: Path) -> None:
    course(tmp_path, "stuck", 0.0998, 0.1004, 0.1011, label_counts=EVEN)
    course(tmp_path, "trained", 0.0998, 0.1004, 0.1100, label_counts=EVEN)
    course(tmp_path, "fell", 0.0998, 0.5000, 0.1000, label_counts=EVEN)  # it had left chance
    found = study_outcomes(planned("stuck", "trained", "fell"), Store(tmp_path), "test/accuracy")
    why = "training accuracy 10.1 % after 3 epochs, guessing gives up to 10.3 %"
    assert [(o.stuck, o.untrained) for o in found] == [(why, True), ("", False), ("", False)]
    assert {(o.status, o.value) for o in found} == {(Status.finished, 0.5)}


def test_guessing_knows_the_most_frequent_class(tmp_path: Path) -> None:
    course(tmp_path, "one", 0.1124, 0.1124, label_counts=MNIST)
    (found,) = study_outcomes(planned("one"), Store(tmp_path), "test/accuracy")
    assert found.stuck == "training accuracy 11.2 % after 2 epochs, guessing gives up to 11.6 %"
    course(tmp_path, "uneven", 0.6, 0.6, label_counts=[600, *[45] * 8, 40], data="own")
    assert study_outcomes(planned("uneven"), Store(tmp_path), "test/accuracy")[0].stuck
    for name, accuracy in (("even", 0.1), ("unknown", 0.1124)):  # no predictions: 1/K is what is known
        course(tmp_path, name, accuracy, accuracy)
    even, unknown = study_outcomes(planned("even", "unknown"), Store(tmp_path), "test/accuracy")
    assert (bool(even.stuck), unknown.stuck) == (True, "")


def test_the_limit_of_guessing_is_the_binomial_quantile_shared_among_the_epochs() -> None:
    for images, epochs, chance in ((1437, 1, 0.1), (57_000, 10, 0.1124), (40, 3, 0.5)):
        assert guessing_limit(chance, images, epochs) * images == pytest.approx(binom.ppf(1 - 0.05 / epochs, images, chance))
    assert guessing_limit(1.0, 10, 1) == 1  # a single class in the labels


def test_a_record_without_its_batch_size_is_read_with_that_of_its_settings(tmp_path: Path) -> None:
    course(tmp_path, "old", 0.0998, 0.1004, 0.1011, label_counts=EVEN, batch_size=None)
    (tmp_path / "s" / "old" / "config.yaml").write_text("train:\n  batch_size: 64\nstudy: {}\n")
    (found,) = study_outcomes(planned("old"), Store(tmp_path), "test/accuracy")
    assert found.stuck == "training accuracy 10.1 % after 3 epochs, guessing gives up to 10.3 %"


def test_labels_are_read_from_one_run_of_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    predictions = RecordedRun.predictions
    monkeypatch.setattr(RecordedRun, "predictions", lambda run: (read.append(run.run_id), predictions(run))[1])
    for name, data in (("one", "digits"), ("two", "digits"), ("other", "mnist")):
        course(tmp_path, name, 0.1, 0.1, label_counts=EVEN, data=data)
    study_outcomes(planned("one", "two", "other"), Store(tmp_path), "test/accuracy")
    assert read == ["one", "other"]


def test_records_that_do_not_tell_make_no_stuck_run(tmp_path: Path) -> None:
    record(tmp_path, "s", "bare", test__accuracy=0.1, train__accuracy=0.1)
    course(tmp_path, "short", 0.1, label_counts=EVEN)  # its one epoch began with an untrained network
    course(tmp_path, "diverged", 0.1, label_counts=EVEN, status="diverged")
    course(tmp_path, "damaged", 0.1, label_counts=EVEN)
    (tmp_path / "s" / "damaged" / "metrics.jsonl").write_text("junk")
    course(tmp_path, "timeless", 0.1, 0.1, label_counts=EVEN)
    lines = '{"epoch": 1, "step": 900, "train/accuracy": 0.1}\n{"step": 1800, "train/accuracy": 0.1}\n'
    (tmp_path / "s" / "timeless" / "metrics.jsonl").write_text(lines)
    found = study_outcomes(planned("bare", "short", "diverged", "damaged", "timeless"), Store(tmp_path), "test/accuracy")
    assert [o.stuck for o in found] == ["", "", "", "", ""]


def test_a_table_of_no_predictions_tells_no_labels(tmp_path: Path) -> None:
    course(tmp_path, "none", 0.1, 0.1, label_counts=[0] * 10)
    (found,) = study_outcomes(planned("none"), Store(tmp_path), "test/accuracy")
    assert found.stuck.startswith("training accuracy 10.0 % after 2 epochs")  # by 1/K


def test_a_course_that_cannot_be_read_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    course(tmp_path, "aaa", 0.5, 0.6)
    (tmp_path / "s" / "aaa" / "metrics.jsonl").write_text("junk\n")
    store = Store(tmp_path)
    assert StoreRecords(store.records(["aaa"]), store).history("aaa") == []
    assert "metrics.jsonl is damaged: " in caplog.text
    assert "The course of that training counts as not recorded." in caplog.text


def concluded(root: Path, runs: list[PlannedRun], **keys: Any) -> StudyResult:
    """What is concluded of these runs of a made study."""
    made = study("none", "bn", direction="greater", margin=keys.pop("margin", None))
    record = StudyRecord(made, "1", [], DataConfig(margin=0.3), {}, runs, folder=root / "study-1", **keys)
    return conclude(record, Store(root))


def test_a_conclusion_knows_chance_and_the_number_of_test_images_from_its_runs(tmp_path: Path) -> None:
    runs = []
    for arm in ("none", "bn"):
        for seed in range(6):
            course(tmp_path, f"{arm}{seed}", 0.5, 0.6, label_counts=EVEN)
            runs.append(PlannedRun(f"{arm}{seed}", arm, {}, seed))
    record(tmp_path, "copy", "lost", status="diverged", test__loss=None)
    found = concluded(tmp_path, [*runs[:-1], PlannedRun("lost", "bn", {}, 5)])
    assert only(found).differences == pytest.approx([0.0] * 5 + [-40.0])  # it counts as 10 % of ten classes
    assert any(note.startswith("The 1,000 test images alone ") for note in found.notes)
    assert (found.rule, found.margin) == ("", 0.3)
    assert concluded(tmp_path, runs, margin=0.1).margin == 0.1
    unfinished = concluded(tmp_path, [*runs, PlannedRun("later", "none", {}, 6)])
    assert unfinished.rule == "again"
    assert unfinished.answer.endswith("decides, at level .01.")


def test_a_conclusion_without_any_run_tells_how_values_were_chosen(tmp_path: Path) -> None:
    choice = Choice("bn", {}, "optim.lr", 0.4, {0.1: 0.5, 0.4: 0.75}, at_edge=True)
    found = concluded(tmp_path, [PlannedRun("none", "none", {}, 0), PlannedRun("bn", "bn", {}, 0)], tuning=[choice])
    assert found.answer == "No run has a result yet."
    assert any("tried for all: bn 0.4 (75.00 %)" in note for note in found.notes)
    assert any("at the edge of what was tried for bn (0.4)" in note for note in found.notes)
