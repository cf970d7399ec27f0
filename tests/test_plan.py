"""Run ids and cohorts: the same experiment has one id, whatever its presentation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bnexp.compose import compose
from bnexp.plan import PER_RUN, RunSpec, cohorts, flatten, unique


def run_id(*overrides: str) -> str:
    return RunSpec(compose(overrides)).run_id


@pytest.mark.parametrize(
    "same",
    [
        ["track.wandb.mode=offline"],
        ["study=batchnorm"],
        ["executor=inline", "train.device=cpu", "train.eval_batch_size=10"],
        ["data.root=/somewhere"],
        ["norm.placement=before_activation", "norm.eps=0.1"],  # there is no norm to place
        ["optim.beta1=0.5"],  # SGD has none
        ["optim.step_gamma=0.5"],  # the rate is constant
        ["model.conv_bias=true"],  # what auto means here
    ],
)
def test_what_does_not_change_the_experiment_does_not_change_the_id(same: list[str]) -> None:
    assert run_id(*same) == run_id()


@pytest.mark.parametrize(
    "other", ["seed=1", "norm=batch", "optim.lr=0.1", "data=cifar10", "train.epochs=9", "model.conv_bias=false", "optim=adam"]
)
def test_what_changes_the_experiment_changes_the_id(other: str) -> None:
    assert run_id(other) != run_id()


def test_an_image_folder_is_known_by_its_absolute_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert run_id("data=image_folder", "data.root=tmp") == run_id("data=image_folder", "data.root=/tmp")
    assert run_id("data=image_folder", "data.root=/tmp") != run_id("data=image_folder", "data.root=/var")


def test_per_run_keys_share_a_cohort_and_graph_keys_do_not() -> None:
    base = compose(["norm=batch"])
    specs = [RunSpec(replace(base, seed=seed)) for seed in range(3)]
    specs.append(RunSpec(compose(["norm=batch", "optim.lr=0.5", "optim.momentum=0", "norm.eps=0.1"])))
    assert cohorts(specs) == [tuple(specs)]
    assert len(cohorts([*specs, RunSpec(compose(["norm=none"]))])) == 2
    assert set(flatten(base)) >= PER_RUN


def test_repeated_specs_train_once() -> None:
    first, other = RunSpec(compose()), RunSpec(compose(["seed=1"]))
    assert unique([first, other, RunSpec(compose())]) == [first, other]
