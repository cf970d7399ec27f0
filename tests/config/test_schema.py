"""The schema: ranges, combinations and the sentences that answer mistakes."""

from __future__ import annotations

import math
import re
from itertools import chain
from typing import Any

import pytest

from bnexp.config.keys import KeyInfo, did_you_mean, final_metrics, metric_unit, schema_keys
from bnexp.config.options import NormKind, Placement
from bnexp.config.schema import ConfigError, NormConfig, RunConfig
from bnexp.config.validate import check_range, resolve_seeds, validate
from tests.changed import changed


def test_the_defaults_are_valid_and_every_key_has_a_meaning() -> None:
    validate(RunConfig())
    names = [info.name for info in schema_keys() if info.help]
    assert len(set(names)) == len(names) == len(schema_keys()) > 100
    assert {"seed", "data.name", "model.init.gain", "track.wandb.mode", "study.tune.grid"} <= set(names)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("optim.lr", 0.0, "a number above 0"),
        ("optim.lr", math.nan, "a number above 0"),
        ("optim.momentum", 1.0, "a number at least 0 and below 1"),
        ("train.epochs", 0, "an integer at least 1"),
        ("data.size", 8, "an integer at least 16 and at most 256"),
        ("data.channels", 2, "1, 3 or null"),
        ("model.conv_bias", "maybe", "auto, true, false"),
        ("norm.momentum", 1.5, "a number above 0 and at most 1 or null"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(name: str, value: float, allowed: str) -> None:
    config = RunConfig()
    group, key = name.split(".")
    setattr(getattr(config, group), key, value)
    with pytest.raises(ConfigError) as error:
        validate(config)
    assert str(error.value).startswith(f"{name}=")
    assert allowed in str(error.value)


def test_every_bound_is_kept_and_named() -> None:
    bounds = {"low": ("at least", -1), "above": ("above", -1), "high": ("at most", 1), "below": ("below", 1)}
    found = 0
    for info in schema_keys():
        for bound, (word, outwards) in bounds.items():
            limit = info.metadata[bound]
            if limit is None:
                continue
            found += 1
            step = outwards * (1 if "integer" in info.allowed() else 1e-9)
            inside, outside = (limit, limit + step) if bound in ("low", "high") else (limit - step, limit)
            check_range(info, inside)
            with pytest.raises(
                ConfigError, match=re.escape(f"{info.name}={outside:g} is out of range: allowed is {info.allowed()}")
            ):
                check_range(info, outside)
            assert f"{word} {limit:g}" in info.allowed()
        if info.allowed().startswith("a number"):
            for value in (math.inf, -math.inf, math.nan):
                with pytest.raises(ConfigError, match="is out of range"):
                    check_range(info, value)
    assert found > 50


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("seed", "an integer at least 0"),
        ("data.val_fraction", "a number at least 0 and below 0.9"),
        ("data.contrast", "a number at least -1 and at most 2"),
        ("data.train_size", "an integer at least 10 or null"),
        ("data.channels", "1, 3 or null"),
        ("data.normalize", "true, false"),
        ("data.root", "text"),
        ("data.order", "shuffled, sorted, grouped"),
        ("model.conv_bias", "auto, true, false"),
        ("track.wandb.tags", "a list"),
        ("study.tune.grid", "a list"),
        ("study.tune.seeds", "a list"),
        ("study.arms", "a mapping"),
        ("study.limits", "a mapping"),
        ("study.metrics", "a mapping"),
        ("study.seeds", "text"),
        ("study.margin", "a number above 0 or null"),
    ],
)
def test_what_a_key_allows_is_a_phrase(name: str, allowed: str) -> None:
    assert {info.name: info.allowed() for info in schema_keys()}[name] == allowed


def test_a_number_without_bounds_is_any_number() -> None:
    metadata = dict.fromkeys(("low", "above", "high", "below")) | {"choices": ()}
    assert [KeyInfo("x", type, "", metadata).allowed() for type in (float, int | None)] == ["a number", "an integer or null"]


TRAIN, VAL, TEST = (["train/loss", "train/accuracy"], *([f"{s}/loss", f"{s}/accuracy", f"{s}/ece"] for s in ("val", "test")))
LOSSES = [*TRAIN, *VAL, *TEST]
REST = ["learning_rate", "time/epoch_seconds", "time/images_per_second"]
GAPS = ["train_eval/loss", "train_eval/accuracy", "gap/loss", "gap/accuracy", "gap/mode_accuracy"]
BATCHES = [f"statistics/batch_{n}" for n in (1, 2, 8, 64, 1000)]
RUNNING, TRAINING = ["statistics/running", "statistics/precise"], ["statistics/training_mode"]
AFTER = ["statistics/after_training_mode"]
SHIFTED = ["statistics/shifted/running", *(f"statistics/shifted/batch_{n}" for n in (1, 2, 8, 64, 1000))]
STATISTICS = [*RUNNING, *BATCHES, *TRAINING, *AFTER, *SHIFTED]
COSTS = ["cost/step_ms", "cost/step_ratio", "cost/activation_mib", "cost/parameters"]
PROBED = {
    "activations": ["activations/dead", "activations/drift"],
    "gradients": ["gradients/log_ratio"],
    "initial_gradients": ["initial_gradients/log_ratio"],
    "covariate_shift": [f"covariate_shift/{name}" for name in ("l2", "relative_l2", "cosine")],
    "landscape": [f"landscape/{name}" for name in ("loss_range", "gradient_change", "relative_gradient_change", "beta")],
    "oscillation": ["oscillation/loss"],
    "decoupling": ["decoupling/gap"],
    "statistics": STATISTICS,
    "similar": ["similar/output_deviation", "similar/backward_gain"],
    "cost": COSTS,
    "gap": GAPS,
}


@pytest.mark.parametrize(
    ("values", "metrics"),
    [
        ({}, [*LOSSES, *REST]),
        ({"data.val_fraction": 0.0}, [*TRAIN, *TEST, *REST]),
        ({"probe.cost": True}, [*LOSSES, *REST, *COSTS]),
        ({"probe.gap": True}, [*LOSSES, *REST, *GAPS]),
        (
            {"probe.gap": True, "data.val_fraction": 0.0},
            [*TRAIN, *TEST, *REST, "train_eval/loss", "train_eval/accuracy", "gap/mode_accuracy"],
        ),
        (dict.fromkeys([f"probe.{name}" for name in PROBED], True), [*LOSSES, *REST, *chain(*PROBED.values())]),
        ({"probe.statistics": True, "norm.linear": True, "norm.track_running_stats": False}, [*LOSSES, *REST, *STATISTICS]),
        ({"probe.statistics": True, "norm.kind": NormKind.batch}, [*LOSSES, *REST, *STATISTICS]),
        (
            {"probe.statistics": True, "norm.kind": NormKind.batch_renorm, "norm.linear": True},
            [*LOSSES, *REST, *RUNNING, *BATCHES[1:], *TRAINING, *AFTER, SHIFTED[0], *SHIFTED[2:]],
        ),
        (
            {"probe.statistics": True, "norm.kind": NormKind.batch, "norm.track_running_stats": False},
            [*LOSSES, *REST, *BATCHES, *TRAINING, *SHIFTED[1:]],
        ),
        (
            {"probe.statistics": True, "probe.gap": True, "data.val_fraction": 0.0}
            | {"norm.kind": NormKind.batch, "norm.linear": True, "norm.track_running_stats": False},
            [*TRAIN, *TEST, *REST, *BATCHES[1:], *TRAINING, *SHIFTED[2:], *GAPS[:2], "gap/mode_accuracy"],
        ),
    ],
)
def test_a_study_can_compare_what_a_run_records(values: dict[str, Any], metrics: list[str]) -> None:
    assert final_metrics(changed(RunConfig(), values)) == metrics


def test_accuracies_are_percentage_points_and_losses_nats() -> None:
    units = {metric: metric_unit(metric) for metric in [*LOSSES, *REST, *GAPS, *STATISTICS, "landscape/beta"]}
    assert {m for m, unit in units.items() if unit == "nats"} == {m for m in units if m.endswith("loss")}
    assert {m for m, unit in units.items() if unit == ""} == {*REST, "landscape/beta"}
    assert set(units.values()) == {"pp", "nats", ""}


def test_seeds_are_a_count_or_a_list() -> None:
    assert resolve_seeds(3) == [0, 1, 2]
    for seeds in ([7, 3], [0], [2]):
        assert resolve_seeds(seeds) == seeds
    for wrong in (0, -1, [], [1, 1], [-1], [0, -1], [0, True], [2, 1.5], "3", True, None, [1.5], (0, 1)):
        with pytest.raises(ConfigError, match=r"study\.seeds"):
            resolve_seeds(wrong)


def test_auto_bias_goes_only_where_an_affine_norm_follows_directly() -> None:
    model = RunConfig().model
    bias = {placement: model.has_conv_bias(NormConfig(NormKind.batch, placement=placement)) for placement in Placement}
    assert bias == {
        Placement.before_activation: False,
        Placement.both: False,
        Placement.after_activation: True,
        Placement.after_pool: True,
    }
    assert model.has_conv_bias(NormConfig())
    assert model.has_conv_bias(NormConfig(NormKind.batch, placement=Placement.before_activation, affine=False))


MEANT = {"optim.lrr": "optim.lr", "modl.widht": "model.width", "lr": "optim.lr", "epochs": "train.epochs", "eps": "norm.eps"}

ALIKE = [("kinds", "norm.kind"), ("optin.momentum", "optim.momentum"), ("somewhere.epochs", "train.epochs")]


@pytest.mark.parametrize(("word", "meant"), [*MEANT.items(), *ALIKE, ("widest", ""), ("qqqqq", "")])
def test_a_misspelt_key_gets_the_closest_one(word: str, meant: str) -> None:
    hint = did_you_mean(word, [info.name for info in schema_keys()])
    assert hint == (f" Did you mean {meant}?" if meant else "")
