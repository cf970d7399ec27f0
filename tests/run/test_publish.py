"""Which recorded runs ``bnexp publish`` selects, and what it says of each. Offline, so no server is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bnexp.config.schema import ConfigError
from bnexp.plan.spec import RunSpec
from bnexp.run.publish import PublishInterrupted, publish
from bnexp.tracking.claims import Claims
from bnexp.tracking.records import DataFacts
from bnexp.tracking.store import Store, StoreSink
from tests.tracking.conftest import wandb_home  # noqa: F401
from tests.tracking.records import CLASSES, NUM_TEST, make_spec, play
from tests.tracking.wandb_file import read_all

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning")  # wandb's own


@pytest.fixture
def specs(tmp_path: Path, wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunSpec]:  # noqa: F811
    """Three recorded runs, of which no study is recorded; one has diverged."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(tmp_path / "cache"))
    specs = [make_spec(seed) for seed in range(3)]
    for spec in specs:
        facts = DataFacts(CLASSES, NUM_TEST, "content")
        play(StoreSink(Store(), "bnexp study demo", facts), [spec], diverged_at=2 if spec.seed == 1 else None)
        path = Store().run_path(spec) / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"finished_at": f"2026-01-0{spec.seed + 1}T00:00:00+00:00"}))
    return specs


def test_a_dry_run_says_what_would_be_sent_and_the_next_command_finds_it_there(
    specs: list[RunSpec],
    wandb_home: Path,  # noqa: F811
) -> None:
    planned = publish(dry_run=True)
    assert {(run.run, run.action, run.kind, run.study) for run in planned.runs} == {
        (spec.run_id, "missing", "run", "demo") for spec in specs
    }
    assert not wandb_home.exists()
    steps: list[tuple[int, int]] = []
    done = publish(step=lambda count, total: steps.append((count, total)))
    assert (done.count("written"), len(done.runs)) == (3, 3)
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert set(read_all(wandb_home)) == {run.id for run in done.runs}
    without = [line for line in done.messages if "no pictures" in line]
    assert without == ["Tables of mnist have no pictures, because its test images are not on this machine."]
    again = publish()
    assert (again.count("there"), len(again.runs)) == (3, 3)
    assert len([line for line in again.messages if line.startswith("W&B: 3 runs are recorded offline")]) == 1


def test_a_selection_counts(specs: list[RunSpec], tmp_path: Path) -> None:
    def seeds(*words: str, where: str | None = None, last: int | None = None, status: str | None = None) -> list[int]:
        found = publish(words, where=where, last=last, status=status, dry_run=True).runs
        return [spec.seed for spec in specs if spec.run_id in {run.run for run in found}]

    assert seeds(specs[2].run_id[:8]) == [2]
    assert seeds(str(Store().run_path(specs[0])), specs[1].run_id) == [0, 1]
    assert seeds(where="seed > 0") == [1, 2]
    assert seeds(status="diverged") == [1]
    assert seeds(last=1) == [2]
    assert seeds(last=2, where="seed < 2") == [0, 1]
    assert seeds(specs[0].run_id, specs[1].run_id, where="seed = 1") == [1]
    with pytest.raises(ConfigError, match="'nothing' is not a recorded run"):
        seeds("nothing")
    none = publish(where="seed = 7")
    assert (none.runs, none.messages) == (
        [],
        [f"No run in {tmp_path / 'runs'} that has ended fits; bnexp runs lists them all."],
    )


def test_project_and_entity_of_the_command_line_win(specs: list[RunSpec], wandb_home: Path) -> None:  # noqa: F811
    assert publish([specs[0].run_id], project="mine", entity="us").count("written") == 1
    (run,) = read_all(wandb_home).values()
    assert (run.run.project, run.run.entity) == ("mine", "us")
    assert publish([specs[0].run_id], project="mine", entity="us").count("there") == 1
    assert publish([specs[0].run_id], project="mine").count("written") == 1  # another entity lacks it
    assert publish([specs[0].run_id]).count("written") == 1  # another project lacks it


def test_an_imported_run_is_left_to_its_own_tool(specs: list[RunSpec]) -> None:
    path = Store().run_path(specs[0]) / "summary.json"
    source = {"tool": "wandb", "id": "x", "path": "there"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"source": source}))
    found = publish(dry_run=True)
    assert {run.run for run in found.runs} == {spec.run_id for spec in specs[1:]}
    assert found.messages == ["1 imported run is left out: the tool that recorded it has it."]


def test_a_run_that_cannot_be_sent_is_named_and_the_others_go(specs: list[RunSpec]) -> None:
    path = Store().run_path(specs[0]) / "metrics.jsonl"
    path.write_text("{broken\n{broken\n")
    done = publish()
    assert {run.run: run.action for run in done.runs} == {
        specs[0].run_id: "failed",
        specs[1].run_id: "written",
        specs[2].run_id: "written",
    }
    (problem,) = [run.problem for run in done.runs if run.problem]
    assert "metrics.jsonl" in problem


def test_after_ctrl_c_the_rest_is_named_and_sent_by_the_same_command(specs: list[RunSpec]) -> None:
    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(PublishInterrupted) as caught:
        publish(step=interrupted)
    published = caught.value.published
    assert (published.count("written"), published.count("missing")) == (1, 2)
    assert published.messages[-1] == "Published are 1 of 3; the same command sends the rest."
    assert "upload with: wandb sync" in published.messages[-2]
    again = publish()
    assert again.count("written") + again.count("there") == 3
    assert again.count("written") > 0


def test_what_another_process_sends_at_the_moment_is_left_to_it(specs: list[RunSpec]) -> None:
    first, *rest = publish(dry_run=True).runs
    with Claims(Store()).claim([f"W&B {first.id}"]):
        done = publish()
    assert {run.id: run.action for run in done.runs} == {first.id: "missing"} | {run.id: "written" for run in rest}
    assert "W&B: 1 run is being sent by another process and left to it." in done.messages
    assert publish().count("written") == 1
