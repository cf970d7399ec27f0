"""Combinations of keys that cannot work, and the sentences that say so."""

from __future__ import annotations

import re

import pytest

from bnexp.compose import compose
from bnexp.config import ConfigError

INSTANCE = "norm.kind=instance cannot normalise linear layers, where each image has a single value a channel"
TWO_IMAGES = "norm.kind=batch needs two different images to normalise linear layers"
LINEAR = ["norm=batch", "norm.linear=true"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.duplicates=3"], "data.duplicates=3 does not divide train.batch_size=64, .*; choose a divisor."),
        (
            ["model=plain", "model.dropout=0.5"],
            "model.dropout=0.5 has no effect with model.name=plain, .* set model.dropout=0",
        ),
        (["model=mlp", "model.init.layers=conv"], "model.init.layers=conv names no layer of model.name=mlp, .*=all."),
        (["norm.kind=instance", "norm.linear=true"], f"{INSTANCE}; set norm.linear=false."),
        (["norm.kind=instance", "model=mlp"], f"{INSTANCE}; choose norm=layer or norm=group."),
        (
            ["norm=group", "norm.groups=4"],
            r"norm.groups=4 does not divide the channels of every normalised layer \(6, 16\): allowed is 1, 2.",
        ),
        (
            ["norm=group", "norm.groups=3", "model=plain", "model.width=16"],
            r"norm.groups=3 does not divide .* \(16\): allowed is 1, 2, 4, 8, 16.",
        ),
        (
            ["norm=batch_renorm", "norm.track_running_stats=false"],
            "norm=batch_renorm corrects by running statistics, .* set norm.track_running_stats=true or norm=batch.",
        ),
        ([*LINEAR, "train.batch_size=1"], f"{TWO_IMAGES}, and train.batch_size=1, .* leave one; .* set norm.linear=false."),
        ([*LINEAR, "norm.ghost_size=1"], f"{TWO_IMAGES}, and train.batch_size=64, norm.ghost_size=1 .* leave one"),
        ([*LINEAR, "data.duplicates=64"], f"{TWO_IMAGES}, .* norm.ghost_size=null and data.duplicates=64 leave one"),
        ([*LINEAR, "data.duplicates=4", "norm.ghost_size=4"], f"{TWO_IMAGES}, .* leave one"),
        (["model=mlp", "norm=batch", "train.batch_size=1"], f"{TWO_IMAGES}, .* or choose norm=layer or norm=group."),
        (
            ["norm=batch", "norm.ghost_size=65"],
            "norm.ghost_size=65 is more than train.batch_size=64: allowed is at most 64",
        ),
        (
            ["norm=batch", "norm.statistics=precise", "norm.track_running_stats=false"],
            "norm.statistics=precise has no effect with norm.track_running_stats=false",
        ),
        (
            ["train.trainable=norm"],
            "train.trainable=norm finds no scale and shift .* with norm.kind=none; .*=head.",
        ),
        (
            ["train.trainable=norm_head", "norm=batch", "norm.affine=false"],
            "train.trainable=norm_head finds no .* norm.affine=false",
        ),
        (
            ["norm=batch", "train.norm_statistics=frozen"],
            "train.norm_statistics=frozen needs a trained run .*init_from=RUN",
        ),
        (
            ["norm=batch", "train.norm_statistics=recomputed", "norm.track_running_stats=false"],
            "train.norm_statistics=recomputed needs running statistics; set norm.track_running_stats=true",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_is_refused_in_one_sentence(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose(overrides)
    assert re.match(message, str(error.value))
    assert str(error.value).count(". ") == 0


@pytest.mark.parametrize(
    "overrides",
    [
        ["norm=batch", "train.batch_size=1"],  # maps have many values
        ["norm=batch", "data.duplicates=64"],
        ["norm=batch", "norm.ghost_size=1"],
        ["norm.linear=true", "norm.kind=layer", "train.batch_size=1"],
        [*LINEAR, "train.batch_size=1", "train.norm_statistics=frozen", "train.init_from=abc"],  # by running statistics
        ["norm=batch", "train.norm_statistics=recomputed"],  # of the initial weights
        ["norm.kind=instance", "norm.linear=true", "model=plain"],  # it has no hidden linear layer
        ["norm=none", "norm.ghost_size=100", "train.norm_statistics=frozen"],  # without a norm these keys say nothing
        ["probe.statistics=true"],
        ["train.trainable=head"],
        ["data.duplicates=64", "data.order=sorted", "data.contrast=-1", "data.normalize=false"],
        ["model=ioffe_mlp", "data.size=28", "norm=batch", "model.dropout=0.2", "model.dropout_side=before_norm"],
    ],
    ids=" ".join,
)
def test_what_can_work_is_let_through(overrides: list[str]) -> None:
    compose(overrides)
