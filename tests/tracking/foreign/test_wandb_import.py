"""Offline runs of W&B: what W&B wrote is what the table of runs shows."""

from __future__ import annotations

import json
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2

from bnexp.comparison.columns import metric_columns
from bnexp.comparison.loading import load_runs
from bnexp.config.schema import ConfigError
from bnexp.tracking.foreign.importing import import_runs
from bnexp.tracking.records import RecordedRun


def write_log(path: Path, *records: Any) -> Path:
    """A log of records: LevelDB's chunks, whole or first, middle and last parts, none across the end of a block of 32 KiB."""
    content = b":W&B\xe1\xbe\0"
    for data in (record.SerializeToString() for record in records):
        position = 0
        while position < len(data):
            room = 32768 - len(content) % 32768 - 7
            if room < 0:
                content += b"\0" * (room + 7)
                continue
            chunk = data[position : position + room]
            first, last = position == 0, position + len(chunk) == len(data)
            kind = 1 if first and last else 2 if first else 4 if last else 3
            content += struct.pack("<IHB", zlib.crc32(chunk, zlib.crc32(bytes([kind]))), len(chunk), kind) + chunk
            position += len(chunk)
    path.write_bytes(content)
    return path


def record(kind: str, **values: Any) -> Any:
    found = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
    getattr(found, kind).SetInParent()
    for name, value in values.items():
        setattr(getattr(found, kind), name, value)
    return found


def updated(found: Any, items: Any, values: dict[str, Any]) -> Any:
    for name, value in values.items():
        items.add(key=name, value_json=value if isinstance(value, str) else json.dumps(value))
    return found


def named_run(config: dict[str, Any], **values: Any) -> Any:
    found = record("run", **({"run_id": "q1w2e3r4", "project": "p"} | values))
    return updated(found, found.run.config.update, config)


def history(step: int, values: dict[str, Any]) -> Any:
    found = record("history")
    found.history.step.num = step
    return updated(found, found.history.item, values)


def test_the_runs_of_a_project_stand_in_the_table_as_wandb_recorded_them(samples: Path, runs: Path) -> None:
    done = import_runs([samples / "wandb"])
    assert [(run.run, run.action, run.study) for run in done.runs] == [
        (f"wandb-abcd000{k}", "new", "my_nets") for k in range(3)
    ]
    table = load_runs()
    facts = ["run", "arm", "seed", "status", "source", "source.name", "source.group", "source.job_type", "source.tags"]
    shared = ("wandb", "train", '["paper", "v1"]')
    assert table.select(facts).rows() == [
        ("wandb-abcd0000", "bn", 0, "finished", "wandb", "bn s0", "bn", *shared[1:]),
        ("wandb-abcd0001", "bn", 1, "finished", "wandb", "bn s1", "bn", *shared[1:]),
        ("wandb-abcd0002", "none", None, "failed", "wandb", "none", None, *shared[1:]),
    ]
    settings = ["lr", "optimizer.name", "optimizer.momentum", "layers", "config.status"]
    assert table.select(settings).row(1) == (0.1, "sgd", 0.9, "[16, 32]", "draft")
    metrics = ["best.epoch", "epoch", "loss", "metric.lr", "val.f1", "val/acc", "val/acc.max"]
    assert metric_columns(table) == metrics  # no histogram, no text
    assert table.select(metrics).row(1) == pytest.approx((2, 3, 0.25, 0.1 / 3, 0.5, 95.0, 96.5))
    assert math.isnan(table["loss"][2])
    assert table["finished_at"].str.starts_with("2026-11-22T05:38:54").all()


def test_the_history_has_wandb_s_steps_and_the_epochs(samples: Path, runs: Path) -> None:
    import_runs([samples / "wandb"])
    rows = RecordedRun(runs / "my_nets" / "wandb-abcd0000").metrics()
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert [row.get("epoch") for row in rows] == [1, 2, 3, None]
    assert [row["loss"] for row in rows] == [1, 0.5, pytest.approx(1 / 3), 0.25]
    assert [row.get("val/acc") for row in rows] == [90, 95.5, 94, None]


def test_of_a_file_that_is_cut_off_anywhere_the_whole_records_are_read(samples: Path, runs: Path) -> None:
    (path,) = samples.glob("wandb/*0000/*.wandb")
    content = path.read_bytes()
    lengths = []
    for length in [*range(0, len(content), 211), len(content) - 1]:
        path.write_bytes(content[:length])
        if length < 373:  # before the record that names the run is whole
            with pytest.raises(ConfigError, match=f"^{path} is damaged: "):
                import_runs([path])
            continue
        (run,) = import_runs([path]).runs
        assert run.status == "failed"
        lengths.append(len(RecordedRun(run.path).metrics()))
    assert lengths == sorted(lengths)
    assert set(lengths) == {0, 1, 2, 3, 4}
    path.write_bytes(content)
    (run,) = import_runs([path]).runs
    assert (run.action, run.status, run.notes) == ("updated", "finished", [])


@pytest.mark.parametrize("cut", [90, 600])  # the end of the run alone is lost; half of the history is
def test_a_copy_that_holds_less_replaces_no_record(samples: Path, runs: Path, cut: int) -> None:
    (path,) = samples.glob("wandb/*0000/*.wandb")
    import_runs([path])
    before = {file: file.read_bytes() for file in runs.rglob("*.*")}
    path.write_bytes(path.read_bytes()[:-cut])
    done = import_runs([path], study="elsewhere")
    assert [(run.action, run.study) for run in done.runs] == [("unchanged", "my_nets")]
    assert done.problems[-1] == f"{path}: it holds no more of the run bn s0 than is recorded, so the record stays as it is."
    assert {file: file.read_bytes() for file in runs.rglob("*.*")} == before


def test_a_damaged_record_is_named_and_what_is_before_it_counts(samples: Path, runs: Path) -> None:
    (path,) = samples.glob("wandb/*0000/*.wandb")
    content = bytearray(path.read_bytes())
    content[-600] ^= 1
    path.write_bytes(content)
    done = import_runs([samples / "wandb"])
    assert len(done.runs) == 3
    assert done.problems == [f"{path}: the checksum of a record is wrong; what is before it was read."]
    content[9] ^= 1  # of the first record
    path.write_bytes(content)
    done = import_runs([samples / "wandb"])
    assert (len(done.runs), done.lost) == (2, 1)
    assert done.problems == [f"{path} is damaged: the checksum of a record is wrong."]


def test_records_that_span_blocks_are_joined(tmp_path: Path, runs: Path) -> None:
    parts = [named_run({"long": json.dumps("x" * 80_000), "lr": 0.5}), history(0, {"loss": 1.5})]
    write_log(tmp_path / "run.wandb", *parts)
    (run,) = import_runs([tmp_path / "run.wandb"]).runs
    assert run.notes == []
    (row,) = load_runs().to_dicts()
    assert (row["lr"], row["loss"], len(row["long"])) == (0.5, 1.5, 10_003)


def test_names_that_mean_something_else_here_get_a_prefix_and_nothing_is_lost(tmp_path: Path, runs: Path) -> None:
    config = {
        "run": 1,
        "study.arm": '"a"',
        "seed": -1,
        "lr": 0.5,
        "learning_rate": 3,
        "optim.lr": '"auto"',
        "a": {"b": 1},
        "a.b": 2,
    }
    values = {"lr": 0.25, "status": 7, "step": 5, "seconds": 2, "optim.lr": 9, "learning_rate": 1e-3}
    write_log(tmp_path / "x.wandb", named_run(config), history(0, values))
    import_runs([tmp_path / "x.wandb"])
    (row,) = load_runs().to_dicts()
    settings = {"config.run": 1, "config.study.arm": "a", "config.seed": -1, "lr": 0.5, "config.learning_rate": 3, "a.b": 1}
    settings |= {"config.optim.lr": "auto", "config.a.b": 2}
    metrics = {"metric.lr": 0.25, "metric.status": 7, "metric.step": 5, "metric.seconds": 2, "metric.optim.lr": 9}
    assert {name: row[name] for name in settings} == settings
    assert {name: row[name] for name in (*metrics, "learning_rate")} == metrics | {"learning_rate": 1e-3}
    assert row["seed"] is None
    (line,) = RecordedRun(Path(row["path"])).metrics()
    assert line == {"step": 0, "learning_rate": 1e-3, **metrics}


def test_a_hostile_run_stays_in_the_store_and_is_read_again(tmp_path: Path, runs: Path) -> None:
    config = {
        "../../x": 1, "": 2, "<<": 3, "deep": json.dumps([[[]]] * 9), "n": "1e999", "big": "1" * 400, "bell\x1b[2J": "\x1b]0;",
        "lone": r'"\ud800"', "bad": "{", "yes": '"yes"', "date": '"2020-01-01"', "nan": "NaN", "k" * 5000: 1, "empty": {},
        "nested": "[" * 50_000 + "]" * 50_000,
    }  # fmt: skip
    values = {"huge": "1e200", "inf": "-Infinity", "../m": 1, "flag": True, "n" * 5000: 2.5}
    path = tmp_path / "y.wandb"
    write_log(
        path, named_run(config, run_id="../../../etc", project="../..", display_name="a\x1b[31m\u202eb"), history(3, values)
    )
    (run,) = import_runs([path]).runs
    assert run.path.parent.parent == runs
    assert [found.name for found in runs.iterdir()] == ["imported"]
    (row,) = load_runs().to_dicts()
    assert (row["../../x"], row["config."], row["<<"], row["lone"], row["bad"]) == (1, 2, 3, "?", None)
    assert (row["yes"], row["date"], row["empty"], row["big"]) == ("yes", "2020-01-01", "{}", math.inf)
    assert (row["huge"], row["inf"], row["../m"], row["flag"]) == (math.inf, -math.inf, 1, 1)
    assert math.isnan(row["nan"])
    assert max(map(len, row)) <= 207
    assert import_runs([path]).runs[0].action == "unchanged"


def test_settings_that_change_in_training_are_the_last_ones(tmp_path: Path, runs: Path) -> None:
    later = record("config")
    updated(later, later.config.update, {"lr": 0.2, "gone": 1})
    nested = record("config")
    nested.config.update.add(nested_key=["model", "depth"], value_json="18")
    nested.config.remove.add(key="gone")
    done = record("exit", exit_code=0)
    path = write_log(tmp_path / "z.wandb", named_run({"lr": 0.1, "model": {"name": "r"}}), later, nested, done)
    import_runs([path])
    assert RecordedRun(runs / "p" / "wandb-q1w2e3r4").settings | {"study.levels": 0} == {
        "lr": 0.2,
        "model.name": "r",
        "model.depth": 18,
        "study.name": "p",
        "study.arm": "p",
        "study.levels": 0,
    }


def test_ids_that_users_chose_are_told_apart_by_project(tmp_path: Path, runs: Path) -> None:
    for project in ("one", "two"):
        write_log(tmp_path / f"{project}.wandb", named_run({}, run_id="run-1", project=project), history(0, {"loss": 1}))
    first, second = import_runs([tmp_path / "one.wandb", tmp_path / "two.wandb"]).runs
    assert first.run != second.run
    assert len(load_runs()) == 2


def test_a_run_with_too_many_settings_is_named(tmp_path: Path, runs: Path) -> None:
    for number in (5_000, 5_001):
        config = {f"k{k}": k for k in range(number)}
        write_log(tmp_path / f"{number}.wandb", named_run(config, run_id=f"many{number}"))
    done = import_runs(sorted(tmp_path.glob("*.wandb")))
    assert ([run.run for run in done.runs], done.lost) == (["wandb-many5000"], 1)
    assert done.problems == [f"{tmp_path}/5001.wandb: the run many5001 has more than 5,000 settings or metrics."]
