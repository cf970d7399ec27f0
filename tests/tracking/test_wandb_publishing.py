"""Recorded runs are brought to W&B once, whoever trained them, and what W&B lost comes again."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import wandb

import bnexp
from bnexp.config.options import WandbMode
from bnexp.config.schema import TrackConfig, WandbConfig
from bnexp.data.images import ImagesById
from bnexp.metrics import EpochPredictions, RunStopped
from bnexp.tracking.records import METRICS, WEIGHTS, DataFacts, RecordedRun
from bnexp.tracking.store import Store, StoreSink
from bnexp.tracking.wandb import publishing
from bnexp.tracking.wandb.content import Member, model_name, run_content
from bnexp.tracking.wandb.holding import Item, OnServer
from bnexp.tracking.wandb.publishing import Publisher
from bnexp.tracking.wandb.sending import replay, send
from bnexp.tracking.wandb.session import WandbSession
from tests.tracking.records import (
    CLASSES,
    NUM_TEST,
    Recording,
    failure,
    images,
    make_predictions,
    make_records,
    make_spec,
    play,
    wandb_id,
)
from tests.tracking.standin import Standin
from tests.tracking.wandb_file import read_all

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning"),  # of wandb's artifacts
]

OFFLINE = WandbConfig(mode=WandbMode.offline)


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Two recorded runs of the study ``demo``, which W&B knows nothing of."""
    specs = [make_spec(seed) for seed in range(2)]
    store = Store(tmp_path / "runs")
    play(StoreSink(store, "bnexp study demo", DataFacts(CLASSES, NUM_TEST, "content")), specs)
    return [Item(RecordedRun(store.run_path(spec)), Member.of_spec(spec)) for spec in specs]


def publish(items: Sequence[Item], wandb: WandbConfig | None = None) -> tuple[int, WandbSession]:
    """Publish what is missing; how many runs that were."""
    session = WandbSession(wandb or WandbConfig())
    publisher = Publisher(session, TrackConfig(16), lambda _: images)
    missing = publisher.missing(items)
    assert [problem for _, _, problem in publisher.publish(missing) if problem] == []
    return len(missing), session


def test_what_the_server_has_is_not_sent_again_and_what_it_lost_is(wandb_server: Standin, items: list[Item]) -> None:
    addresses = []
    for sent in (2, 0):
        found, session = publish(items)
        session.report()
        addresses.append(session.messages)
        assert found == sent
    assert addresses[0] == addresses[1], "where the runs are is told again"
    assert addresses[0][0].startswith("W&B: http")
    wandb_server.delete_run(items[0].id)
    assert publish(items)[0] == 1
    assert publish(items)[0] == 0  # although the run could not have its id again
    (again,) = [run for name, run in wandb_server.runs.items() if name.startswith(f"{items[0].id}-")]
    assert [(row["_step"], row["epoch"]) for row in again.history] == [(10, 1), (20, 2), (30, 3)]
    assert (again.summary["val/accuracy"], again.config["origin"]["command"]) == (0.5, "bnexp study demo")


def test_runs_that_an_interrupted_publishing_left_open_are_named(wandb_server: Standin, items: list[Item]) -> None:
    session = WandbSession(WandbConfig())
    run = session.open({"id": items[0].id, "group": "demo"}, alone=False)
    publisher = Publisher(WandbSession(WandbConfig()), TrackConfig(16))
    assert publisher.missing(items) == items[1:]
    (told,) = publisher.session.messages
    assert told.startswith("W&B: 1 run of these is open there: another process sends them now, or was interrupted")
    session.finish(run, 0)


def test_runs_that_are_sent_at_once_share_their_pictures(wandb_server: Standin, items: list[Item]) -> None:
    looked: list[str] = []

    def pictures(record: RecordedRun) -> ImagesById:
        looked.append(record.run_id)
        time.sleep(0.3)  # so that the other run asks meanwhile
        return images

    publisher = Publisher(WandbSession(WandbConfig()), TrackConfig(16), pictures)
    assert [action for _, action, _ in publisher.publish(items)] == ["sent", "sent"]
    assert len(looked) == 1
    shown: set[int] = set()
    for item in items:
        content = json.loads(wandb_server.artifact(f"run-{item.id}-predictions").files["predictions.table.json"])
        assert content["columns"][:2] == ["image_id", "image"]
        shown |= {row[0] for row in content["data"]}
    versions = [item for item in wandb_server.artifacts.versions if item.type == "dataset"]
    assert sum(len(item.files) for item in versions) == len(shown)


def test_what_is_made_from_weights_names_them(wandb_server: Standin, items: list[Item]) -> None:
    item, config = items[0], WandbConfig(artifacts=True)
    publish([item], config)
    publisher = Publisher(WandbSession(config), TrackConfig())
    content = run_content(item.record, item.member, TrackConfig())
    publisher.put(replace(content, id="study-77", uses=(model_name(item.id),)), item.record)
    used = wandb_server.runs["study-77"].used
    assert wandb_server.artifact(model_name(item.id)).id in used


def test_another_group_changes_where_runs_are_filed_and_sends_nothing(wandb_server: Standin, items: list[Item]) -> None:
    publish(items)
    session = WandbSession(WandbConfig())
    session.finish(session.open({"id": "study-77", "group": "demo"}, alone=False), 0)
    before = {name: list(run.history) for name, run in wandb_server.runs.items()}
    other = Publisher(WandbSession(WandbConfig(group="ours")), TrackConfig(16))
    assert other.missing(items, look_only=True) == []
    assert other.holds_study("demo", "77", look_only=True)
    assert {run.group for run in wandb_server.runs.values()} == {"demo"}
    assert other.missing(items) == []
    assert other.holds_study("demo", "77")
    assert not other.holds_study("demo", "78")
    assert {run.group for run in wandb_server.runs.values()} == {"ours"}
    assert {name: run.history for name, run in wandb_server.runs.items()} == before
    assert other.session.messages == [
        "W&B: 2 runs of these were in another group (demo) and changed to the wanted one.",
        "W&B: 1 run of these was in another group (demo) and changed to the wanted one.",
    ]


@pytest.mark.parametrize("how", ["incomplete", "crashed", "incomplete, of another id"])
def test_a_run_that_the_server_lacks_a_part_of_is_replaced_by_the_whole_one(
    wandb_server: Standin, items: list[Item], how: str
) -> None:
    if "another id" in how:
        wandb_server.deleted.add(items[0].id)
    publish(items[:1])
    (held,) = wandb_server.runs.values()
    held.history = held.history[:2]
    if how == "crashed":
        held.exit_code, held.crashed = None, True
    else:
        held.tags = [*held.tags, "incomplete"]
    assert publish(items[:1])[0] == 1
    assert list(wandb_server.runs) == [held.name]
    assert [(row["_step"], row["epoch"]) for row in held.history] == [(10, 1), (20, 2), (30, 3)]
    assert "incomplete" not in held.tags


def test_of_several_runs_of_an_experiment_the_complete_one_counts_and_what_is_in_the_group_is_asked_for_once() -> None:
    own = [
        SimpleNamespace(id=f"aaaaaaaaaaaa-99e509{more}", state=state, tags=[])
        for more, state in (("", "crashed"), ("-1f2e", "finished"))
    ]
    for listed in (own, own[::-1]):
        api: Any = Mock(runs=Mock(return_value=listed))
        found = OnServer(api, "us/bnexp").find("demo", {"aaaaaaaaaaaa-99e509": "aaaaaaaaaaaa"})
        assert found["aaaaaaaaaaaa-99e509"].state == "finished"
        api.runs.assert_called_once_with("us/bnexp", filters={"group": "demo"}, per_page=500)


@pytest.mark.parametrize("mode", [WandbMode.online, WandbMode.offline])
def test_a_run_that_was_trained_as_a_run_of_another_id_is_not_sent_once_more(
    wandb_server: Standin, wandb_home: Path, monkeypatch: pytest.MonkeyPatch, mode: WandbMode
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "my-run")
    spec = make_spec()
    with Recording(WandbConfig(mode=mode)) as recording:
        play(recording, [spec])
    monkeypatch.delenv("WANDB_RUN_ID")
    wandb.teardown()  # as in another process
    item = Item(RecordedRun(recording.store.run_path(spec)), Member.of_spec(spec))
    grown = Item(item.record, Member("demo", ("0a1b2c", "3d4e"), "batch", item.member.levels))
    assert [publish([item], WandbConfig(mode=mode))[0] for item in (item, grown, grown)] == [0, int(mode == "offline"), 0]
    held = wandb_server.runs if mode is WandbMode.online else read_all(wandb_home)
    assert list(held) == ["my-run"]
    assert "3d4e" in held["my-run"].tags


def test_what_does_not_arrive_in_time_is_neither_called_sent_nor_marked_as_uploaded(
    wandb_server: Standin, wandb_home: Path, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(items[:1], OFFLINE)
    wandb.teardown()  # as in another process
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "1")
    wandb_server.faults.hang(on=["stream"])
    publisher = Publisher(WandbSession(WandbConfig()), TrackConfig(16))
    assert [(action, problem) for _, action, problem in publisher.publish(items[:1])] == [("incomplete", "")]
    publisher.session.report()
    assert publisher.session.messages[-1] == "W&B: the server lacks part of 1 run; send it with: bnexp publish"
    assert list(wandb_home.glob("*/*.synced")) == []


def test_a_run_that_could_not_be_sent_whole_is_sent_again(
    wandb_server: Standin, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "send", lambda *_: [][0])
    publisher = Publisher(WandbSession(WandbConfig()), TrackConfig(16))
    ((_, action, problem),) = publisher.publish(items[:1])
    assert (action, problem) == ("failed", "list index out of range")
    monkeypatch.setattr(publishing, "send", send)
    assert publish(items[:1])[0] == 1
    assert "incomplete" not in wandb_server.runs[items[0].id].tags


def test_ctrl_c_leaves_no_run_open_on_the_server_and_begins_no_other(
    wandb_server: Standin, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> None:
        monkeypatch.setattr(publishing, "send", send)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        send(*arguments)

    monkeypatch.setattr(publishing, "send", interrupted)
    monkeypatch.setattr(publishing, "AT_ONCE", 1)
    publisher = Publisher(WandbSession(WandbConfig()), TrackConfig(16))
    sent: list[tuple[Item, str, str]] = []
    with pytest.raises(KeyboardInterrupt):
        sent.extend(publisher.publish(items * 4))
    assert {run.state for run in wandb_server.runs.values()} == {"finished"}
    assert {item.id for item, _, _ in sent} == set(wandb_server.runs)
    assert len(sent) < len(items * 4)


def test_a_run_of_two_studies_is_in_both_groups_and_knows_those_that_have_grown(
    wandb_server: Standin, items: list[Item]
) -> None:
    publish(items[:1])
    other = [Item(items[0].record, Member("other", ("77",), "shared", {}))]
    grown = [Item(item.record, Member("demo", ("0a1b2c", "3d4e"), "batch", item.member.levels)) for item in items]
    assert publish([*grown, *other])[0] == 2
    held = {(run.group, run.job_type, run.config["seed"]): run for run in wandb_server.runs.values()}
    assert set(held) == {("demo", "batch", 0), ("demo", "batch", 1), ("other", "shared", 0)}
    assert held["demo", "batch", 0].tags[-2:] == ["0a1b2c", "3d4e"]
    assert held["demo", "batch", 0].config["study_ids"] == ["0a1b2c", "3d4e"]


def test_an_uploaded_offline_run_is_written_again_for_a_study_that_it_does_not_know(
    wandb_home: Path, items: list[Item]
) -> None:
    publish(items[:1], OFFLINE)
    (folder,) = wandb_home.glob("offline-run-*")
    (folder / f"run-{items[0].id}.wandb.synced").touch()
    assert publish(items[:1], OFFLINE)[0] == 0
    grown = Item(items[0].record, Member("demo", ("0a1b2c", "3d4e"), "batch", items[0].member.levels))
    done, session = publish([grown], OFFLINE)
    session.report()
    assert done == 1
    assert session.messages[-1].startswith("W&B: 1 run is recorded offline; upload with: wandb sync ")
    (run,) = read_all(wandb_home).values()
    assert {"0a1b2c", "3d4e"} <= set(run.tags)


def test_offline_runs_are_written_once_for_each_project(
    wandb_home: Path, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert publish(items, OFFLINE)[0] == 2
    assert publish(items, OFFLINE)[0] == 0
    (folder,) = wandb_home.glob(f"offline-run-*-{items[0].id}")
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    assert publish(items, OFFLINE)[0] == 1
    monkeypatch.setenv("WANDB_PROJECT", "another")
    assert publish(items, OFFLINE)[0] == 2


def test_wandb_sync_uploads_what_is_written_offline_also_from_another_place(
    wandb_server: Standin, items: list[Item], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("WANDB_DIR")
    publish(items[:1], OFFLINE)
    wandb.teardown()  # as in another process
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    (folder,) = Path("wandb").glob("offline-run-*")
    done = subprocess.run(["wandb", "sync", str(folder)], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    run = wandb_server.runs[items[0].id]
    assert (run.group, run.display_name, run.state) == ("demo", "batch lr=0.1 seed=0", "finished")
    assert [(row["_step"], row["epoch"]) for row in run.history] == [(10, 1), (20, 2), (30, 3)]
    assert (run.summary["val/accuracy"], run.summary["best/val/accuracy"]) == (0.5, 0.9)
    artifact = wandb_server.artifact(f"run-{run.name}-predictions")
    table = json.loads(artifact.files["predictions.table.json"])
    address = f"wandb-client-artifact://{artifact.client_id}/predictions.table.json"
    assert run.summary["predictions"]["artifact_path"] == address
    assert table["columns"][:3] == ["image_id", "truth", "prediction"]
    assert table["nrows"] == len(table["data"]) > 0
    assert run.files[run.summary["predictions"]["path"]]


@pytest.mark.parametrize("wandb_dir", ["", "logs"])
def test_tables_are_synced_from_any_directory_whatever_wandb_dir_says(
    wandb_server: Standin, items: list[Item], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wandb_dir: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_DIR", wandb_dir)
    publish(items[:1], OFFLINE)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    wandb.teardown()  # else wandb sync would use our wandb-core, which looks from its own directory
    (folder,) = (tmp_path / wandb_dir / "wandb").glob("offline-run-*")
    done = subprocess.run(["wandb", "sync", str(folder)], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    table = json.loads(wandb_server.artifact(f"run-{items[0].id}-predictions").files["predictions.table.json"])
    assert table["nrows"] > 0


@pytest.mark.parametrize("sent_before", [False, True])
def test_what_was_written_offline_and_the_server_has_is_left_alone_by_wandb_sync(
    wandb_server: Standin, wandb_home: Path, items: list[Item], sent_before: bool
) -> None:
    if sent_before:
        publish(items[:1])
        wandb.teardown()  # as in another process
    publish(items[:1], OFFLINE)
    wandb.teardown()
    assert publish(items[:1])[0] == (not sent_before)
    (folder,) = wandb_home.glob("offline-run-*")
    assert (folder / f"run-{items[0].id}.wandb.synced").exists()


def test_a_recorded_run_is_replayed_into_the_run_of_a_sweep(
    wandb_server: Standin, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = wandb_server.add_sweep("method: grid\nparameters: {seed: {values: [0]}}\n")
    monkeypatch.setenv("WANDB_SWEEP_ID", sweep.name)
    monkeypatch.setenv("WANDB_RUN_ID", "point")
    session = WandbSession(WandbConfig(tags=["mine"]))
    run = session.open({"id": items[0].id, "tags": ["swept"]}, alone=True)
    content = replay(items[0].record, run, TrackConfig(16, wandb=session.config), images=images)
    session.finish(run, content.exit_code)
    held = wandb_server.runs["point"]
    assert [row["val/accuracy"] for row in held.history] == [0.5, 0.9, 0.5]
    assert held.summary["val/accuracy"] == 0.5
    assert {"swept", "mine", "demo"} <= set(held.tags)


def test_tags_of_the_environment_add_and_group_notes_and_job_type_can_be_chosen(
    wandb_home: Path, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_TAGS", "a, b")
    chosen = WandbConfig(mode=WandbMode.offline, tags=["mine"], group="ours", notes="why", job_type="ablation")
    publish(items[:1], chosen)
    (run,) = read_all(wandb_home).values()
    assert (run.run.run_group, run.run.notes, run.run.job_type) == ("ours", "why", "ablation")
    assert run.tags[-3:] == ["mine", "a", "b"]


@pytest.mark.parametrize("online", [False, True])
def test_tables_during_training_are_shown_at_their_epoch(wandb_server: Standin, wandb_home: Path, online: bool) -> None:
    spec = make_spec()
    start, first, second, *rest = make_records(spec)
    shown = EpochPredictions(spec.run_id, 2, 20, make_predictions(5))
    with Recording(WandbConfig(mode=WandbMode.online if online else WandbMode.offline)) as recording:
        recording.begin([spec])
        for record in (start, first, second, shown, *rest):
            recording.record(spec, record)
    history = wandb_server.runs[wandb_id(spec)].history if online else read_all(wandb_home)[wandb_id(spec)].history
    tables = {row["epoch"]: row["predictions"] for row in history if "predictions" in row}
    assert list(tables) == [2, 3]
    assert tables[2]["sha256"] != tables[3]["sha256"]
    assert recording.messages[0].startswith("W&B: http" if online else "W&B: 1 run is recorded offline")


@pytest.mark.parametrize("machine", [False, True])
def test_only_on_request_does_wandb_record_machine_and_code(wandb_home: Path, machine: bool) -> None:
    run = WandbSession(WandbConfig(mode=WandbMode.offline, machine=machine)).open({"id": "one"}, alone=False)
    settings = run.settings
    assert (settings.x_disable_machine_info, settings.disable_git, settings.x_disable_stats) == (not machine,) * 3
    run.finish()


def test_a_look_at_what_is_missing_changes_nothing_on_the_server(
    wandb_server: Standin, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(items[:1])
    before = list(wandb_server.runs[items[0].id].tags)
    grown = Item(items[0].record, Member("demo", ("0a1b2c", "3d4e"), "batch", items[0].member.levels))
    publisher = Publisher(WandbSession(WandbConfig()), TrackConfig(16))
    assert publisher.missing([grown], look_only=True) == []
    assert wandb_server.runs[items[0].id].tags == before
    monkeypatch.setenv("WANDB_RUN_GROUP", "ours")
    looked = bnexp.publish(dry_run=True, runs_dir=items[0].record.path.parents[1])
    assert (looked.count("there"), wandb_server.runs[items[0].id].group) == (1, "demo")


@pytest.mark.parametrize("mode", [WandbMode.online, WandbMode.offline])
def test_a_run_that_had_failed_and_finished_later_is_sent_again(
    wandb_server: Standin, wandb_home: Path, mode: WandbMode
) -> None:
    spec = make_spec()
    start, first, *_ = records = make_records(spec)
    with Recording(WandbConfig(mode=mode)) as recording:
        recording.begin([spec])
        for record in (start, first, failure(spec)):
            recording.record(spec, record)
    sink = StoreSink(recording.store, "bnexp train", DataFacts(CLASSES, NUM_TEST, "content"))  # W&B is switched off meanwhile
    sink.begin([spec])
    for record in records:
        sink.record(spec, record)
    sink.close()
    item = Item(RecordedRun(recording.store.run_path(spec)), Member.of_spec(spec))
    wandb.teardown()  # as in another process
    assert publish([item], WandbConfig(mode=mode))[0] == 1
    assert publish([item], WandbConfig(mode=mode))[0] == 0
    if mode is WandbMode.online:
        held = wandb_server.runs[item.id]
        assert held.state == "finished"
        assert ("failed" in held.tags, held.summary["status"], "error" in held.summary) == (False, "finished", False)
        assert [row["epoch"] for row in held.history] == [1, 2, 3]
    else:
        (run,) = read_all(wandb_home).values()
        assert ("failed" in run.tags, run.summary["status"]) == (False, "finished")


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_a_run_without_a_result_can_be_published(wandb_home: Path, tmp_path: Path, status: str) -> None:
    spec = make_spec()
    store = Store(tmp_path / "runs")
    ending = failure(spec) if status == "failed" else RunStopped(spec.run_id, 1, {"train/loss": 2.0}, 0.5)
    sink = StoreSink(store, "bnexp study demo", DataFacts(CLASSES, NUM_TEST, "content"), stopped_by="sweep-1")
    sink.begin([spec])
    for record in (*make_records(spec)[:2], ending):
        sink.record(spec, record)
    sink.close()
    for select in ([spec.run_id], []):
        (published,) = bnexp.publish(select, status=status, dry_run=not select, runs_dir=store.root).runs
        assert (published.id, published.study) == (wandb_id(spec), "demo")
    (run,) = read_all(wandb_home).values()
    assert (run.summary["status"], status in run.tags) == (status, True)


def test_publishing_to_a_second_project_keeps_what_waits_for_the_first(
    wandb_server: Standin, wandb_home: Path, items: list[Item]
) -> None:
    first, second = (WandbConfig(mode=WandbMode.offline, project=name) for name in ("first", "second"))
    publish(items[:1], first)
    publish(items[:1], second)
    assert [publish(items[:1], config)[0] for config in (first, second)] == [0, 0]
    assert len(list(wandb_home.glob("offline-run-*"))) == 2
    wandb.teardown()  # as in another process
    publish(items[:1], WandbConfig(project="second"))
    synced = {path.parent.name for path in wandb_home.glob("*/*.synced")}
    assert len(synced) == 1  # the copy for the first project is still to be uploaded


def test_two_processes_may_write_the_same_runs_at_once(wandb_home: Path, items: list[Item]) -> None:
    publishers = [Publisher(WandbSession(OFFLINE), TrackConfig(16)) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda publisher: list(publisher.publish(items * 10)), publishers))
    assert {action for result in results for _, action, _ in result} == {"written"}
    assert len(list(wandb_home.glob("offline-run-*"))) == 2


@pytest.mark.parametrize("run_id", [None, "one"])
def test_the_variables_of_a_sweep_are_not_meant_for_runs_that_are_published(
    wandb_server: Standin, items: list[Item], monkeypatch: pytest.MonkeyPatch, run_id: str | None
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", wandb_server.add_sweep("method: grid\nparameters: {seed: {values: [0]}}\n").name)
    if run_id:
        monkeypatch.setenv("WANDB_RUN_ID", run_id)
    assert publish(items)[0] == 2
    assert set(wandb_server.runs) == {item.id for item in items}


@pytest.mark.parametrize("name", ["MODE", "RUN_ID", "SWEEP_ID", "NAME", "TAGS", "PROJECT", "ENTITY", "DIR", "DATA_DIR"])
def test_an_empty_variable_says_nothing(
    wandb_server: Standin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"WANDB_{name}", "")
    session = WandbSession(WandbConfig())
    assert (session.online, session.messages) == (True, [])


def test_a_run_without_epochs_has_its_final_metrics_and_its_origin_and_weights_if_wanted(items: list[Item]) -> None:
    record, member = items[0].record, items[0].member
    weights = record.path / WEIGHTS
    weights.write_bytes(b"x")
    assert [item.path for item in run_content(record, member, TrackConfig(0)).artifacts] == []
    wanted = TrackConfig(0, wandb=WandbConfig(artifacts=True))
    assert [item.path for item in run_content(record, member, wanted).artifacts] == [weights]
    weights.unlink()
    assert run_content(record, member, wanted).artifacts == ()

    (record.path / METRICS).write_text('{"step": 6, "train/loss": 0.5}\n')
    content = run_content(record, member, TrackConfig(0))
    ((step, row),) = content.history
    assert (step, row["epoch"], row["test/accuracy"]) == (6, 0.2, 0.8)
    assert row["_timestamp"] == pytest.approx(content.started + 0.2 * content.seconds)
    assert content.exit_code == 0
    environment = record.summary.environment
    git = {name.removeprefix("git_"): value for name, value in environment.items() if name.startswith("git_")}
    assert content.config["origin"].get("git", {}) == git
    assert content.config["origin"]["torch"] == environment["torch"]
