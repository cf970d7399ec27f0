"""The local store: what a sink writes is what a recorded run reads, and only a summary makes a run finished."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

import bnexp
from bnexp.config.schema import ConfigError
from bnexp.metrics import RunFinished, StepMetrics
from bnexp.tracking.checkout import checkout
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.store import Store, StoreSink, environment, runs_dir, write_atomic, write_if_allowed
from bnexp.tracking.tables import prediction_frame
from tests.tracking.records import failure, make_predictions, make_records, make_spec, play


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def test_a_finished_run_reads_back_as_it_was_recorded(store: Store) -> None:
    spec = make_spec(seed=2)
    play(StoreSink(store, command="bnexp train"), [spec])
    run = store.find(spec.run_id)
    assert run is not None
    assert run.finished
    assert (run.run_id, run.failure, run.config) == (spec.run_id, None, spec.to_dict())
    assert [(row["epoch"], row["step"]) for row in run.metrics()] == [(1, 10), (2, 20), (3, 30)]
    summary = run.summary
    assert (summary.study, summary.arm, summary.seed, summary.status) == ("demo", "batch", 2, "finished")
    assert (summary.levels, summary.command, summary.num_parameters) == ({"optim.lr": 0.1}, "bnexp train", 123)
    assert summary.metric("test/accuracy") == 0.8
    predictions, recorded = run.predictions(), prediction_frame(make_predictions(2))
    assert predictions is not None
    assert predictions.to_dict(as_series=False) == recorded.select(predictions.columns).to_dict(as_series=False)
    assert pl.read_parquet(run.path / "predictions.parquet").equals(recorded)
    assert np.array_equal(run.weights()["conv1.weight"], np.arange(4, dtype=np.float32))


def test_a_diverged_run_is_finished_without_predictions(store: Store) -> None:
    spec = make_spec()
    play(StoreSink(store), [spec], diverged_at=17)
    run = store.find(spec.run_id)
    assert run is not None
    assert (run.summary.status, run.summary.diverged_at) == ("diverged", 17)
    assert run.predictions() is None
    assert math.isnan(run.metrics()[0]["train/loss"])


def test_runs_of_a_cohort_are_kept_apart(store: Store) -> None:
    specs = [make_spec(seed, arm=arm) for seed in range(3) for arm in ("none", "batch")]
    play(StoreSink(store), specs)
    assert {run.run_id: run.summary.seed for run in store.runs()} == {spec.run_id: spec.seed for spec in specs}
    assert all(len(run.metrics()) == 3 for run in store.runs())


def test_the_summary_is_written_last(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec()
    written: list[set[str]] = []

    def watch(path: Path, content: str | bytes) -> None:
        if path.name == "summary.json":
            written.append({item.name for item in path.parent.iterdir()})
        write_atomic(path, content)

    monkeypatch.setattr("bnexp.tracking.store.write_atomic", watch)
    play(StoreSink(store), [spec])
    assert written == [{"config.yaml", "metrics.jsonl", "predictions.parquet", "model.safetensors"}]


def test_metrics_are_on_disk_as_soon_as_they_are_recorded(store: Store) -> None:
    spec = make_spec()
    sink = StoreSink(store)
    for count, record in enumerate(make_records(spec)[:3]):
        sink.record(spec, record)
        assert len(RecordedRun(store.run_path(spec)).metrics()) == count
    sink.close()
    assert store.find(spec.run_id) is None
    assert list(store.runs()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no list of open files")
def test_runs_that_train_together_keep_no_file_open(store: Store) -> None:
    before = len(os.listdir("/dev/fd"))
    with StoreSink(store) as sink:
        for spec in [make_spec(seed) for seed in range(10)]:
            for record in make_records(spec)[:2]:
                sink.record(spec, record)
        assert len(os.listdir("/dev/fd")) == before


def test_an_interrupted_attempt_is_replaced(store: Store) -> None:
    spec = make_spec()
    with StoreSink(store) as sink:
        for record in make_records(spec)[:3]:
            sink.record(spec, record)
    (store.run_path(spec) / "predictions.parquet").write_bytes(b"half of a file")
    play(StoreSink(store), [spec], epochs=4)
    run = store.find(spec.run_id)
    assert run is not None
    assert [row["epoch"] for row in run.metrics()] == [1, 2, 3, 4]
    assert run.predictions() is not None


def test_an_attempt_that_starts_anew_closes_and_replaces_the_one_before(store: Store) -> None:
    """As after the death of a worker process, or out of memory. A file left open would be a warning, and so an error."""
    spec = make_spec()
    with StoreSink(store) as sink:
        for record in [*make_records(spec)[:3], *make_records(spec, epochs=4)]:
            sink.record(spec, record)
    run = store.find(spec.run_id)
    assert run is not None
    assert [row["epoch"] for row in run.metrics()] == [1, 2, 3, 4]


def test_a_torn_last_line_of_an_interrupted_run_is_left_out(store: Store) -> None:
    spec = make_spec()
    with StoreSink(store) as sink:
        for record in make_records(spec)[:-1]:
            sink.record(spec, record)
    path = store.run_path(spec) / "metrics.jsonl"
    text = path.read_text()
    for cut in range(len(text) - len(text.splitlines()[-1]), len(text) - 1):
        path.write_text(text[:cut])
        assert [row["epoch"] for row in RecordedRun(path.parent).metrics()] == [1, 2]


def test_a_failure_is_recorded_and_does_not_finish_the_run(store: Store) -> None:
    spec = make_spec()
    with StoreSink(store) as sink:
        for record in [*make_records(spec)[:2], failure(spec)]:
            sink.record(spec, record)
    run = RecordedRun(store.run_path(spec))
    assert (run.finished, run.failure) == (False, failure(spec).error)
    assert json.loads((run.path / "failure.json").read_text())["traceback"] == "Traceback ..."
    assert store.find(spec.run_id) is None


def test_a_run_can_fail_before_it_starts_and_succeed_later(store: Store) -> None:
    spec = make_spec()
    with StoreSink(store) as sink:
        sink.record(spec, failure(spec))
    assert RecordedRun(store.run_path(spec)).failure == failure(spec).error
    play(StoreSink(store), [spec])
    assert RecordedRun(store.run_path(spec)).failure is None


def test_a_failure_does_not_touch_the_other_runs(store: Store) -> None:
    bad, good = make_spec(0), make_spec(1)
    with StoreSink(store) as sink:
        first, *rest = make_records(good)
        for spec, record in [(bad, make_records(bad)[0]), (good, first), (bad, failure(bad)), *((good, r) for r in rest)]:
            sink.record(spec, record)
    assert store.find(good.run_id) is not None


def test_a_run_is_found_whichever_study_trained_it(store: Store) -> None:
    trained, asked = make_spec(study="one"), make_spec(study="two")
    assert trained.run_id == asked.run_id
    play(StoreSink(store), [trained])
    run = store.find(asked.run_id)
    assert run is not None
    assert run.path == store.root / "one" / trained.run_id


def test_of_several_records_of_a_run_the_one_that_tells_most_counts(store: Store) -> None:
    run_id = make_spec().run_id
    play(StoreSink(store), [make_spec(study="d")])
    finished = store.root / "d" / run_id
    for study in "abc":
        shutil.copytree(finished, store.root / study / run_id)
        (store.root / study / run_id / "summary.json").unlink()
    (store.root / "b" / run_id / "failure.json").write_text('{"error": "no memory", "traceback": ""}')
    (store.root / "c" / run_id / "summary.json").write_text("[]")
    shutil.copytree(finished, store.root / "e" / run_id)
    for study in "decb":
        assert store.records([run_id, "f" * 12]) == {run_id: RecordedRun(store.root / study / run_id)}
        assert (store.find(run_id) is not None) == (study in "de")
        shutil.rmtree(store.root / study)
    assert store.records([run_id])[run_id].path.parent.name == "a"


def test_a_beginning_names_one_run_or_of_many_the_first_five(store: Store) -> None:
    for number in range(7):
        (store.root / "demo" / f"ab{number}").mkdir(parents=True)
        said = ", ".join(f"ab{i}" for i in range(min(number + 1, 5))) + (", ..." if number >= 5 else "")
        if number:
            with pytest.raises(ConfigError, match=f"'a' fits several recorded runs: {re.escape(said)}\\. "):
                store.named("a")
    assert store.named("ab3").run_id == "ab3"
    (store.root / "demo" / "study-1a2b").mkdir()
    for nothing in ("b", "study"):
        with pytest.raises(ConfigError, match=f"'{nothing}' is not a recorded run in"):
            store.named(nothing)


def test_what_cannot_be_removed_of_an_earlier_attempt_costs_no_run(store: Store) -> None:
    spec = make_spec()
    (store.root / "another").mkdir(parents=True)
    (store.root / "another" / spec.run_id).write_text("no directory")
    play(StoreSink(store), [spec])
    assert store.find(spec.run_id) is not None


def test_step_losses_stand_beside_the_epochs(store: Store) -> None:
    spec = make_spec()
    start, *rest = make_records(spec)
    with StoreSink(store) as sink:
        steps = {5: {"train/step_loss": 1.5}, 6: {"train/step_loss": 1.4, "train/loss": 1.6, "landscape/beta": 2.0}}
        for record in (start, StepMetrics(spec.run_id, steps), *rest):
            sink.record(spec, record)
    assert RecordedRun(store.run_path(spec)).metrics()[0] == {"step": 5, "train/step_loss": 1.5}
    first = RecordedRun(store.run_path(spec)).metrics(step_losses=False)[0]  # what a probe measured is no bare loss
    assert first == {"step": 6, "train/step_loss": 1.4, "train/loss": 1.6, "landscape/beta": 2.0}


def test_writing_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_atomic(path, "old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, "new")
    assert path.read_text() == "old"


@pytest.mark.parametrize(("error", "tolerated"), [(errno.EROFS, True), (errno.EACCES, True), (errno.ENOSPC, False)])
def test_a_place_that_may_only_be_read_is_named_and_any_other_error_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: int, tolerated: bool
) -> None:
    path = tmp_path / "verdict.json"
    assert write_if_allowed(path, "old")

    def refused(*paths: Path) -> None:
        raise OSError(error, "no")

    monkeypatch.setattr("os.replace", refused)
    if tolerated:
        assert not write_if_allowed(path, "new")
        assert f"{path} may not be written" in caplog.text
    else:
        with pytest.raises(OSError, match="no"):
            write_if_allowed(path, "new")
    assert path.read_text() == "old"


def test_weights_of_one_value_and_other_types_are_kept(store: Store) -> None:
    spec = make_spec()
    *records, last = make_records(spec)
    assert isinstance(last, RunFinished)
    weights: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {
        "bn1.num_batches_tracked": np.array(30, dtype=np.int64),
        "fc.weight": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    }
    with StoreSink(store) as sink:
        for record in (*records, RunFinished(spec.run_id, last.metrics, 1.0, None, weights)):
            sink.record(spec, record)
    loaded = load_file(store.run_path(spec) / "model.safetensors")
    assert {name: (array.dtype, array.tolist()) for name, array in loaded.items()} == {
        name: (array.dtype, array.tolist()) for name, array in weights.items()
    }


def test_the_runs_directory_follows_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(tmp_path))
    assert runs_dir() == tmp_path
    monkeypatch.delenv("BNEXP_RUNS_DIR")
    assert runs_dir() == Path("runs")


def test_a_summary_says_all_that_is_known_of_a_run(store: Store) -> None:
    spec = make_spec(seed=2)
    play(StoreSink(store, command="bnexp train"), [spec])
    summary = json.loads((store.root / "demo" / spec.run_id / "summary.json").read_text())
    found = {name: summary[name] for name in ("run_id", "study", "data", "model", "batch_size", "arm", "levels", "seed")}
    assert found == {
        "run_id": spec.run_id,
        "study": "demo",
        "data": "mnist",
        "model": "lenet",
        "batch_size": 64,
        "arm": "batch",
        "levels": {"optim.lr": 0.1},
        "seed": 2,
    }
    found = {name: summary[name] for name in ("status", "diverged_at", "seconds", "command", "device", "execution")}
    assert found == {
        "status": "finished",
        "diverged_at": None,
        "seconds": 1.5,
        "command": "bnexp train",
        "device": "cpu",
        "execution": "eager: no CUDA device",
    }
    assert (summary["num_parameters"], summary["num_steps"]) == (123, 30)
    assert (summary["class_names"], summary["num_test"]) == ([], 0)  # not known
    assert summary["metrics"] == {"train/loss": pytest.approx(0.8), "test/loss": 0.7, "test/accuracy": 0.8}
    ended = datetime.strptime(summary["finished_at"], "%Y-%m-%dT%H:%M:%S%z")
    assert abs((datetime.now(UTC) - ended).total_seconds()) < 3600
    environment = summary["environment"]
    assert environment.keys() - {"git_commit", "git_dirty"} == {"bnexp", "python", "system", "torch", "numpy", "cpus"}
    assert (environment["bnexp"], environment["numpy"]) == (bnexp.__version__, np.__version__)
    assert environment["cpus"] == str(os.cpu_count())
    assert list(store.root.rglob("*.tmp")) == []


def test_records_are_for_people_too(store: Store) -> None:
    spec = make_spec()
    play(StoreSink(store), [spec])
    path = store.run_path(spec)
    config = (path / "config.yaml").read_text()
    assert [line for line in config.splitlines() if not line.startswith((" ", "-"))][:3] == ["seed: 0", "data:", "model:"]
    assert '\n  "status": "finished",\n' in (path / "summary.json").read_text()
    assert store.study_path("demo", "0a1b") == store.root / "demo" / "study-0a1b"


def test_the_latest_runs_are_those_that_finished_last(store: Store) -> None:
    specs = [make_spec(seed) for seed in range(4)]
    play(StoreSink(store), specs)
    for age, spec in zip((30, 10, 40, 20), specs, strict=True):
        os.utime(store.run_path(spec) / "summary.json", (1e9 - age, 1e9 - age))
    assert [run.run_id for run in store.latest(2)] == [specs[3].run_id, specs[1].run_id]
    assert len(store.latest(9)) == 4
    assert Store(store.root / "nowhere").latest(3) == []


def test_a_run_records_the_commit_of_its_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkout.cache_clear()
    assert checkout() == {}
    (tmp_path / "file").write_text("1")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "file"], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], check=True)
    checkout.cache_clear()
    clean = checkout()
    assert (len(clean["git_commit"]), clean["git_dirty"]) == (40, "no")
    (tmp_path / "file").write_text("2")
    checkout.cache_clear()
    assert environment()["git_dirty"] == "yes"
    checkout.cache_clear()
