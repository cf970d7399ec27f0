"""What a W&B run holds, read back from the files of offline runs."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import wandb
from PIL import Image

from bnexp.comparison.columns import setting_columns
from bnexp.comparison.loading import load_runs
from bnexp.config.options import WandbMode
from bnexp.config.schema import WandbConfig
from bnexp.metrics import StepMetrics
from bnexp.tracking.foreign.importing import import_runs
from bnexp.tracking.store import Store, StoreSink
from bnexp.tracking.tables import confusion_matrix, disagreements, prediction_frame, sample_images
from bnexp.tracking.wandb.access import key_configured
from bnexp.tracking.wandb.offline import write_run
from bnexp.tracking.wandb.session import WandbSession
from bnexp.tracking.wandb.study import study_content
from bnexp.tracking.wandb.tables import Table, disagreement_table
from tests.tracking.conftest import core_processes
from tests.tracking.records import (
    CLASSES,
    NUM_TEST,
    PIXELS,
    Recording,
    failure,
    images,
    make_predictions,
    make_records,
    make_spec,
    play,
    wandb_id,
)
from tests.tracking.wandb_file import read_all

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning")  # wandb's own

OFFLINE = WandbConfig(mode=WandbMode.offline, tags=["mine"])


def make_sink(config: WandbConfig = OFFLINE, **options: Any) -> Recording:
    return Recording(config, **options)


def table(home: Path, run: Any, key: str) -> pl.DataFrame:
    """A logged table as its JSON file says."""
    (path,) = home.glob(f"*{run.run.run_id}/files/{run.summary[key]['path']}")
    content = json.loads(path.read_text())
    return pl.DataFrame(content["data"], schema=content["columns"], orient="row", infer_schema_length=None)


def test_a_run_is_filed_under_its_study_arm_and_seed(wandb_home: Path) -> None:
    spec = make_spec(seed=3)
    play(make_sink(), [spec])
    run = read_all(wandb_home)[wandb_id(spec)]
    assert (run.run.project, run.run.run_group, run.run.job_type) == ("bnexp", "demo", "batch")
    assert run.run.display_name == "batch lr=0.1 seed=3"
    assert run.tags == ["mnist", "lenet", "demo", "0a1b2c", "mine"]
    assert run.exit_code == 0


def test_no_process_of_wandb_is_started_for_offline_runs(wandb_home: Path) -> None:
    play(make_sink(), [make_spec()])
    assert core_processes() == []
    assert len(read_all(wandb_home)) == 1


def test_the_configuration_is_nested_and_says_what_the_run_is(wandb_home: Path) -> None:
    spec = make_spec()
    play(make_sink(), [spec])
    config = read_all(wandb_home)[wandb_id(spec)].config
    assert config["optim"]["lr"] == spec.config.optim.lr
    assert config["norm"]["kind"] == "batch"
    assert config["levels"] == {"optim_lr": 0.1}
    facts = {
        "run_id": spec.run_id,
        "study": "demo",
        "study_ids": ["0a1b2c"],
        "arm": "batch",
        "num_parameters": 123,
        "device": "cpu",
    }
    assert {name: config[name] for name in facts} == facts
    assert not {"track", "executor"} & set(config)


def test_history_has_a_row_an_epoch_at_its_update_count(wandb_home: Path) -> None:
    spec = make_spec()
    play(make_sink(), [spec])
    rows = read_all(wandb_home)[wandb_id(spec)].history
    assert [(row["_step"], row["epoch"]) for row in rows] == [(10, 1), (20, 2), (30, 3)]
    assert [row["train/loss"] for row in rows] == pytest.approx([1.0, 0.9, 0.8])
    assert rows[-1]["test/accuracy"] == 0.8


def test_the_summary_holds_numbers_and_the_best_ones_apart(wandb_home: Path) -> None:
    """A sweep's search sees nothing of a metric whose summary is a mapping."""
    spec = make_spec()
    play(make_sink(), [spec])
    run = read_all(wandb_home)[wandb_id(spec)]
    assert run.summary["train/loss"] == pytest.approx(0.8)
    assert (run.summary["val/accuracy"], run.summary["best/val/accuracy"]) == (0.5, 0.9)
    assert (run.summary["test/accuracy"], run.summary["status"], run.summary["seconds"]) == (0.8, "finished", 1.5)
    assert "best/test/accuracy" not in run.summary
    assert run.metrics["*"].step_metric == "epoch"


def test_losses_of_steps_are_logged_at_their_step(wandb_home: Path) -> None:
    spec = make_spec()
    spec.config.train.epochs = 1
    start, first, *rest = make_records(spec, epochs=1)
    steps = StepMetrics(spec.run_id, {5: {"train/step_loss": 1.5}, 10: {"train/step_loss": 1.25}})
    with make_sink() as sink:
        sink.begin([spec])
        for record in (start, steps, first, *rest):
            sink.record(spec, record)
    rows = read_all(wandb_home)[wandb_id(spec)].history
    assert [(row["_step"], row["train/step_loss"]) for row in rows] == [(5, 1.5), (10, 1.25)]
    assert [row["epoch"] for row in rows] == [0.5, 1]


def test_the_prediction_table_starts_with_the_worst_mistakes(wandb_home: Path) -> None:
    spec = make_spec()
    play(make_sink(), [spec])
    shown = table(wandb_home, read_all(wandb_home)[wandb_id(spec)], "predictions")
    frame = prediction_frame(make_predictions())
    mistakes = shown.filter(pl.col("shown") == "mistake")
    worst = frame.filter(~pl.col("correct")).sort("loss", descending=True)
    assert mistakes["image_id"].to_list() == worst["image_id"].to_list()[: len(mistakes)]
    assert shown.head(len(mistakes)).equals(mistakes)
    row = shown.row(0, named=True)
    assert row["truth"] == CLASSES[worst["label"][0]]
    assert row["prediction"] == CLASSES[worst["prediction"][0]]
    assert sum(row[f"p {name}"] for name in CLASSES) == pytest.approx(1.0, abs=1e-5)
    assert row["correct"] is False


def test_every_run_shows_the_same_sampled_images(wandb_home: Path) -> None:
    specs = [make_spec(0), make_spec(1, arm="none")]
    play(make_sink(), specs)
    sample = set(sample_images(np.arange(NUM_TEST), 8, "mnist").tolist())
    for run in read_all(wandb_home).values():
        assert sample <= set(table(wandb_home, run, "predictions")["image_id"])


def test_confusion_matrix_and_accuracy_of_each_class(wandb_home: Path) -> None:
    spec = make_spec()
    play(make_sink(), [spec])
    run = read_all(wandb_home)[wandb_id(spec)]
    logged = table(wandb_home, run, "confusion_matrix_table")
    counts = confusion_matrix(prediction_frame(make_predictions()), len(CLASSES))
    assert logged["nPredictions"].to_list() == counts.ravel().tolist()
    assert logged["Actual"].to_list()[:4] == ["cat"] * 3 + ["T-shirt/top"]
    rates = run.summary["test/class_accuracy"]
    assert list(rates.values()) == pytest.approx((np.diag(counts) / counts.sum(1)).tolist())
    assert list(rates) == ["cat", "T-shirt/top", "St_ Bernard"]


def test_no_table_where_none_is_asked_for(wandb_home: Path) -> None:
    spec = make_spec()
    play(make_sink(num_predictions=0), [spec])
    assert "predictions" not in read_all(wandb_home)[wandb_id(spec)].summary


def test_weights_become_a_model_artifact_only_when_asked(wandb_home: Path) -> None:
    from safetensors.numpy import load_file

    specs = [make_spec(0), make_spec(1)]
    play(make_sink(WandbConfig(mode=WandbMode.offline, artifacts=True)), specs[:1])
    play(make_sink(), specs[1:])
    runs = read_all(wandb_home)
    first, second = (wandb_id(spec) for spec in specs)
    artifact = runs[first].artifacts[f"model-{first}"]
    assert artifact.type == "model"
    (file,) = artifact.manifest.contents
    assert file.path == "model.safetensors"
    assert load_file(file.local_path)["conv1.weight"].tolist() == [0, 1, 2, 3]
    assert f"model-{second}" not in runs[second].artifacts


def test_a_diverged_run_is_marked_and_has_no_predictions(wandb_home: Path) -> None:
    spec = make_spec()
    play(make_sink(), [spec], diverged_at=17)
    run = read_all(wandb_home)[wandb_id(spec)]
    assert (run.summary["status"], run.summary["diverged_at"], run.exit_code) == ("diverged", 17, 0)
    assert "diverged" in run.tags
    assert "predictions" not in run.summary
    assert math.isnan(float(run.history[0]["train/loss"]))


@pytest.mark.parametrize("started", [True, False])
def test_a_failed_run_is_marked_with_its_error(wandb_home: Path, started: bool) -> None:
    spec = make_spec()
    with make_sink() as sink:
        sink.begin([spec])
        for record in make_records(spec)[: 2 * started]:
            sink.record(spec, record)
        sink.record(spec, failure(spec))
    run = read_all(wandb_home)[wandb_id(spec)]
    assert (run.summary["status"], run.summary["error"], run.exit_code) == ("failed", failure(spec).error, 1)
    assert "failed" in run.tags


def test_a_run_without_an_end_is_not_written(wandb_home: Path) -> None:
    """It trains again, and is published then."""
    spec = make_spec()
    with make_sink() as sink:
        sink.begin([spec])
        for record in make_records(spec)[:3]:
            sink.record(spec, record)
    assert read_all(wandb_home) == {}


def test_twenty_runs_at_once_do_not_mix(wandb_home: Path) -> None:
    specs = [make_spec(seed) for seed in range(20)]
    sink = make_sink()
    play(sink, specs)
    runs = read_all(wandb_home)
    assert set(runs) == {wandb_id(spec) for spec in specs}
    for spec in specs:
        assert runs[wandb_id(spec)].config["seed"] == spec.seed
        assert [row["epoch"] for row in runs[wandb_id(spec)].history] == [1, 2, 3]
        frame = prediction_frame(make_predictions(spec.seed))
        counts = confusion_matrix(frame, len(CLASSES)).ravel().tolist()
        assert table(wandb_home, runs[wandb_id(spec)], "confusion_matrix_table")["nPredictions"].to_list() == counts
    (message,) = sink.messages
    assert message.startswith("W&B: 20 runs are recorded offline; upload with: wandb sync ")
    assert message.endswith("wandb/offline-run-*")


@pytest.mark.parametrize(
    ("folders", "named"),
    [
        (["offline-run-1"], "offline-run-1"),
        (["offline-run-1", "offline-run-2", "offline-run-3"], "offline-run-1 offline-run-2 offline-run-3"),
        (["offline-run-1", "offline-run-2", "offline-run-3", "offline-run-4"], "offline-run-*"),
        (["offline-run-1", "offline-run-2", "offline-run-3", "run-4"], "offline-run-1 offline-run-2 offline-run-3 run-4"),
    ],
)
def test_what_is_to_be_uploaded_is_named_folder_by_folder_unless_there_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: list[str], named: str
) -> None:
    """Few are named one by one: the same place may hold older runs that the user does not want there."""
    session = WandbSession(OFFLINE)
    for folder in folders:
        settings = SimpleNamespace(sync_dir=str(tmp_path / "my runs" / folder))
        session.finish(SimpleNamespace(settings=settings, offline=True, finish=lambda exit_code: None), 0)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path / "..")
    session.report()
    where = f"'{tmp_path.name}/my runs'/" if "*" in named else f"'{tmp_path.name}/my runs/"
    shown = where + named if "*" in named else " ".join(f"{where}{folder}'" for folder in named.split())
    assert session.messages[0].endswith(f"recorded offline; upload with: wandb sync {shown}")
    session.report()
    assert len(session.messages) == 1


def test_an_error_ends_one_recording_and_is_told_once(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise OSError("no space is left")

    monkeypatch.setattr("bnexp.tracking.wandb.publishing.write_run", broken)
    specs = [make_spec(0), make_spec(1)]
    sink = make_sink()
    play(sink, specs)
    assert sink.messages == ["W&B: recording stopped for 2 runs (no space is left)."]
    assert set(sink.store.finished([spec.run_id for spec in specs])) == {spec.run_id for spec in specs}


def test_a_full_disk_leaves_no_half_written_run_and_keeps_the_earlier_one(
    wandb_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(make_sink(), [make_spec()])
    before = sorted(wandb_home.rglob("*"))

    def full(*_: Any) -> Any:
        raise OSError("no space is left")

    monkeypatch.setattr("bnexp.tracking.wandb.offline._summary", full)
    again = make_sink()
    play(again, [make_spec()])
    assert again.messages == ["W&B: recording stopped for 1 run (no space is left)."]
    assert sorted(wandb_home.rglob("*")) == before


def test_variables_of_the_user_win(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_RUN_GROUP", "their group")
    monkeypatch.setenv("WANDB_JOB_TYPE", "their job")
    monkeypatch.setenv("WANDB_TAGS", "a,b")
    monkeypatch.setenv("WANDB_NAME", "their name")
    monkeypatch.setenv("WANDB_RUN_ID", "theirid")
    monkeypatch.setenv("WANDB_MODE", "offline")
    spec = make_spec()
    play(make_sink(WandbConfig(mode=WandbMode.online)), [spec])
    run = read_all(wandb_home)["theirid"]
    assert (run.run.project, run.run.run_group, run.run.job_type) == ("theirs", "their group", "their job")
    assert (run.run.display_name, run.tags[-2:]) == ("their name", ["a", "b"])
    assert "demo" in run.tags


def test_a_name_and_id_of_the_user_cannot_mean_several_runs(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_NAME", "their name")
    monkeypatch.setenv("WANDB_RUN_ID", "theirid")
    specs = [make_spec(0), make_spec(1)]
    play(make_sink(), specs)
    runs = read_all(wandb_home)
    assert {run_id: run.run.display_name for run_id, run in runs.items()} == {wandb_id(spec): spec.label for spec in specs}


def test_lean_settings_give_way_to_variables(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "7")
    session = WandbSession(OFFLINE)
    run = session.open({"id": "one"}, alone=False)
    assert run.settings.init_timeout == 7
    assert run.settings.console == "off"
    assert run.settings.x_disable_stats
    session.finish(run, 0)


@pytest.mark.parametrize(("mode", "hint"), [(WandbMode.auto, False), (WandbMode.online, True)])
def test_without_a_key_runs_go_offline_and_nobody_is_asked(
    wandb_home: Path, monkeypatch: pytest.MonkeyPatch, mode: WandbMode, hint: bool
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked for a key"))
    spec = make_spec()
    sink = make_sink(WandbConfig(mode=mode))
    play(sink, [spec])
    assert set(read_all(wandb_home)) == {wandb_id(spec)}
    assert any("wandb login" in message for message in sink.messages) == hint
    assert sink.messages[-1].startswith("W&B: 1 run is recorded offline; upload with: wandb sync ")


def test_the_settings_file_of_wandb_counts(wandb_home: Path) -> None:
    folder = wandb_home.parent / "config_dir"
    folder.mkdir()
    (folder / "settings").write_text("[default]\nmode = disabled\n")
    sink = make_sink(WandbConfig())
    play(sink, [make_spec()])
    assert sink.messages == []
    assert list(wandb_home.glob("*run*")) == []


@pytest.mark.parametrize("by_variable", [True, False])
def test_disabled_does_nothing_and_does_not_import_wandb(wandb_home: Path, by_variable: bool) -> None:
    mode = "auto" if by_variable else "disabled"
    program = f"""
import os, sys
if {by_variable}: os.environ["WANDB_MODE"] = "disabled"
from bnexp.config.schema import WandbConfig
from bnexp.comparison.loading import load_runs
from bnexp.config.options import WandbMode
from tests.tracking.test_wandb_offline import make_sink
from tests.tracking.records import make_spec, play
for name in [name for name in sys.modules if name.split(".")[0] == "wandb"]: del sys.modules[name]
sink = make_sink(WandbConfig(mode=WandbMode("{mode}")))
play(sink, [make_spec()])
print("wandb" in sys.modules, sink.messages)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False []\n"
    assert not wandb_home.exists()


def test_a_key_in_netrc_belongs_to_its_host(wandb_home: Path) -> None:
    (wandb_home.parent / "netrc").write_text(f"machine api.wandb.ai login user password {'a' * 40}\n")
    assert key_configured("https://api.wandb.ai")
    assert key_configured("https://api.forge.coreweave.com")
    assert not key_configured("https://wandb.example.org")


@pytest.mark.parametrize("variable", ["WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"])
def test_a_key_in_the_environment_belongs_to_every_host(
    wandb_home: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    assert not key_configured("https://wandb.example.org")
    monkeypatch.setenv(variable, "x")
    assert key_configured("https://wandb.example.org")


def test_a_study_is_one_more_run_with_its_verdict_in_numbers(wandb_home: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<p>It helps.</p>")
    frames = {name: prediction_frame(make_predictions(seed)) for name, seed in (("none", 0), ("batch", 1))}
    content = study_content(
        "demo",
        "0a1b2c",
        OFFLINE,
        config={"question": "Does it help?", "optim": {"lr": 0.1}},
        summary={"answer": "It helps.", "effect": 0.9},
        tables={
            "comparisons": Table(["arm", "difference", "p"], [["batch", 0.9, None]]),
            "disagreements": disagreement_table(disagreements(frames, limit=5), CLASSES),
            "images": Table(["image_id", "truth"], [[3, "cat"], [5, "cat"]], pictured=True, own_pictures=True),
        },
        page="<p>It helps.</p>",
        report=report,
        runs=[],
        concluded=0.0,
    )
    write_run(content, WandbSession(OFFLINE).destination, images)
    run = read_all(wandb_home)["study-0a1b2c"]
    assert (run.run.job_type, run.run.run_group, run.run.display_name) == ("study", "demo", "demo")
    assert (run.config["question"], run.config["optim"]) == ("Does it help?", {"lr": 0.1})
    assert (run.summary["answer"], run.summary["effect"]) == ("It helps.", 0.9)
    assert table(wandb_home, run, "comparisons").rows() == [("batch", 0.9, None)]
    shown = table(wandb_home, run, "disagreements")
    assert (shown["prediction none"] != shown["prediction batch"]).all()
    assert set(shown["prediction none"]) <= set(CLASSES)
    assert run.summary["report"]["_type"] == "html-file"
    (page,) = wandb_home.glob(f"*study-0a1b2c/files/{run.summary['report']['path']}")
    assert page.read_text() == "<p>It helps.</p>"
    (file,) = run.artifacts["report-0a1b2c"].manifest.contents
    assert Path(file.local_path).read_text() == "<p>It helps.</p>"
    pictured = run.artifacts["run-study-0a1b2c-disagreements"].manifest.contents
    assert sum(item.path.endswith(".png") for item in pictured) == len(shown)
    pictures = {item.path: Path(item.local_path) for item in run.artifacts["run-study-0a1b2c-images"].manifest.contents}
    typed = json.loads(pictures.pop("images.table.json").read_text())
    paths = [row[typed["columns"].index("image")]["path"] for row in typed["data"]]
    assert [np.asarray(Image.open(pictures[path])).tobytes() for path in paths] == [PIXELS[i].tobytes() for i in (3, 5)]


def test_an_import_recognises_our_own_runs_and_takes_those_of_others(wandb_home: Path, tmp_path: Path) -> None:
    """Somebody sends the folder ``wandb`` of a study, of which one run is recorded here."""
    specs = [make_spec(seed) for seed in range(2)]
    play(make_sink(num_predictions=0), specs[:1])
    play(make_sink(num_predictions=0), specs[1:], diverged_at=3)
    store = Store(tmp_path / "here")
    play(StoreSink(store), specs[:1])
    wandb.teardown()
    done = import_runs([wandb_home], runs_dir=store.root)
    assert {run.run: str(run.action) for run in done.runs if run.action != "new"} == {specs[0].run_id: "own"}
    own, theirs = load_runs(store.root).sort("seed").to_dicts()
    assert (own["run"], own["source"], theirs["source"]) == (specs[0].run_id, "bnexp", "wandb")
    same = ("study", "arm", "norm.kind", "optim.lr")
    assert [own[name] for name in same] == [theirs[name] for name in same] == ["demo", "batch", "batch", own["optim.lr"]]
    assert (theirs["status"], theirs["seed"], theirs["test/accuracy"]) == ("diverged", 1, 0.8)
    assert set(store.finished([spec.run_id for spec in specs])) == {specs[0].run_id}  # what is imported never counts as trained


def test_runs_of_ours_from_elsewhere_differ_in_settings_only(wandb_home: Path, tmp_path: Path) -> None:
    """Their dates differ too. Taken for settings, these would make an arm of each run."""
    for seed in range(2):
        sink = make_sink(num_predictions=0)
        play(sink, [make_spec(seed)])
    content = study_content(
        "demo",
        "0a1b2c",
        OFFLINE,
        config={"question": "Does it help?", "held": {}, "origin": {"command": "bnexp study demo"}},
        summary={"verdict": "SUPPORTED", "effect": 0.9},
        tables={},
        page="<p></p>",
        report=None,
        runs=[],
        concluded=0.0,
    )
    write_run(content, WandbSession(OFFLINE).destination, images)
    wandb.teardown()
    done = import_runs([wandb_home], runs_dir=tmp_path / "here")
    assert [str(run.action) for run in done.runs if run.action != "new"] == ["own"]  # the study is no training
    runs = load_runs(tmp_path / "here")
    assert runs["seed"].sort().to_list() == [0, 1]
    assert not [name for name in setting_columns(runs) if name.startswith(("origin.", "config.")) or name == "num_parameters"]
