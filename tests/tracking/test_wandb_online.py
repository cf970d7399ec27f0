"""Online runs against a server on the loopback interface, and what happens when the server is away or says no."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bnexp.config.schema import WandbConfig
from bnexp.tracking.wandb.sink import WandbSink
from tests.tracking.conftest import Standin
from tests.tracking.records import CLASSES, images, make_spec, play
from tests.tracking.wandb_file import read_all

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning"),  # of wandb's artifacts
]


def make_sink(config: WandbConfig | None = None) -> WandbSink:
    return WandbSink(config or WandbConfig(), study_id="0a1b2c", class_names=CLASSES, images=images, num_predictions=16)


def test_with_a_key_runs_arrive_at_the_server(wandb_server: Standin) -> None:
    specs = [make_spec(0), make_spec(1, arm="none")]
    sink = make_sink()
    play(sink, specs)
    for spec in specs:
        run = wandb_server.runs[spec.run_id]
        assert (run.group, run.job_type, run.display_name) == (
            "demo-0a1b2c",
            spec.arm,
            spec.label,
        )
        assert run.tags == ["mnist", "lenet", "demo"]
        assert run.config["norm"]["kind"] == spec.arm
        assert [(row["_step"], row["epoch"]) for row in run.history] == [(10, 1), (20, 2), (30, 3)]
        assert run.summary["val/accuracy"] == {"max": 0.9, "last": 0.5}
        assert run.exit_code == 0
    assert sink.messages == [f"W&B: {wandb_server.url}/somebody/bnexp"]


def test_tables_images_and_weights_are_uploaded(wandb_server: Standin) -> None:
    spec = make_spec()
    play(make_sink(WandbConfig(artifacts=True)), [spec])
    name = f"run-{spec.run_id}-predictions"
    assert {item.collection for item in wandb_server.artifacts.versions if item.state == "COMMITTED"} == {
        name,
        f"run-{spec.run_id}-confusion_matrix_table",
        f"model-{spec.run_id}",
    }
    files = wandb_server.artifact(name).files
    table = json.loads(files["predictions.table.json"])
    assert len([path for path in files if path.startswith("media/images/")]) == len(table["data"])
    assert wandb_server.artifact(f"model-{spec.run_id}").files["model.safetensors"]


def test_the_users_project_and_entity_win(wandb_server: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    spec = make_spec()
    play(make_sink(WandbConfig(project="mine", entity="me")), [spec])
    run = wandb_server.runs[spec.run_id]
    assert (run.project, run.entity) == ("theirs", "team")


def test_the_configured_entity_is_used(wandb_server: Standin) -> None:
    spec = make_spec()
    play(make_sink(WandbConfig(project="mine", entity="me")), [spec])
    run = wandb_server.runs[spec.run_id]
    assert (run.project, run.entity) == ("mine", "me")


@pytest.mark.parametrize("status", [401, 500])
def test_a_server_that_says_no_turns_runs_offline(
    wandb_server: Standin, wandb_home: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    wandb_server.faults.fail(status)
    specs = [make_spec(0), make_spec(1)]
    sink = make_sink()
    play(sink, specs)
    assert set(read_all(wandb_home)) == {spec.run_id for spec in specs}
    first, last = sink.messages
    assert first.startswith("W&B: no access, so runs are recorded offline: ")
    assert last.startswith("W&B: 2 runs are recorded offline; upload with: wandb sync ")


def test_a_server_that_is_away_turns_runs_offline(
    wandb_server: Standin, wandb_home: Path, monkeypatch: pytest.MonkeyPatch, unused_port: int
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
