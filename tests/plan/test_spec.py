"""Run ids: the same experiment has one id, whatever its presentation."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bnexp.config.keys import ARGS, schema_keys
from bnexp.config.options import (
    Activation,
    Backward,
    DataName,
    Device,
    InitLayers,
    InitScheme,
    Kernels,
    ModelName,
    NormKind,
    OptimName,
    Placement,
    Precision,
    Schedule,
)
from bnexp.config.schema import DataConfig, ModelConfig, NormConfig, OptimConfig, RunConfig, StudyConfig
from bnexp.plan.compose import compose
from bnexp.plan.spec import PER_RUN, RunSpec, flatten, plain, unique
from tests.changed import changed


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
        ["budget.steps_per_epoch=9"],  # of studies that use it
        ["model.conv_bias=true"],  # what auto means here
        ["model.depth=9", "model.width=3"],  # LeNet's are fixed
        ["model.dropout_side=before_norm", "model.init.layers=conv"],  # no dropout, PyTorch's init in every layer
    ],
)
def test_what_does_not_change_the_experiment_does_not_change_the_id(same: list[str]) -> None:
    assert run_id(*same) == run_id()


@pytest.mark.parametrize(
    "other",
    [
        "seed=1",
        "norm=batch",
        "optim.lr=0.1",
        "data=cifar10",
        "train.epochs=9",
        "train.steps_per_epoch=938",
        "model.conv_bias=false",
        "optim=adam",
    ],
)
def test_what_changes_the_experiment_changes_the_id(other: str) -> None:
    assert run_id(other) != run_id()


@pytest.mark.parametrize(("data", "steps"), [("mnist", 100), ("cifar10", 300), ("svhn", 300)])
def test_a_short_budget_trains_longer_on_photographs_where_networks_must_be_trained(data: str, steps: int) -> None:
    chosen = ["budget=quick", f"data={data}", "study=landscape"]
    assert compose(chosen).train.steps_per_epoch == steps
    assert compose([*chosen, "data.effort=7"]).train.steps_per_epoch == 700
    assert compose([f"data={data}", "study=landscape"]).train.steps_per_epoch == 938  # long enough for both


def test_a_budget_is_its_values_and_on_smaller_data_all_images() -> None:
    rest = ["data.val_fraction=0.02", "train.epochs=5"]
    assert run_id("budget=quick") == run_id("data.train_size=2000", *rest) != run_id(*rest)
    assert run_id("budget=quick", "data.train_size=500") == run_id("data.train_size=500", *rest)
    assert run_id("budget=quick", "data.train_size=null") == run_id(*rest)
    assert run_id("budget=quick", "data=digits") == run_id("data=digits", *rest)


@pytest.mark.parametrize(
    ("kind", "tracked", "counts"),
    [
        (NormKind.batch, False, True),
        (NormKind.batch, True, False),
        (NormKind.layer, False, False),
        (NormKind.none, False, False),
    ],
)
def test_the_evaluation_batch_is_part_of_the_experiment_where_norms_go_by_it(
    kind: NormKind, tracked: bool, counts: bool
) -> None:
    config = RunConfig(norm=NormConfig(kind, track_running_stats=tracked))
    other = changed(config, {"train.eval_batch_size": 10})
    assert (RunSpec(other).run_id != RunSpec(config).run_id) == counts


# What may differ inside a cohort, in a run for which each of these keys counts.
SGD = RunConfig(
    norm=NormConfig(NormKind.batch),
    model=ModelConfig(name=ModelName.mlp, dropout=0.1),
    optim=OptimConfig(schedule=Schedule.step),
)
SGD.model.init.scheme = InitScheme.xavier
ADAM = changed(SGD, {"optim.name": OptimName.adam})


@pytest.mark.parametrize(
    ("config", "keys", "own_id", "one_cohort"),
    [
        (
            SGD,
            {
                "seed": 1,
                "model.dropout": 0.5,
                "model.init.scheme": InitScheme.normal,
                "model.init.gain": 2.0,
                "model.init.layers": InitLayers.conv,
                "norm.eps": 0.1,
                "norm.momentum": None,
                "optim.lr": 0.1,
                "optim.momentum": 0.1,
                "optim.weight_decay": 0.1,
                "optim.warmup": 1.0,
                "optim.step_epochs": 1.0,
                "optim.step_gamma": 0.5,
                "train.init_from": "abc",
            },
            True,
            True,
        ),
        (ADAM, {"optim.beta1": 0.1, "optim.beta2": 0.1, "optim.eps": 0.1, "optim.schedule": Schedule.cosine}, True, True),
        (
            SGD,
            {
                "data.size": 28,
                "data.train_size": 100,
                "train.batch_size": 32,
                "train.epochs": 3,
                "train.steps_per_epoch": 9,
                "train.precision": Precision.bf16,
                "model.width": 7,
                "model.activation": Activation.tanh,
                "norm.kind": NormKind.layer,
                "norm.placement": Placement.before_activation,
                "optim.name": OptimName.adam,
                "optim.nesterov": True,
                "probe.gap": True,
            },
            True,
            False,
        ),
        (changed(SGD, {"probe.similar": True}), {"probe.jitter": 0.5, "probe.images": 9, "probe.per_epoch": 2}, True, False),
        (
            SGD,
            {
                "norm.backward": Backward.staged,
                "train.device": Device.cpu,
                "train.eval_batch_size": 10,
                "train.kernels": Kernels.torch,
                "train.log_every": 5,
            },
            False,
            False,
        ),
        (
            SGD,
            {"data.margin": 0.5, "executor.workers": 3, "track.predictions": 0, "study.question": "?", "data.root": "/x"},
            False,
            True,
        ),
    ],
    ids=[
        "vectors of SGD",
        "vectors of Adam",
        "graph",
        "what a probe records",
        "computed or recorded otherwise",
        "presentation",
    ],
)
def test_what_makes_another_run_and_what_another_cohort(
    config: RunConfig, keys: dict[str, Any], own_id: bool, one_cohort: bool
) -> None:
    spec = RunSpec(config)
    for key, value in keys.items():
        other = RunSpec(changed(config, {key: value}))
        assert (other.run_id != spec.run_id, other.fuse_key == spec.fuse_key) == (own_id, one_cohort), key


def test_weights_of_other_shapes_start_in_another_cohort() -> None:
    plain, one, same, wide = (RunSpec(SGD, w) for w in (None, *({"fc1.weight": np.zeros(n)} for n in (2, 2, 3))))
    assert one.fuse_key == same.fuse_key
    assert len({plain.fuse_key, one.fuse_key, wide.fuse_key}) == 3
    assert plain.run_id == wide.run_id
    assert (plain, repr(plain)) == (wide, repr(wide))  # a run is its configuration


@pytest.mark.parametrize(
    ("config", "run_id"),
    [
        (RunConfig(), "8fe807e3c745"),
        (
            RunConfig(seed=3, norm=NormConfig(NormKind.batch_renorm, momentum=None), optim=OptimConfig(name=OptimName.adam)),
            "0044547918ca",
        ),
        (
            RunConfig(
                data=DataConfig(DataName.npz, root="/data/mine.npz", val_fraction=0.1),
                model=ModelConfig(ModelName.mlp, conv_bias="true"),
                norm=NormConfig(NormKind.group),
            ),
            "67aeaf12fb8c",
        ),
        (RunConfig(norm=NormConfig(NormKind.batch, track_running_stats=False)), "56a0b90b8448"),
    ],
)
def test_ids_stay_what_they_were_so_that_recorded_runs_are_found(config: RunConfig, run_id: str) -> None:
    assert RunSpec(config).run_id == run_id


def test_a_run_is_named_by_its_study_arm_levels_and_seed() -> None:
    alone = RunSpec(RunConfig(seed=2, norm=NormConfig(NormKind.batch)))
    assert (alone.study, alone.group, alone.arm, alone.levels, alone.label) == ("train", "train", "batch", {}, "batch seed=2")
    study = StudyConfig(name="rates", id="0a1b", arm="mine", levels={"optim.lr": 0.1, "place": "early"})
    spec = RunSpec(RunConfig(study=study))
    assert (spec.study, spec.group, spec.arm, spec.label) == ("rates", "rates-0a1b", "mine", "mine lr=0.1 place=early seed=0")
    assert (spec.seed, spec.levels) == (0, study.levels)


def test_a_configuration_is_recorded_as_plain_values() -> None:
    config = changed(
        SGD,
        {
            "study.metrics": {"early": Schedule.step},
            "study.sources": ("a", "b"),
            "study.factors": {"norm.kind": [NormKind.batch]},
        },
    )
    recorded = RunSpec(config).to_dict()
    assert recorded == json.loads(json.dumps(recorded))
    assert type(recorded["norm"]["kind"]) is type(recorded["study"]["factors"]["norm.kind"][0]) is str
    assert recorded["study"]["metrics"] == {"early": "step"}


def test_an_mlp_has_one_id_for_the_names_of_one_placement() -> None:
    mlp = ["model=mlp", "norm=batch"]
    same = {run_id(*mlp, *more) for more in ([], ["norm.linear=true"], ["norm.placement=after_activation"])}
    assert len(same) == 1
    assert run_id(*mlp, "norm.placement=before_activation") not in same


def test_an_image_folder_is_known_by_its_absolute_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert run_id("data=image_folder", "data.root=tmp") == run_id("data=image_folder", "data.root=/tmp")
    assert run_id("data=image_folder", "data.root=/tmp") != run_id("data=image_folder", "data.root=/var")
    monkeypatch.setenv("HOME", "/var")
    for name in (DataName.image_folder, DataName.npz):
        config = RunConfig(data=DataConfig(name, root="/var/mine"))
        at_home, elsewhere, other_part = (
            RunSpec(changed(config, {key: value})).run_id
            for key, value in (("data.root", "~/mine"), ("data.root", "/mine"), ("data.test_fraction", 0.3))
        )
        assert at_home == RunSpec(config).run_id != elsewhere
        assert other_part != at_home


def test_per_run_keys_exist() -> None:
    assert set(flatten(compose())) >= PER_RUN


def test_a_recorded_configuration_has_the_keys_of_the_schema_whatever_its_version() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": {}}, "e": [2]}) == {"a.b.c": 1, "a.d": {}, "e": [2]}
    config = changed(RunConfig(), {"study.levels": {"optim.lr": 0.1}})
    shown = {name for name in flatten(config) if name.startswith("study.show.")}  # the study's, not the run's
    assert flatten(RunSpec(config).to_dict()) == {k: plain(v) for k, v in flatten(config).items() if k not in shown}
    assert flatten(config)["study.levels"] == {"optim.lr": 0.1}
    assert list(flatten(config)) == [info.name for info in schema_keys() if info.name not in ARGS]
    assert flatten({"model": {"args": {"width": 8, "act": {"slope": 0.1}}}}) == {
        "model.args.width": 8,
        "model.args.act.slope": 0.1,
    }


def test_repeated_specs_train_once() -> None:
    first, other = RunSpec(compose()), RunSpec(compose(["seed=1"]))
    assert unique([first, other, RunSpec(compose())]) == [first, other]
