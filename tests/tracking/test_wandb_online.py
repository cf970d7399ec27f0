"""Online runs against a server on the loopback interface, and what happens when the server is away or says no."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

from bnexp.config.schema import WandbConfig
from bnexp.tracking.wandb.sink import WandbSink
from tests.tracking.fake_wandb import FakeWandb, fake_wandb
from tests.tracking.records import CLASSES, images, make_records, make_spec, play
from tests.tracking.wandb_file import read, read_all

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning"),  # of wandb's artifacts
]


@pytest.fixture
def server(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWandb]:
    """A fake server that this process has a key for."""
    with fake_wandb() as fake:
        monkeypatch.setenv("WANDB_BASE_URL", fake.url)
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked for a key"))
        yield fake


def make_sink(config: WandbConfig | None = None) -> WandbSink:
    return WandbSink(config or WandbConfig(), study_id="0a1b2c", class_names=CLASSES, images=images, num_predictions=16)


def test_with_a_key_runs_arrive_at_the_server(server: FakeWandb) -> None:
    specs = [make_spec(0), make_spec(1, arm="none")]
    sink = make_sink()
    play(sink, specs)
    assert server.unknown == []
    for spec in specs:
        run = server.runs[spec.run_id]
        assert (run.fields["groupName"], run.fields["jobType"], run.fields["displayName"]) == (
            "demo-0a1b2c",
            spec.arm,
            spec.label,
        )
        assert run.fields["tags"] == ["mnist", "lenet", "demo"]
        assert run.config["norm"]["kind"] == spec.arm
        assert [(row["_step"], row["epoch"]) for row in run.history] == [(10, 1), (20, 2), (30, 3)]
        assert run.summary["val/accuracy"] == {"max": 0.9, "last": 0.5}
        assert run.exit_code == 0
    assert sink.messages == [f"W&B: {server.url}/somebody/bnexp"]


def test_tables_images_and_weights_are_uploaded(server: FakeWandb) -> None:
    spec = make_spec()
    play(make_sink(WandbConfig(artifacts=True)), [spec])
    assert server.unknown == []
    name = f"run-{spec.run_id}-predictions"
    assert server.committed == {name, f"run-{spec.run_id}-confusion_matrix_table", f"model-{spec.run_id}"}
    table = json.loads(server.files[f"{name}/predictions.table.json"])
    sent = {path for path in server.files if path.startswith(f"{name}/media/images/")}
    assert len(sent) == len(table["data"])
    assert server.files[f"model-{spec.run_id}/model.safetensors"]


def test_the_users_project_and_entity_win(server: FakeWandb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    spec = make_spec()
    play(make_sink(WandbConfig(project="mine", entity="me")), [spec])
    fields = server.runs[spec.run_id].fields
    assert (fields["project"], fields["entity"]) == ("theirs", "team")


def test_the_configured_entity_is_used(server: FakeWandb) -> None:
    spec = make_spec()
    play(make_sink(WandbConfig(project="mine", entity="me")), [spec])
    assert (server.runs[spec.run_id].fields["project"], server.runs[spec.run_id].fields["entity"]) == ("mine", "me")


@pytest.mark.parametrize("status", [401, 500])
def test_a_server_that_says_no_turns_runs_offline(
    server: FakeWandb, wandb_home: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    server.status = status
    specs = [make_spec(0), make_spec(1)]
    sink = make_sink()
    play(sink, specs)
    assert set(read_all(wandb_home)) == {spec.run_id for spec in specs}
    first, last = sink.messages
    assert first.startswith("W&B: no access, so runs are recorded offline: ")
    assert last.startswith("W&B: 2 runs are recorded offline; upload with: wandb sync ")


def test_a_server_that_is_away_turns_runs_offline(
    server: FakeWandb, wandb_home: Path, monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{unused_port}")
    spec = make_spec()
    sink = make_sink()
    play(sink, [spec])
    assert read_all(wandb_home)[spec.run_id].summary["status"] == "finished"
    assert len(sink.messages) == 2


@pytest.fixture
def unused_port() -> int:
    """A port on which nobody listens."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_run_that_the_server_refuses_goes_offline_under_a_new_id(server: FakeWandb, wandb_home: Path) -> None:
    spec, later = make_spec(0), make_spec(1)
    server.refused.add(spec.run_id)
    sink = make_sink()
    play(sink, [spec])
    (run_id,) = read_all(wandb_home)
    assert run_id.startswith(f"{spec.run_id}-")
    assert "did not take a run" in sink.messages[0]
    assert "recorded offline" in sink.messages[-1]
    assert later.run_id not in server.runs


def test_a_server_lost_in_the_middle_leaves_what_can_be_synced(
    server: FakeWandb, wandb_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "2")
    spec = make_spec()
    records = make_records(spec, diverged_at=17)
    sink = make_sink()
    sink.begin([spec])
    sink.record(spec, records[0])
    assert server.announced.wait(30)
    server.status = 500
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    for record in records[1:]:
        sink.record(spec, record)
    sink.close()
    (folder,) = wandb_home.glob(f"run-*-{spec.run_id}")
    assert f"W&B: 1 run is recorded offline; upload with: wandb sync {folder}" in sink.messages
    wandb.teardown()
    assert read(folder).summary["status"] == "diverged"
