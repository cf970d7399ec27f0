"""CSV files: what is taken for a run, a setting, a metric and the seed."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import bnexp
from bnexp.comparison.columns import metric_columns, setting_columns
from bnexp.comparison.loading import load_runs
from bnexp.config.schema import ConfigError
from bnexp.tracking.foreign.csv_table import Columns, read_csv
from bnexp.tracking.foreign.importing import import_runs
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.store import Store, StoreSink
from tests.tracking.records import make_spec, play

WIDE = """norm,lr,weight_decay,seed,test_accuracy,loss
batch,0.1,1e-4,0,0.95,0.2
batch,0.1,1e-4,1,0.96,0.19
none,0.1,1e-4,0,0.90,inf
none,0.1,1e-4,1,0.91,
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def read(path: Path, text: str, **chosen: Any) -> list[Any]:
    return read_csv(write(path, text), Columns(**chosen))


def test_one_row_for_each_run_can_be_compared(tmp_path: Path, runs: Path) -> None:
    done = import_runs([write(tmp_path / "my results.csv", WIDE)])
    assert [(run.study, run.action, run.seed) for run in done.runs] == [("my_results", "new", k % 2) for k in range(4)]
    table = load_runs().sort("norm", "seed")
    assert setting_columns(table) == ["norm", "lr", "weight_decay", "study.levels"]
    assert metric_columns(table) == ["test_accuracy", "loss"]
    assert table.select("norm", "lr", "seed", "test_accuracy", "loss").rows() == [
        ("batch", 0.1, 0, 0.95, 0.2),
        ("batch", 0.1, 1, 0.96, 0.19),
        ("none", 0.1, 0, 0.90, float("inf")),
        ("none", 0.1, 1, 0.91, None),
    ]
    (found,) = bnexp.compare(table, arm="norm", baseline="none", metric="test_accuracy").comparisons
    assert (found.n, found.difference) == (2, pytest.approx(5))


def test_importing_again_changes_only_what_has_changed(tmp_path: Path, runs: Path) -> None:
    path = write(tmp_path / "r.csv", WIDE)
    import_runs([path])
    before = {file: file.stat().st_mtime_ns for file in runs.rglob("*.*")}
    assert {run.action for run in import_runs([path]).runs} == {"unchanged"}
    assert {file: file.stat().st_mtime_ns for file in runs.rglob("*.*")} == before
    write(path, WIDE.replace("0.95", "0.97") + "none,0.1,1e-4,2,0.92,0.3\n")
    assert [run.action for run in import_runs([path]).runs] == ["updated", "unchanged", "unchanged", "unchanged", "new"]
    assert sorted(load_runs()["test_accuracy"]) == [0.90, 0.91, 0.92, 0.96, 0.97]


def test_another_file_of_the_same_name_replaces_nothing(tmp_path: Path, runs: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = write(tmp_path / "a" / "r.csv", WIDE), write(tmp_path / "b" / "r.csv", WIDE.replace("0.95", "0.5"))
    done = import_runs([first, second])
    assert (len(done.runs), done.lost) == (4, 4)
    assert f"imported before, from {first} into" in done.problems[0]
    first.rename(tmp_path / "a" / "old")  # as if the file had been moved to b
    assert [run.action for run in import_runs([second]).runs] == ["updated"] * 4


def test_one_row_for_each_epoch_with_a_run_column(tmp_path: Path, runs: Path) -> None:
    text = "run,norm,seed,epoch,lr,val_acc\na,batch,7,1,0.1,50\na,batch,7,2,0.01,\nb,none,7,1,0.1,40\nb,none,7,2,0.01,45\n"
    import_runs([write(tmp_path / "log.csv", text)])
    rows = load_runs().sort("source.name").select("source.name", "norm", "seed", "epoch", "val_acc", "lr").rows()
    assert rows == [("a", "batch", 7, 2.0, 50.0, 0.01), ("b", "none", 7, 2.0, 45.0, 0.01)]
    (path,) = load_runs().filter(pl.col("norm") == "none")["path"]
    assert RecordedRun(Path(path)).metrics() == [
        {"step": 1, "epoch": 1, "val_acc": 40, "lr": 0.1},
        {"step": 2, "epoch": 2, "val_acc": 45, "lr": 0.01},
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("net,seed,epoch,lr,acc\na,0,1,.2,1\na,0,2,.1,2\na,1,1,.2,3\na,1,2,.1,4", [({"net": "a"}, 0, 2), ({"net": "a"}, 1, 2)]),
        ("lr,epoch,acc\n.1,1,1\n.1,2,2\n.2,1,3\n.2,2,4", [({"lr": 0.1}, None, 2), ({"lr": 0.2}, None, 2)]),
        ("epoch,step,train_loss,val_acc\n0,49,.5,\n0,49,,90\n1,99,.4,\n1,99,,91", [({}, None, 4)]),  # Lightning's logger
        ("epoch,accuracy,loss,learning_rate\n0,.5,1,.1\n1,.6,.9,.01", [({}, None, 2)]),  # Keras's
        ("lr,seed,epoch,acc\n.1,0,17,1\n.1,1,9,2\n.2,0,30,3", [({"lr": 0.1}, 0, 0), ({"lr": 0.1}, 1, 0), ({"lr": 0.2}, 0, 0)]),
        ("name,seed,epoch,acc\na,0,1,1\na,0,2,2\na,1,1,3\na,1,2,4", [({"name": "a"}, 0, 2), ({"name": "a"}, 1, 2)]),
        ("name,seed,acc\na,0,1\na,1,2\nb,0,3", [({"name": "a"}, 0, 0), ({"name": "a"}, 1, 0), ({"name": "b"}, 0, 0)]),
        ("name;random_state;testAcc\na;0;1\nb;0;2", [({}, 0, 0), ({}, 0, 0)]),
    ],
)  # fmt: skip
def test_rows_are_epochs_or_runs(tmp_path: Path, text: str, expected: list[Any]) -> None:
    found = read(tmp_path / "r.csv", text)
    seeds = [run.config.pop(run.seed_key) if run.seed_key else None for run in found]
    assert [(run.config, seed, len(run.history)) for run, seed in zip(found, seeds, strict=True)] == expected


@pytest.mark.parametrize(
    ("text", "metrics"),
    [
        ("net,acc\na,nan\nb,-inf\nc, 0.5\nd,1e-3\n", [float("nan"), -float("inf"), 0.5, 1e-3]),
        ("\ufeffnet;acc\r\na;0,5\r\nb;12\r\n", [0.5, 12]),
        ("net\tacc\na\tNA\n\nb\t7\n", [None, 7]),
        ('net,acc\n"a, ""b""\n",7\n', [7]),
    ],
)
def test_numbers_are_read_as_programs_write_them(tmp_path: Path, text: str, metrics: list[float | None]) -> None:
    found = [run.metrics.get("acc") for run in read(tmp_path / "r.csv", text)]
    assert found == pytest.approx(metrics, nan_ok=True)


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (("", "NA", "null", "flip"), [None, "NA", "null", "flip"]),  # written in different ways, so they may differ
        (("NA", "NA", "flip"), [None, None, "flip"]),
        (("", "NA", "null", "3"), [None, None, None, 3]),
        (("NaN", "", "0.5"), [None, None, 0.5]),  # NaN equals nothing, not even another NaN
    ],
)
def test_what_stands_for_nothing_is_null_unless_it_is_written_in_several_ways(
    tmp_path: Path, cells: tuple[str, ...], values: list[Any]
) -> None:
    text = "augment,acc\n" + "".join(f"{cell},{number}\n" for number, cell in enumerate(cells))
    assert [run.config["augment"] for run in read(tmp_path / "r.csv", text)] == values


def test_names_of_columns_are_those_that_are_meant(tmp_path: Path) -> None:
    text = ',"a""b", lr ,"x, y",acc\n0,1,2,3,4\n1,2,3,4,5\n'
    first, second = read(tmp_path / "r.csv", text)  # pandas writes an index without a name
    assert (first.config, first.metrics) == ({'a"b': 1, "lr": 2, "x, y": 3}, {"acc": 4})
    assert math.isnan(second.seconds)


LIGHTNING = """epoch,step,train_loss,val_acc,lr-SGD
,0,,,0.1
0,0,1.0,,
0,1,0.5,,
0,1,,0.5,
,2,,,0.05
1,2,0.4,,
1,3,0.3,,
1,3,,0.6,
"""


def test_a_log_of_lightning_is_one_run_with_the_settings_beside_it(tmp_path: Path, runs: Path) -> None:
    for seed in (0, 1):
        folder = tmp_path / "logs" / "mnist" / f"version_{seed}"
        folder.mkdir(parents=True)
        write(folder / "metrics.csv", LIGHTNING)
        write(folder / "hparams.yaml", f"norm: batch\nseed: {seed}\n")
    write(folder / "hparams.yaml", "norm: !!python/name:os.system ''\n")
    done = import_runs([tmp_path / "logs"])
    assert [(run.study, run.name, run.seed) for run in done.runs] == [("mnist", "version_0", 0), ("mnist", "version_1", None)]
    (problem,) = done.problems
    assert "version_1/hparams.yaml is damaged" in problem
    row = load_runs().sort("source.name").row(0, named=True)
    assert [row[name] for name in ("norm", "val_acc", "train_loss", "epoch", "lr-SGD")] == ["batch", 0.6, 0.3, 1.0, 0.05]
    assert len((runs / "mnist" / row["run"] / "metrics.jsonl").read_text().splitlines()) == 8


def test_a_log_of_keras_is_called_like_its_file(tmp_path: Path, runs: Path) -> None:
    for seed in (0, 1):
        write(tmp_path / f"batch_seed{seed}.csv", "epoch,accuracy,loss,val_accuracy\n0,0.4,1.1,0.5\n1,0.6,1.0,0.7\n")
    done = import_runs([tmp_path / "batch_seed0.csv", tmp_path / "batch_seed1.csv"], study="keras")
    assert [(run.arm, run.seed) for run in done.runs] == [("batch", 0), ("batch", 1)]
    assert load_runs()["val_accuracy"].to_list() == [0.7, 0.7]


def test_a_table_of_mlflow_names_its_metrics_itself(tmp_path: Path) -> None:
    text = (
        "run_id,status,end_time,metrics.q,params.seed,params.size_weight\n"
        "4ce0b84f,FINISHED,2026-11-22 08:40:00.855+00:00,0.72,2,9\n"
    )
    (run,) = read(tmp_path / "runs.csv", text)
    assert (run.metrics, run.seed_key, run.config) == (
        {"metrics.q": 0.72},
        "params.seed",
        {"params.seed": 2} | {"params.size_weight": 9},
    )
    assert run.finished == 1795336800.855


def test_a_table_of_guild_has_times_that_are_no_settings(tmp_path: Path, runs: Path) -> None:
    text = "run,operation,started,time,status,label,lr,norm,seed,accuracy\n"
    for norm, values in {"none": (0.5, 0.61), "batch": (0.7, 0.8)}.items():
        for seed, value in enumerate(values):
            said = f"2026-11-22 08:38:5{seed},0:01:0{seed},completed,norm={norm} seed={seed}"
            text += f"{norm}{seed},train.py,{said},0.1,{norm},{seed},{value}\n"
    first, *_ = read(tmp_path / "r.csv", text)
    start = datetime(2026, 11, 22, 8, 38, 50).timestamp()
    assert (first.status, first.seconds, first.finished) == ("finished", 60.0, start)
    import_runs([tmp_path / "r.csv"])
    (found,) = bnexp.compare(load_runs(), metric="accuracy").comparisons
    assert ({found.arm, found.baseline}, found.n) == ({"batch", "none"}, 2)


def test_a_table_of_dvc_has_runs_only_for_experiments(tmp_path: Path) -> None:
    text = (
        "Experiment,rev,typ,Created,parent,State,Executor,accuracy,norm,seed,train.py\n"
        ",workspace,baseline,,,,,0.97,batch,5,65f7\n"
        ",master,baseline,2026-11-22T08:39:26,,,,!,none,0,\n"
        "silty-jags,c266a2c,branch_commit,2026-11-22T08:49:53,,Success,Dvc-task,0.97,batch,5,65f7\n"
        "empty-ulna,5530dc7,branch_base,2026-11-22T08:48:34,,Success,Dvc-task,!,none,0,65f7\n"
    )
    found = {run.name: (run.metrics, run.config) for run in read(tmp_path / "r.csv", text)}
    assert found == {
        "silty-jags": ({"accuracy": 0.97}, {"norm": "batch", "train.py": "65f7", "seed": 5}),
        "empty-ulna": ({}, {"norm": "none", "train.py": "65f7", "seed": 0}),
    }


def test_the_user_says_what_a_column_is(tmp_path: Path) -> None:
    text = "exp,rep,depth,acc,q\nx,3,18,1,2\ny,4,18,5,6\n"
    first, _ = read(tmp_path / "r.csv", text, metrics=("q", "depth"), seed="rep", run="exp")
    assert (first.name, first.config, first.metrics, first.seed_key) == (
        "x",
        {"acc": 1, "rep": 3},
        {"q": 2, "depth": 18},
        "rep",
    )


def test_state_time_and_arm_are_facts(tmp_path: Path, runs: Path) -> None:
    text = (
        "Name,State,Created,Runtime,group,accuracy\nx,crashed,2026-01-02T03:04:05Z,9,g,1\ny,finished,2026-01-02T03:04:06Z,,g,2"
    )
    import_runs([write(tmp_path / "wandb_export.csv", text)])
    table = load_runs().sort("source.name")
    assert table.select("arm", "status", "source.state", "finished_at", "seconds").rows() == [
        ("g", "failed", "crashed", "2026-01-02T03:04:05+0000", 9.0),
        ("g", "finished", "finished", "2026-01-02T03:04:06+0000", None),
    ]


def test_a_status_in_words_of_its_own_is_a_setting(tmp_path: Path) -> None:
    (run, _) = read(tmp_path / "r.csv", "status,acc\nfinished,1\nquick,2\n")
    assert (run.state, run.status, run.config) == ("", "finished", {"status": "finished"})


def test_the_table_of_our_own_runs_adds_nothing(tmp_path: Path, runs: Path) -> None:
    store = Store()
    spec = make_spec(3)
    play(StoreSink(store), [spec])
    load_runs().write_csv(tmp_path / "runs.csv")
    assert [(run.run, run.action) for run in import_runs([tmp_path / "runs.csv"]).runs] == [(spec.run_id, "own")]
    assert len(load_runs()) == 1


@pytest.mark.parametrize(
    ("content", "chosen", "reason"),
    [
        (b"", {}, "it is empty"),
        (b"\x89PNG\0\0,\n", {}, "it is no table of runs"),
        (b"a,b\n1,2\n1,2,3\n", {}, "it is no table with a line of names and equally long rows"),
        (
            b"a,b\n1,2\n",
            {},
            "no column of numbers sounds like a metric, such as accuracy or test_loss; name them with --metrics",
        ),
        (b"a,b\n1,2\n", {"metrics": ("c",)}, "has no column c: it has a, b."),
        (b"a,acc\nx,2\n", {"metrics": ("a",)}, "the column a cannot be a metric: not all its values are numbers."),
        (b"acc\n", {}, "it has no rows"),
    ],
)
def test_what_is_no_table_of_runs_is_refused(tmp_path: Path, content: bytes, chosen: dict[str, Any], reason: str) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_csv(path, Columns(**chosen))
    assert reason in str(error.value)
    assert str(path) in str(error.value)
