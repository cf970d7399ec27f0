"""What a sweep leaves when it cannot train, and what it tells of runs that were recorded before. Nothing trains here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bnexp.comparison.sweep.record import SWEEP, load
from bnexp.config.schema import WandbConfig
from bnexp.data.download import DataError
from bnexp.data.shown import Prepared
from bnexp.plan.session import session
from bnexp.plan.spec import RunSpec
from bnexp.plan.sweep.file import load_file
from bnexp.plan.sweep.points import SweepPlan, plan_sweep
from bnexp.run import runner
from bnexp.run.sweep.bring import train_and_bring
from bnexp.run.sweep.listener import Listener
from bnexp.run.sweep.rounds import Rounds
from bnexp.tracking.store import Store
from bnexp.tracking.wandb.session import WandbSession

METRIC = {"name": "val/loss", "goal": "minimize", "target": 0.01}
GRID = {"method": "grid", "metric": METRIC, "parameters": {"norm": {"values": ["none", "batch"]}}}


class Told(Listener):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def told(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepPlan:
    monkeypatch.setattr(runner, "unfinished", lambda specs, *_: list(specs))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(GRID))
    with session(["data=digits"]) as hydra:
        return plan_sweep(hydra, load_file(str(tmp_path / "mine.yaml")), None, 0)


def rounds(plan: SweepPlan, store: Store) -> Rounds:
    """Both points, one after the other: the first one could reach the target."""
    return Rounds(plan, store, Listener(), 2, 1, "bnexp sweep mine")


def test_a_sweep_that_cannot_begin_leaves_no_record_and_takes_no_earlier_one_away(
    plan: SweepPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_reach(*_: Any) -> Any:
        raise DataError("there is no network")

    store = Store(tmp_path / "runs")
    monkeypatch.setattr(runner, "run", out_of_reach)
    with pytest.raises(DataError):
        rounds(plan, store).run()
    assert not list(store.root.rglob("*"))
    monkeypatch.setattr(runner, "run", lambda specs, *_: {spec.run_id: runner.RunError("no memory") for spec in specs})
    rounds(plan, store).run()
    (path,) = store.root.rglob(SWEEP)
    monkeypatch.setattr(runner, "run", out_of_reach)
    with pytest.raises(DataError):
        rounds(plan, store).run()
    assert path.exists()


def test_a_sweep_that_cannot_go_on_keeps_the_points_that_it_has_tried(
    plan: SweepPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(specs: list[RunSpec], *_: Any) -> Any:
        if list(store.root.rglob(SWEEP)) and load(next(store.root.rglob(SWEEP)).parent).trials[0].state == "failed":
            raise DataError("there is no network")
        return {spec.run_id: runner.RunError("no memory") for spec in specs}

    store = Store(tmp_path / "runs")
    monkeypatch.setattr(runner, "run", once)
    with pytest.raises(DataError):
        rounds(plan, store).run()
    (path,) = store.root.rglob(SWEEP)
    assert [trial.state for trial in load(path.parent).trials] == ["failed", "missing"]


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_what_is_recorded_already_goes_to_w_and_b_and_its_problems_are_told(
    plan: SweepPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    brought: list[list[RunSpec]] = []

    def bring(specs: list[RunSpec], *_: Any) -> list[str]:
        brought.append(specs)
        return ["W&B: the server is full."]

    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setattr(runner, "run", lambda specs, *_: {})
    monkeypatch.setattr("bnexp.report.publish.bring_recorded", bring)
    first, second = (spec for number in (1, 2) for spec in plan.specs(list(plan.points())[number - 1], [0]))
    listener, wandb = Told(), WandbSession(WandbConfig())
    train_and_bring([first, second], [second], Store(tmp_path / "runs"), Prepared(), listener, wandb)
    assert (brought, listener.lines) == (([[first]], ["W&B: the server is full."]) if mode == "offline" else ([], []))
