"""Run ids: the same experiment has one id, whatever its presentation."""

from __future__ import annotations

import pytest

from bnexp.compose import compose
from bnexp.plan import PER_RUN, RunSpec, flatten, unique


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
        ["model.depth=9", "model.width=3"],  # LeNet's are fixed
        ["model.dropout_side=before_norm", "model.init.layers=conv"],  # no dropout, PyTorch's init in every layer
    ],
)
def test_what_does_not_change_the_experiment_does_not_change_the_id(same: list[str]) -> None:
    assert run_id(*same) == run_id()


@pytest.mark.parametrize(
    "other", ["seed=1", "norm=batch", "optim.lr=0.1", "data=cifar10", "train.epochs=9", "model.conv_bias=false", "optim=adam"]
)
def test_what_changes_the_experiment_changes_the_id(other: str) -> None:
    assert run_id(other) != run_id()


def test_the_evaluation_batch_is_part_of_the_experiment_where_norms_go_by_it() -> None:
    by_batch = ["norm=batch", "norm.track_running_stats=false"]
    assert run_id(*by_batch, "train.eval_batch_size=10") != run_id(*by_batch)
    assert run_id("norm=batch", "train.eval_batch_size=10") == run_id("norm=batch")


@pytest.mark.parametrize("key", ["norm.backward=staged", "train.log_every=5", "train.eval_batch_size=10"])
def test_runs_of_one_id_that_are_computed_or_recorded_otherwise_train_apart(key: str) -> None:
    one, other = RunSpec(compose(["norm=batch"])), RunSpec(compose(["norm=batch", key]))
    assert one.run_id == other.run_id
    assert one.fuse_key != other.fuse_key


def test_an_mlp_has_one_id_for_the_names_of_one_placement() -> None:
    mlp = ["model=mlp", "norm=batch"]
    same = {run_id(*mlp, *more) for more in ([], ["norm.linear=true"], ["norm.placement=after_activation"])}
    assert len(same) == 1
    assert run_id(*mlp, "norm.placement=before_activation") not in same


def test_an_image_folder_is_known_by_its_absolute_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert run_id("data=image_folder", "data.root=tmp") == run_id("data=image_folder", "data.root=/tmp")
    assert run_id("data=image_folder", "data.root=/tmp") != run_id("data=image_folder", "data.root=/var")


def test_per_run_keys_exist() -> None:
    assert set(flatten(compose())) >= PER_RUN


def test_repeated_specs_train_once() -> None:
    first, other = RunSpec(compose()), RunSpec(compose(["seed=1"]))
    assert unique([first, other, RunSpec(compose())]) == [first, other]
