"""Reading a record that may come from a stranger: whatever its files hold, values are of their type or the file is named."""

from __future__ import annotations

import copy
import io
import json
import math
import os
import pickle
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.records import DataFacts, RecordedRun, Summary
from bnexp.tracking.store import Store, StoreSink
from tests.tracking.records import CLASSES, NUM_TEST, failure, make_spec, play

FACTS = DataFacts(CLASSES, NUM_TEST, "0a1b")
HUGE = 10**400
WRONG = (None, "text", HUGE, -1e308, 1e300, float("inf"), [], {}, [[]], True, -1, "\ud800", [None], {"a": {"b": [1]}})


@pytest.fixture
def run(tmp_path: Path) -> RecordedRun:
    store, spec = Store(tmp_path / "runs"), make_spec()
    play(StoreSink(store, facts=FACTS), [spec])
    found = store.find(spec.run_id)
    assert found is not None
    return found


def again(run: RecordedRun) -> RecordedRun:
    """The run as another process would read it."""
    return RecordedRun(run.path)


def variants(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Where a JSON value can be wrong: every key, and the first item of every list, with another value or without one."""
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, item in items:
        for wrong in (*WRONG, ...):
            yield (*path, key), wrong
        yield from variants(item, (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with ``new`` at ``path``, or without what is there if ``new`` is ``...``."""
    made = copy.deepcopy(value)
    place = made
    for key in path[:-1]:
        place = place[key]
    if new is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = new
    return made


def test_any_value_of_a_summary_is_of_its_type_or_the_file_is_named(run: RecordedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run.path / "summary.json"
    content = json.loads(path.read_text())
    refused = 0
    for place, wrong in variants(content):
        limit = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(0)
        path.write_text(json.dumps(changed(content, place, wrong)))
        sys.set_int_max_str_digits(limit)
        read = again(run)
        if read.damage is None:
            json.dumps(asdict(read.summary), ensure_ascii=False).encode()  # can be shown
            assert isinstance(read.summary.metric("test/accuracy"), float)
        else:
            refused += 1
            assert str(read.damage).startswith(f"{path} is damaged: ")
            assert str(read.damage).isprintable()
    assert refused > 200


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seed": "0"}, "seed is '0', not a whole number"),
        ({"seed": True}, "seed is true, not a whole number"),
        ({"metrics": None}, "metrics is null, not a mapping"),
        ({"metrics": {"test/loss": "low"}}, "metrics.test/loss is 'low', not a number or null"),
        ({"num_test": -5}, "num_test is -5, and at least 0 is possible"),
        ({"seconds": math.inf}, "seconds is inf, and at least 0 is possible"),
        ({"class_names": ["a"]}, "class_names has a single class"),
        ({"metrics": {"test/accuracy": 97}}, "metrics.test/accuracy is 97, and an accuracy is a fraction"),
        ({"status": "done\x1b[2J"}, "status is 'done\\x1b[2J', not one of finished, diverged"),
        ({"levels": {"optim.lr": [1]}}, "levels.optim.lr is a list, not text or a whole number"),
        ({"seconds": 1e200}, "seconds is 1e+200, not a number"),
        ({"seconds": float("nan")}, "seconds is nan, and at least 0 is possible"),
        ({"seed": None}, "seed is null, not a whole number"),
        ({"status": "failed"}, "status is 'failed', not one of finished, diverged"),
    ],
)
def test_what_is_wrong_with_a_value_is_said(run: RecordedRun, change: dict[str, Any], reason: str) -> None:
    path = run.path / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert reason in str(again(run).damage)


def test_keys_of_later_versions_and_missing_ones_of_earlier_versions_are_no_damage(run: RecordedRun) -> None:
    path = run.path / "summary.json"
    content = json.loads(path.read_text())
    required = ("run_id", "study", "data", "arm", "levels", "seed", "status", "metrics", "seconds", "finished_at")
    path.write_text(json.dumps({key: content[key] for key in required} | {"invented_later": [1]}))
    old = again(run)
    assert isinstance(old.summary, Summary)
    assert (old.summary.model, old.summary.class_names, old.summary.num_test) == (None, [], None)
    assert old.facts == DataFacts(["0", "1", "2"], NUM_TEST)  # by the predictions
    for key in required:
        path.write_text(json.dumps({name: content[name] for name in required if name != key}))
        assert f"{key} is missing" in str(again(run).damage)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"null", "it is null, not a mapping"),
        (b"7", "it is 7, not a mapping"),
        (b"[]", "it is a list, not a mapping"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"a":' * 30 + b"1" + b"}" * 30, "it is nested too deeply"),
        (b"\xff\xfe{}", "it is no UTF-8 text"),
        (b'{"run_id": "', "it is no JSON that can be read"),
        (b'{"seed": ' + b"1" * 5000 + b"}", "it is no JSON that can be read"),
        (b'{"run_id": "\\ud800"}', "it is not all Unicode"),
        (bytes(1000), "it is no JSON that can be read"),
    ],
)
def test_a_file_that_is_no_summary_is_named(run: RecordedRun, content: bytes, reason: str) -> None:
    (run.path / "summary.json").write_bytes(content)
    assert reason in str(again(run).damage)
    assert not again(run).finished


@pytest.mark.parametrize("name", ["summary.json", "config.yaml", "metrics.jsonl", "predictions.parquet", "model.safetensors"])
def test_what_is_no_ordinary_file_is_refused_unread(run: RecordedRun, name: str) -> None:
    path = run.path / name
    path.unlink()
    with path.open("wb") as file:
        file.truncate(10 * 2**30)  # ten gigabytes of zeros, which take no room
    assert "are the most that is read" in reason_of(run, name)
    path.unlink()
    path.mkdir()
    assert "it is a directory" in reason_of(run, name)
    path.rmdir()
    os.mkfifo(path)
    assert "it is no ordinary file" in reason_of(run, name)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "it is no ordinary file" in reason_of(run, name)


def reason_of(run: RecordedRun, name: str) -> str:
    """What is said of the damaged file ``name`` of a run."""
    read = again(run)
    reading = {
        "config.yaml": lambda: read.config,
        "metrics.jsonl": read.metrics,
        "predictions.parquet": read.predictions,
        "model.safetensors": read.weights,
        "summary.json": lambda: read.summary,
    }
    with pytest.raises(DamagedRecord) as damage:
        reading[name]()
    assert str(damage.value).startswith(f"{run.path / name} is damaged: ")
    return str(damage.value)


BOMB = "a: &a [x, x]\n" + "".join(f"{k}: &{k} [*{j}, *{j}]\n" for j, k in zip("abcdefgh", "bcdefghi", strict=True))
MERGE = "a: &a {x: 1}\n" + "".join(f"{k}: &{k} {{<<: [*{j}, *{j}]}}\n" for j, k in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty, not a mapping"),
        (b"- 1\n", "it is a list, not a mapping"),
        (b"just text", "it is 'just text', not a mapping"),
        (BOMB.encode(), "it has aliases"),
        (MERGE.encode(), "it has aliases"),
        (b"a: &a [*a]", "it has aliases"),
        (b"[" * 100_000, "it is nested too deeply"),  # which would end the process in libyaml
        (b"- " * 100_000, "it is nested too deeply"),
        (b"!!python/object/apply:os.system [exit]", "it is no YAML of plain values"),
        (b"a: !!timestamp x", "it is no YAML of plain values"),
        (b"a: 2024-13-45", "it is no YAML of plain values"),
        (b"study: {}\na: 0x" + b"f" * 9, None),
        (b"seed: 1\ndata: {}\n", "it ends before study, the last part of every configuration"),
        (b"{", "it is no YAML of plain values"),
        (b"a: \xff", "it is no UTF-8 text"),
        (b"unknown: {key: [1]}\n1: 2\nnull: 3\nstudy: {}\n", None),
    ],
)
def test_a_configuration_is_a_mapping_of_plain_values(run: RecordedRun, content: bytes, reason: str | None) -> None:
    (run.path / "config.yaml").write_bytes(content)
    if reason is None:
        assert again(run).settings
    else:
        assert reason in reason_of(run, "config.yaml")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"null", "line 2 is no mapping"),
        (b"7", "line 2 is no mapping"),
        (b"", "line 2 is empty"),
        (b"{", "line 2 is no JSON that can be read"),
        (b"[" * 100_000, "line 2 is nested too deeply"),
        (b'{"step": 5, "val/loss": "low"}', "line 2 is wrong in val/loss"),
        (b'{"step": 5, "val/loss": [1]}', "line 2 is wrong in val/loss"),
        (b'{"step": 5, "val/loss": 1e300}', "line 2 is wrong in val/loss"),
        (b'{"val/loss": 1}', "line 2 is wrong in step"),
        (b'{"step": 0}', "line 2 is wrong in step"),
        (b'{"step": 5, "epoch": NaN}', "line 2 is wrong in epoch"),
        (b'{"step": 5, "epoch": 1.5}', "line 2 is wrong in epoch"),
        (b'{"step": 5, "a": "\xff"}', "it is no UTF-8 text"),
    ],
)
def test_a_wrong_line_of_metrics_is_named(run: RecordedRun, line: bytes, reason: str) -> None:
    path = run.path / "metrics.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, line + b"\n", *rest]))
    assert reason in reason_of(run, "metrics.jsonl")


def test_metrics_may_be_null_or_not_finite_but_not_torn(run: RecordedRun) -> None:
    path = run.path / "metrics.jsonl"
    path.write_text('{"step": 5, "epoch": 1, "val/loss": null, "train/loss": NaN, "x": Infinity}\n')
    (row,) = again(run).metrics()
    assert {name for name, value in row.items() if value != value} == {"val/loss", "train/loss"}
    for text in ("", '{"step": 5, "epoch": 1}\n{"step": 6, "ep'):
        path.write_text(text)
        assert "the last line is" in reason_of(run, "metrics.jsonl")


LAST = pl.lit(2**63 - 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label": pl.lit(99)}, "it has the label 99, and there are 3 classes"),
        ({"prediction": pl.lit(-1)}, "it has the prediction -1, and there are 3 classes"),
        ({"label": pl.lit("cat")}, "it is no table of predictions"),
        ({"confidence": pl.lit([0.5])}, "it is no table of predictions"),
        ({"loss": pl.lit(None)}, "it does not have the images 0 to 39, once each"),
        ({"image_id": pl.lit(0)}, "it does not have the images 0 to 39, once each"),
        ({"image_id": pl.col("image_id") + 10**12}, "it does not have the images 0 to 39, once each"),
        ({"image_id": LAST}, "it does not have the images 0 to 39, once each"),
        ({"p3": pl.lit(0.0)}, "it has 40 images of 4 classes, and the run had 40 of 3"),
    ],
)
def test_a_wrong_table_of_predictions_is_named(run: RecordedRun, change: dict[str, pl.Expr], reason: str) -> None:
    rewrite(run, pl.read_parquet(run.path / "predictions.parquet").with_columns(**change))
    assert reason in reason_of(run, "predictions.parquet")


def test_a_table_of_predictions_has_its_columns_and_rows(run: RecordedRun) -> None:
    frame = pl.read_parquet(run.path / "predictions.parquet")
    for name in ("image_id", "label", "prediction", "confidence", "loss", "correct"):
        rewrite(run, frame.drop(name))
        assert f"it has no column {name}" in reason_of(run, "predictions.parquet")
    rewrite(run, frame.head(0))
    assert "it has 0 rows" in reason_of(run, "predictions.parquet")
    rewrite(run, frame.head(10))
    assert "it has 10 images of 3 classes, and the run had 40 of 3" in reason_of(run, "predictions.parquet")
    rewrite(run, pl.DataFrame({"correct": pl.repeat(True, 20_000_000, eager=True)}))
    assert (run.path / "predictions.parquet").stat().st_size < 100_000
    assert "it has 20,000,000 rows" in reason_of(run, "predictions.parquet")
    rewrite(run, frame.reverse().with_columns(invented_later=pl.lit("x"), label=pl.col("label").cast(pl.UInt8)))
    read = again(run).predictions()
    assert read is not None
    assert read["image_id"].to_list() == list(range(40))


def rewrite(run: RecordedRun, frame: pl.DataFrame) -> None:
    """Put another table in place of the run's predictions, as an earlier version would have recorded it: without a hash."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    (run.path / "predictions.parquet").write_bytes(buffer.getvalue())
    path = run.path / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": {}}))


@pytest.mark.parametrize("name", ["predictions.parquet", "model.safetensors"])
def test_any_changed_byte_of_a_binary_file_is_noticed(run: RecordedRun, name: str) -> None:
    path = run.path / name
    content = path.read_bytes()
    for place in range(0, len(content), len(content) // 20):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert "its content is not what the run recorded" in reason_of(run, name)
        path.write_bytes(content[:place])
        assert "its content is not what the run recorded" in reason_of(run, name)


@pytest.mark.parametrize("content", [b"", b"junk", bytes(1000), b"\xff" * 100])
def test_junk_in_place_of_a_binary_file_is_named_without_a_hash_too(run: RecordedRun, content: bytes) -> None:
    rewrite(run, pl.DataFrame({"image_id": [0]}))
    for name, reason in (("predictions.parquet", "no table of predictions"), ("model.safetensors", "no file of weights")):
        (run.path / name).write_bytes(content)
        assert f"it is {reason}" in reason_of(run, name)


def test_the_reason_of_a_failure_is_told_or_why_it_cannot_be(tmp_path: Path) -> None:
    store, spec = Store(tmp_path), make_spec()
    with StoreSink(store) as sink:
        sink.record(spec, failure(spec))
    path = store.run_path(spec) / "failure.json"
    assert RecordedRun(path.parent).failure == failure(spec).error
    for content in ("", "null", "{}", '{"error": 3}', "[" * 100_000):
        path.write_text(content)
        assert f"the reason cannot be read: {path} is damaged" in str(RecordedRun(path.parent).failure)


def test_what_a_run_was_tested_on_is_recorded_with_it(run: RecordedRun) -> None:
    assert run.facts == FACTS
    assert run.facts.chance == pytest.approx(1 / 3)
    for other, alike in (
        (DataFacts(["x", "y", "z"], NUM_TEST), True),
        (DataFacts(CLASSES, NUM_TEST, "ffff"), False),
        (DataFacts(CLASSES, 3, "0a1b"), False),
        (DataFacts(["x"], NUM_TEST, "0a1b"), False),
    ):
        assert run.facts.like(other) is alike


def test_a_damaged_record_is_named_once_and_others_are_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    specs = [make_spec(seed) for seed in range(3)]
    play(StoreSink(store), specs)
    path = store.run_path(specs[1]) / "summary.json"
    path.write_text("[]")
    for _ in range(2):
        assert {run.run_id for run in store.runs()} == {specs[0].run_id, specs[2].run_id}
        assert store.find(specs[1].run_id) is None
        assert len(store.latest(3)) == 2
    assert caplog.text.count(str(path)) == 1
    assert len(re.findall("counts as not finished", caplog.text)) == 1


def test_the_configuration_reads_back_whole(run: RecordedRun) -> None:
    assert yaml.safe_load((run.path / "config.yaml").read_text()) == run.config
    assert run.settings["optim.lr"] == 0.01
    assert run.settings["study.levels"]["optim.lr"] == 0.1


def test_damage_found_in_another_process_comes_home_with_its_sentence(tmp_path: Path) -> None:
    damage = pickle.loads(pickle.dumps(DamagedRecord(tmp_path / "summary.json", "it is empty")))
    assert str(damage) == f"{tmp_path / 'summary.json'} is damaged: it is empty."
