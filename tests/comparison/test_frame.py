"""Recorded runs as a table, and what comparing its rows gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from bnexp.comparison.columns import metric_columns, setting_columns, unit_of
from bnexp.comparison.frame import compare
from bnexp.comparison.loading import load_runs
from bnexp.config.schema import ConfigError


def record(runs: Path, run_id: str, config: dict[str, Any], **keys: Any) -> None:
    path = runs / "made" / run_id
    path.mkdir(parents=True)
    summary = {"run_id": run_id, "study": "made", "data": "digits", "arm": "none", "levels": {"lr": 0.1}, "seed": 3}
    rest = {"status": "finished", "metrics": {"test/accuracy": 0.9}, "seconds": 1.5, "finished_at": "2026-01-01T00:00:00+0000"}
    (path / "summary.json").write_text(json.dumps(summary | rest | keys))
    (path / "config.yaml").write_text(yaml.safe_dump(config | {"study": {"name": "made"}}))


def test_a_row_holds_the_facts_the_settings_and_the_metrics_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"data": {"root": None}, "model": {"channels": [6, 16]}, "optim": {"lr": 0.1}, "seed": 3}
    record(tmp_path, "aaa", config, class_names=["a", "b"], num_test=40, data_fingerprint="f")
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(tmp_path))
    (row,) = load_runs().to_dicts()
    assert list(row.items()) == [
        ("run", "aaa"),
        ("study", "made"),
        ("arm", "none"),
        ("seed", 3),
        ("status", "finished"),
        ("finished_at", "2026-01-01T00:00:00+0000"),
        ("seconds", 1.5),
        ("num_classes", 2),
        ("num_test", 40),
        ("path", str(tmp_path / "made" / "aaa")),
        ("source", "bnexp"),
        ("data.root", None),
        ("model.channels", "[6, 16]"),
        ("optim.lr", 0.1),
        ("study.levels", "lr=0.1"),
        ("test/accuracy", 0.9),
    ]


def test_an_imported_run_stands_beside_our_own_and_its_columns_tell_what_they_are(tmp_path: Path) -> None:
    record(tmp_path, "aaa", {"optim": {"lr": 0.1}, "seed": 3})
    source = {"tool": "wandb", "path": "x.wandb", "id": "q1", "name": "calm-sun-1", "tags": ["a, b"]}
    foreign = {"seed": None, "seconds": float("nan"), "finished_at": "", "status": "failed", "levels": {}, "source": source}
    record(tmp_path, "wandb-q1", {"lr": 0.1, "depth": [1]}, **foreign, metrics={"val_accuracy": 93.4, "loss": None})
    runs = load_runs(tmp_path)
    own, imported = runs.to_dicts()
    assert [imported[name] for name in ("seed", "status", "seconds", "source")] == [None, "failed", None, "wandb"]
    assert (imported["source.name"], imported["source.tags"], imported["source.group"]) == ("calm-sun-1", '["a, b"]', None)
    assert (own["source.name"], own["lr"], imported["lr"], imported["val_accuracy"]) == (None, None, 0.1, 93.4)
    assert metric_columns(runs) == ["test/accuracy", "val_accuracy", "loss"]
    assert setting_columns(runs) == ["optim.lr", "study.levels", "depth", "lr"]
    assert [unit_of(runs, name) for name in ("test/accuracy", "val_accuracy", "loss")] == ["pp", "", ""]
    assert metric_columns(runs.filter(pl.col("source") == "bnexp")) == ["test/accuracy"]


def test_a_setting_of_one_import_and_a_metric_of_another_get_two_columns(tmp_path: Path) -> None:
    foreign = {"source": {"tool": "csv", "path": "x.csv", "id": "1"}, "levels": {}}
    record(tmp_path, "csv-1", {"loss": "ce", "config.loss": 1}, **foreign, metrics={"acc": 1.0})
    record(tmp_path, "csv-2", {"acc": 2}, **foreign, metrics={"loss": 0.5})
    runs = load_runs(tmp_path)
    assert runs.select("config.config.loss", "config.loss", "config.acc").rows() == [("ce", 1, None), (None, None, 2)]
    assert runs.select("acc", "loss").rows() == [(1.0, None), (None, 0.5)]
    assert metric_columns(runs) == ["acc", "loss"]


def test_what_only_the_last_of_many_runs_has_is_kept(tmp_path: Path) -> None:
    for number in range(109):
        record(tmp_path, f"r{number:03}", {"norm": {"eps": 1}})
    record(tmp_path, "r109", {"norm": {"eps": 0.5}, "data": {"root": "x"}}, metrics={"val/loss": 0.25})
    runs = load_runs(tmp_path)
    assert runs["norm.eps"].to_list() == [1.0] * 109 + [0.5]
    assert (runs["data.root"].to_list(), runs["val/loss"].to_list()) == ([None] * 109 + ["x"], [None] * 109 + [0.25])


def rows(**keys: Any) -> pl.DataFrame:
    """Six seeds of two arms, of which ``b`` is 1 pp better."""
    found = [
        {"run": f"{arm}{seed}", "arm": arm, "seed": seed, "status": "finished", "norm.kind": arm, "test/accuracy": value}
        for seed in range(6)
        for arm, value in (("a", 0.8 + 0.001 * seed**2), ("b", 0.81 + 0.001 * seed))
    ]
    return pl.DataFrame(found).with_columns(pl.lit(value).alias(name.replace("__", ".")) for name, value in keys.items())


def test_arms_are_compared_by_their_column_with_the_statistics_of_a_study() -> None:
    found = compare(rows(), arm="arm", baseline="b")
    (c,) = found.comparisons
    assert (c.arm, c.baseline, c.measure, c.n, c.direction, c.decides) == ("a", "b", "test/accuracy", 6, "different", True)
    assert c.difference == pytest.approx(-1 + 0.1 * (55 - 15) / 6)
    assert found.question == "Do runs that differ in arm differ in test/accuracy?"
    assert {"name": "comparison", "arms": {"a": [], "b": []}, "factors": {}, "baseline": "b"}.items() <= found.study.items()
    with pytest.raises(ConfigError, match=r"^arm makes the arms, so it cannot be kept apart too: each arm would stand alone"):
        compare(rows(), arm=["norm.kind", "arm"], by=["arm"])
    assert list(compare(rows(), arm="arm", by=["norm.kind"]).study["factors"].items()) == [("norm.kind", ["a", "b"])]


@pytest.mark.parametrize("margin", [0, -1, float("nan"), float("inf")])
def test_a_margin_is_above_zero(margin: float) -> None:
    with pytest.raises(ConfigError, match=f"^margin={margin} is out of range: allowed is a number above 0.$"):
        compare(rows(), margin=margin)


def test_the_margin_is_the_one_given_or_that_of_the_data_set() -> None:
    assert compare(rows(data__margin=0.3)).margin == 0.3
    assert compare(rows(data__margin=0.3), margin=0.1).margin == 0.1


def test_a_diverged_run_counts_at_the_chance_of_its_data_set() -> None:
    lost = pl.col("run") == "b0"
    diverged = rows(num_classes=4).with_columns(
        pl.when(lost).then(pl.lit("diverged")).otherwise("status").alias("status"),
        pl.when(~lost).then("test/accuracy").alias("test/accuracy"),
    )
    (c,) = compare(diverged, baseline="a").comparisons
    assert c.differences[0] == pytest.approx(25 - 80)
