"""Runs that start from recorded ones: found by id, refused with a reason, the same wherever they train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from bnexp.comparison.record import from_plan
from bnexp.config.schema import ConfigError
from bnexp.plan.compose import compose
from bnexp.plan.expand import StudyPlan, expand_multirun, expand_study
from bnexp.plan.spec import RunSpec
from bnexp.plan.study import texts_of
from bnexp.run.cohorts import cohorts
from bnexp.run.runner import RunError, run
from bnexp.run.train import launch
from bnexp.tracking.initial import initial_weights, resolve_starts
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.store import Store, write_json

SMALL = ["data=digits", "data.train_size=100", "norm=batch", "train.epochs=1", "train.device=cpu", "executor=inline"]
STUDY = """# @package _global_
defaults:
  - override /hydra/sweeper: study
data: {name: digits, train_size: 100, contrast: -1.0}
train: {epochs: 1, device: cpu}
norm: {kind: batch}
executor: {name: inline}
study:
  name: shift
  question: Which part adapts?
  arms:
    head: [train.trainable=head, train.norm_statistics=frozen]
    all: [train.trainable=all]
  seeds: 2
  baseline: head
  pretrain: [data.contrast=1]
"""


def spec(*overrides: str) -> RunSpec:
    return RunSpec(compose([*SMALL, *overrides]))


def weights(record: Any) -> dict[str, Any]:
    assert isinstance(record, RecordedRun), record
    return load_file(record.path / "model.safetensors")


@pytest.fixture
def started(shared_cache: Path) -> RunSpec:
    """A finished run to start from."""
    first = spec()
    assert isinstance(run([first])[first.run_id], RecordedRun)
    return first


@pytest.fixture
def shift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_cache: Path) -> list[str]:
    (tmp_path / "conf" / "study").mkdir(parents=True)
    (tmp_path / "conf" / "study" / "shift.yaml").write_text(STUDY)
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path / "conf"))
    return ["study=shift"]


def starts(plan: StudyPlan) -> list[tuple[str, int, str | None]]:
    return [(config.study.arm, config.seed, config.train.init_from) for config in plan.configs]


def test_arms_share_the_pretraining_of_their_seed(shift: list[str]) -> None:
    plan = expand_study(shift)
    assert plan.runs.pretraining is not None
    first, second = plan.runs.pretraining.specs
    assert (first.seed, second.seed, first.arm) == (0, 1, "pretraining")
    assert starts(plan) == [
        ("head", 0, first.run_id),
        ("all", 0, first.run_id),
        ("head", 1, second.run_id),
        ("all", 1, second.run_id),
    ]
    config = first.config
    assert (config.data.contrast, config.train.trainable, config.train.norm_statistics) == (1.0, "all", "live")
    assert {run.arm for run in from_plan(plan, [], Store()).runs} == {"head", "all"}
    assert expand_study([*shift, "study.pretrain=['data.contrast=0.5']"]).study_id != plan.study_id


def test_jobs_compose_to_the_configurations_that_were_planned(shift: list[str]) -> None:
    plan = expand_study([*shift, "study.seeds=1"])
    for phase in plan.runs.phases:
        marks = ("study.arm", "study.id", "+study.levels")
        again = [RunSpec(compose([item for item in texts_of(job) if not item.startswith(marks)])) for job in phase.jobs]
        assert [each.run_id for each in again] == [spec.run_id for spec in phase.specs]
    assert expand_multirun([*shift, "study.seeds=1"]) == [spec.config for phase in plan.runs.phases for spec in phase.specs]


def test_a_study_trains_what_its_runs_start_from_first(shift: list[str]) -> None:
    launch(shift, multirun=True)
    plan, store = expand_study(shift), Store()
    for config in plan.configs:
        record, start = store.find(RunSpec(config).run_id), store.find(str(config.train.init_from))
        ours, theirs = weights(record), weights(start)
        same = {name for name, value in ours.items() if np.array_equal(value, theirs[name])}
        assert same == ({name for name in ours if not name.startswith("fc3")} if config.study.arm == "head" else set())


def test_the_runner_waits_for_runs_that_others_start_from(shared_cache: Path) -> None:
    first = spec("seed=3")
    second = spec("seed=3", f"train.init_from='{first.run_id}'", "train.trainable=norm")
    found = run([second, first])
    np.testing.assert_array_equal(weights(found[second.run_id])["conv1.weight"], weights(found[first.run_id])["conv1.weight"])


def test_a_pool_starts_from_the_same_weights_as_this_process(started: RunSpec, tmp_path: Path) -> None:
    given = [f"train.init_from='{started.run_id}'"]
    specs = [spec(*given, f"seed={seed}") for seed in (1, 2)]
    pooled = [spec(*given, f"seed={seed}", "executor=local", "executor.workers=2") for seed in (1, 2)]
    here = [run_id for alone in specs for run_id in run([alone])]  # a cohort rounds otherwise
    for ready in specs:
        RecordedRun(Store().run_path(ready)).path.rename(tmp_path / ready.run_id)
    there = run(pooled)
    for run_id in here:
        again = load_file(tmp_path / run_id / "model.safetensors")
        for name, value in weights(there[run_id]).items():
            np.testing.assert_array_equal(value, again[name])


def test_runs_from_several_starts_share_a_cohort() -> None:
    assert len(cohorts([spec("train.init_from=a"), spec("train.init_from=b"), spec()])) == 1
    assert len(cohorts([spec("train.init_from=a", "norm.momentum=null"), spec("norm.momentum=null")])) == 1
    assert len({spec("train.init_from=a").run_id, spec("train.init_from=b").run_id, spec().run_id}) == 3


def test_the_beginning_of_an_id_is_enough(started: RunSpec) -> None:
    store = Store()
    assert resolve_starts(["seed=1", f"train.init_from={started.run_id[:5]}", "train.init_from=null"], store) == [
        "seed=1",
        f"train.init_from='{started.run_id}'",
        "train.init_from=null",
    ]
    (store.root / "train" / (started.run_id[:5] + "0000000")).mkdir()
    with pytest.raises(ConfigError, match=rf"train.init_from={started.run_id[:4]} could be {started.run_id[:5]}.* or "):
        resolve_starts([f"train.init_from={started.run_id[:4]}"], store)


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (None, "train.init_from=abc123 is not recorded in "),
        ({}, "train.init_from=abc123 names a run that has not finished; train it first"),
        ({"failure.json": {"error": "no memory"}}, r"names a run that failed \(no memory\)"),
        ({"summary.json": {"status": "diverged"}}, "names a run that diverged; start from another"),
    ],
)
def test_a_run_that_cannot_be_started_from_is_refused(state: dict[str, Any] | None, sentence: str) -> None:
    store = Store()
    texts = dict.fromkeys(("run_id", "study", "data", "arm", "finished_at"), "")
    known = texts | {"levels": {}, "seed": 0, "metrics": {}, "seconds": 1.0}
    if state is not None:
        (store.root / "train" / "abc123").mkdir(parents=True)
    for name, content in (state or {}).items():
        write_json(store.root / "train" / "abc123" / name, known | content)
    with pytest.raises(ConfigError, match=sentence):
        resolve_starts(["train.init_from=abc"] if state is not None else ["train.init_from=abc123"], store)


def test_norms_must_be_those_of_the_run_that_is_started_from(started: RunSpec) -> None:
    other = spec(f"train.init_from='{started.run_id}'", "norm.placement=before_activation")
    with pytest.raises(ConfigError, match=r"trained with norm.placement=after_pool, not before_activation"):
        initial_weights(other, Store())
    with pytest.raises(ConfigError, match=r"trained with norm.kind=batch, not none; set norm.kind=batch"):
        initial_weights(spec(f"train.init_from='{started.run_id}'", "norm=none"), Store())


def test_a_run_fails_with_the_one_that_it_starts_from_and_takes_no_other_along(shared_cache: Path) -> None:
    first = spec("optim.lr=1e30")
    second, third = spec(f"train.init_from='{first.run_id}'"), spec("seed=4")
    found = run([first, second, third])
    error = found[second.run_id]
    assert isinstance(error, RunError)
    assert f"train.init_from={first.run_id} names a run that diverged" in str(error)
    assert isinstance(found[third.run_id], RecordedRun)


def test_weights_that_do_not_fit_fail_their_run_alone(started: RunSpec) -> None:
    other = spec("norm.affine=false")
    run([other])
    bad, good = (spec(f"train.init_from='{start.run_id}'", "seed=5") for start in (other, started))
    found = run([bad, good])
    assert isinstance(found[bad.run_id], RunError)
    assert isinstance(found[good.run_id], RecordedRun)


def test_a_pretraining_with_other_norms_is_refused(shift: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"gives norm.kind=none, but a run of the arm head has norm.kind=batch"):
        expand_study([*shift, "study.pretrain=['norm.kind=none']"])
