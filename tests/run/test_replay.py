"""A point of a W&B sweep whose run is recorded is answered from its record."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnexp.plan.spec import RunSpec
from bnexp.run.replay import in_sweep, replay_to_sweep
from bnexp.tracking.records import RecordedRun
from tests.tracking.conftest import wandb_home
from tests.tracking.records import Recording, make_spec, play
from tests.tracking.wandb_file import read_all

__all__ = ["wandb_home"]  # the fixture


@pytest.fixture
def recorded(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RunSpec, RecordedRun]:
    """A run that is recorded, but not at W&B, in a process that a sweep's agent has started."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    spec = make_spec()
    sink = Recording()
    play(sink, [spec])
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_RUN_ID", "point")
    return spec, sink.store.records([spec.run_id])[spec.run_id]


def test_an_agent_of_a_sweep_is_known_by_the_variable_that_it_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    assert not in_sweep()
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    assert in_sweep()


def test_the_run_that_the_sweep_waits_for_gets_what_is_recorded(
    recorded: tuple[RunSpec, RecordedRun], wandb_home: Path
) -> None:
    spec, record = recorded
    said, where = replay_to_sweep(spec, record)
    assert said == f"{spec.label} is recorded already and goes to the sweep from its record."
    assert where.startswith("W&B: 1 run is recorded offline; upload with: wandb sync ")
    runs = read_all(wandb_home)
    assert list(runs) == ["point"]
    assert runs["point"].summary["test/accuracy"] == 0.8


def test_what_went_wrong_is_told_and_does_not_end_the_agent(
    recorded: tuple[RunSpec, RecordedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space\nis left")

    monkeypatch.setattr("bnexp.tracking.wandb.publishing.write_run", full)
    spec, record = recorded
    assert replay_to_sweep(spec, record)[1:] == [
        f"W&B: the recorded run {record.run_id} was not sent to the sweep (no space is left)."
    ]


def test_without_w_and_b_nothing_is_sent(
    recorded: tuple[RunSpec, RecordedRun], wandb_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert replay_to_sweep(*recorded) == []
    assert not wandb_home.exists()
