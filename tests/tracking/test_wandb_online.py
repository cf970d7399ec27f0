"""Online runs against a server on the loopback interface, and what happens when the server is away or says no."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bnexp.config.schema import WandbConfig
from tests.tracking.conftest import Standin
from tests.tracking.records import Recording, make_spec, play, wandb_id
from tests.tracking.wandb_file import read_all

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning"),  # of wandb's artifacts
]


def make_sink(config: WandbConfig | None = None) -> Recording:
    return Recording(config)


def test_with_a_key_runs_arrive_at_the_server(wandb_server: Standin) -> None:
    specs = [make_spec(0), make_spec(1, arm="none")]
    sink = make_sink()
    play(sink, specs)
    for spec in specs:
        run = wandb_server.runs[wandb_id(spec)]
        assert (run.group, run.job_type, run.display_name) == (
            "demo",
            spec.arm,
            spec.label,
        )
        assert run.tags == ["mnist", "lenet", "demo", "0a1b2c"]
        assert run.config["norm"]["kind"] == spec.arm
        assert [(row["_step"], row["epoch"]) for row in run.history] == [(10, 1), (20, 2), (30, 3)]
        assert (run.summary["val/accuracy"], run.summary["best/val/accuracy"]) == (0.5, 0.9)
        assert run.exit_code == 0
    assert sink.messages == [f"W&B: {wandb_server.url}/somebody/bnexp"]


def test_tables_refer_to_shared_pictures_and_weights_are_uploaded(wandb_server: Standin) -> None:
    specs = [make_spec(0), make_spec(1)]
    play(make_sink(WandbConfig(artifacts=True)), specs)
    shown: set[int] = set()
    for name in map(wandb_id, specs):
        table = wandb_server.artifact(f"run-{name}-predictions")
        content = json.loads(table.files["predictions.table.json"])
        assert content["columns"][:2] == ["image_id", "image"]
        shown |= {row[0] for row in content["data"]}
        assert list(table.files) == ["predictions.table.json"]  # its pictures are those of another artifact
        references = [item["ref"] for item in table.manifest["contents"].values() if "ref" in item]
        assert len(references) == len(content["data"])
        assert wandb_server.artifact(f"model-{name}").files["model.safetensors"]
    versions = [item for item in wandb_server.artifacts.versions if item.collection == "images-mnist"]
    assert sum(len(item.files) for item in versions) == len(shown)
    assert {item.state for item in wandb_server.artifacts.versions} == {"COMMITTED"}


def test_the_users_project_and_entity_win(wandb_server: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    spec = make_spec()
    play(make_sink(WandbConfig(project="mine", entity="me")), [spec])
    run = wandb_server.runs[wandb_id(spec)]
    assert (run.project, run.entity) == ("theirs", "team")


def test_the_configured_entity_is_used(wandb_server: Standin) -> None:
    spec = make_spec()
    play(make_sink(WandbConfig(project="mine", entity="me")), [spec])
    run = wandb_server.runs[wandb_id(spec)]
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
    assert set(read_all(wandb_home)) == {wandb_id(spec) for spec in specs}
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
    assert read_all(wandb_home)[wandb_id(spec)].summary["status"] == "finished"
    assert len(sink.messages) == 2


@pytest.fixture
def unused_port() -> int:
    """A port on which nobody listens."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
