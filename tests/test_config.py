"""The schema: ranges, combinations and the sentences that answer mistakes."""

from __future__ import annotations

import math

import pytest

from bnexp.config import ConfigError, NormConfig, RunConfig
from bnexp.options import DataName, Placement
from bnexp.schema import did_you_mean, schema_keys
from bnexp.validate import resolve_seeds, validate


def test_the_defaults_are_valid_and_every_key_has_a_meaning() -> None:
    validate(RunConfig())
    assert all(info.help for info in schema_keys())
    assert len({info.name for info in schema_keys()}) == len(list(schema_keys()))


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


def test_combinations_that_cannot_work_name_both_keys_and_a_way_out() -> None:
    config = RunConfig()
    config.optim.nesterov, config.optim.momentum = True, 0.0
    with pytest.raises(ConfigError, match=r"optim.nesterov=true needs optim.momentum above 0; set .* or optim.nesterov=false"):
        validate(config)
    config = RunConfig()
    config.optim.warmup = 10.0
    with pytest.raises(ConfigError, match=r"optim.warmup=10 .* train.epochs=10"):
        validate(config)
    config = RunConfig()
    config.data.name = DataName.npz
    with pytest.raises(ConfigError, match=r"data=npz needs data.root"):
        validate(config)


def test_seeds_are_a_count_or_a_list() -> None:
    assert resolve_seeds(3) == [0, 1, 2]
    assert resolve_seeds([7, 3]) == [7, 3]
    for wrong in (0, -1, [], [1, 1], [-1], "3", True, None, [1.5]):
        with pytest.raises(ConfigError, match=r"study\.seeds"):
            resolve_seeds(wrong)


def test_auto_bias_goes_only_where_an_affine_norm_follows_directly() -> None:
    model = RunConfig().model
    bias = {
        placement: model.has_conv_bias(NormConfig(kind="batch", placement=placement))  # type: ignore[arg-type]
        for placement in Placement
    }
    assert bias == {
        Placement.before_activation: False,
        Placement.both: False,
        Placement.after_activation: True,
        Placement.after_pool: True,
    }
    assert model.has_conv_bias(NormConfig())
    assert model.has_conv_bias(NormConfig(kind="batch", placement=Placement.before_activation, affine=False))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "meant"), [("optim.lrr", "optim.lr"), ("lr", "optim.lr"), ("epochs", "train.epochs"), ("qqqqq", "")]
)
def test_a_misspelt_key_gets_the_closest_one(word: str, meant: str) -> None:
    hint = did_you_mean(word, [info.name for info in schema_keys()])
    assert hint == (f" Did you mean {meant}?" if meant else "")
