"""Combinations of keys that cannot work, and the sentences that say so."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bnexp.config.options import (
    DataName,
    Device,
    ExecutorName,
    InitLayers,
    ModelName,
    NormKind,
    NormStatistics,
    OptimName,
    Precision,
    Statistics,
    Trainable,
)
from bnexp.config.schema import ConfigError, RunConfig
from bnexp.config.validate import check_name, validate
from bnexp.plan.compose import compose
from tests.changed import changed

INSTANCE = "norm.kind=instance cannot normalise linear layers, where each image has a single value per channel"
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
        (
            ["model=resnet", "model.dropout=0.5"],
            "model.dropout=0.5 has no effect with model.name=resnet, .* set model.dropout=0",
        ),
        (
            ["model=resnet", "model.depth=10"],
            r"model.depth=10 is no depth of model.name=resnet: allowed are 6n\+2 layers, .*; try model.depth=8.",
        ),
        (["model.name=resnet", "model.depth=2"], "model.depth=2 is no depth of model.name=resnet: .*"),
        (
            ["model=plain", "model.init.residual=zero"],
            "model.init.residual=zero has no effect with model.name=plain, which has no residual branch; .* use model=resnet.",
        ),
        (
            ["model=resnet", "model.init.residual=fixup", "norm=group"],
            "model.init.residual=fixup is made for networks without norm, not for norm.kind=group; set norm=none, or .*=zero.",
        ),
        (
            ["model=resnet", "model.width=6", "norm=group", "norm.groups=4"],
            r"norm.groups=4 does not divide .* \(6, 12, 24\): allowed is 1, 2, 3, 6.",
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
            ["data.order=sorted", "data.group_classes=2"],
            "data.group_classes=2 has no effect with data.order=sorted; set data.order=grouped, or leave it out.",
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
        ["model=resnet", "model.depth=50", "model.init.residual=zero", "norm=batch", "norm.affine=false"],
        ["model=resnet", "model.init.layers=conv", "model.init.residual=fixup"],
        ["train.trainable=head"],
        ["data.order=grouped", "data.group_classes=2"],
        ["data.duplicates=64", "data.order=sorted", "data.contrast=-1", "data.normalize=false"],
        ["model=ioffe_mlp", "data.size=28", "norm=batch", "model.dropout=0.2", "model.dropout_side=before_norm"],
    ],
    ids=" ".join,
)
def test_what_can_work_is_let_through(overrides: list[str]) -> None:
    compose(overrides)


BATCH, LINEAR_BATCH = {"norm.kind": NormKind.batch}, {"norm.kind": NormKind.batch, "norm.linear": True}
RENORM = {"norm.kind": NormKind.batch_renorm}
FROZEN = {"train.norm_statistics": NormStatistics.frozen}
UNTRACKED = {"norm.track_running_stats": False}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"study.name": "a b"}, "study.name 'a b' is not possible: use letters, digits, '_', '-' and, not first, '.'."),
        ({"study.arm": "../x"}, "study.arm '../x' is not possible"),
        ({"executor.address": "auto"}, "executor.address=auto has no effect with executor=auto; add executor=ray."),
        ({"executor.address": "auto", "executor.name": ExecutorName.ray}, None),
        ({"data.name": DataName.image_folder}, "data=image_folder needs data.root: the folder with one folder per class; "),
        ({"data.name": DataName.npz}, "data=npz needs data.root: the .npz file; add data.root=PATH."),
        ({"data.name": DataName.npz, "data.root": "x.npz"}, None),
        ({"data.duplicates": 32}, None),
        ({"model.name": ModelName.mlp, "model.dropout": 0.1}, None),
        ({"model.name": ModelName.plain, "model.init.layers": InitLayers.conv}, None),
        ({"norm.kind": NormKind.group, "norm.groups": 4}, r"norm.groups=4 .* \(6, 16\): allowed is 1, 2."),
        ({"norm.kind": NormKind.group, "norm.linear": True}, None),
        (
            {"norm.kind": NormKind.group, "norm.linear": True, "norm.groups": 6},
            r"norm.groups=6 .* \(6, 16, 120, 84\): allowed is 1, 2.",
        ),
        ({"norm.kind": NormKind.layer, "norm.groups": 4, "norm.ghost_size": 100, **UNTRACKED}, None),
        ({"norm.kind": NormKind.layer, "norm.statistics": Statistics.precise, **UNTRACKED, **FROZEN}, None),
        (BATCH | {"norm.ghost_size": 64}, None),
        (RENORM | {"norm.ghost_size": 100}, None),
        (BATCH | UNTRACKED, None),
        (BATCH | {"norm.statistics": Statistics.precise}, None),
        (LINEAR_BATCH | {"train.batch_size": 2}, None),
        (LINEAR_BATCH | {"norm.ghost_size": 4, "data.duplicates": 2}, None),
        (LINEAR_BATCH | {"norm.ghost_size": 4, "data.duplicates": 4}, "norm.kind=batch needs two different images"),
        (RENORM | {"norm.linear": True, "norm.ghost_size": 1}, None),
        (RENORM | {"norm.linear": True, "train.batch_size": 1}, "norm.kind=batch_renorm needs two different images"),
        (LINEAR_BATCH | FROZEN | {"train.batch_size": 1, "study.pretrain": ["train.epochs=1"]}, None),
        (
            LINEAR_BATCH | FROZEN | UNTRACKED | {"train.batch_size": 1, "train.init_from": "abc"},
            "train.norm_statistics=frozen needs running statistics; set norm.track_running_stats=true",
        ),
        (
            {"optim.nesterov": True, "optim.momentum": 0.0},
            "optim.nesterov=true needs optim.momentum above 0; set optim.momentum=0.9 or optim.nesterov=false.",
        ),
        ({"optim.nesterov": True}, None),
        ({"optim.momentum": 0.0}, None),
        ({"optim.nesterov": True, "optim.momentum": 0.0, "optim.name": OptimName.adam}, None),
        ({"optim.warmup": 10.0}, "optim.warmup=10 leaves no epoch to train: allowed is below train.epochs=10; "),
        ({"optim.warmup": 9.5}, None),
        (
            {"train.precision": Precision.tf32, "train.device": Device.cpu},
            "train.precision=tf32 needs a CUDA device, not train.device=cpu; use train.precision=fp32.",
        ),
        ({"train.precision": Precision.tf32, "train.device": Device.mps}, "train.precision=tf32 needs a CUDA device"),
        ({"train.precision": Precision.tf32}, None),
        ({"train.precision": Precision.bf16, "train.device": Device.cpu}, None),
        (
            {"train.precision": Precision.fp64, "train.device": Device.mps},
            "train.precision=fp64 does not exist on train.device=mps; use train.precision=fp32.",
        ),
        ({"train.precision": Precision.fp64, "train.device": Device.cpu}, None),
        ({"train.precision": Precision.fp32, "train.device": Device.mps}, None),
        ({"train.trainable": Trainable.norm_head}, "train.trainable=norm_head finds no .* with norm.kind=none; "),
        ({"train.trainable": Trainable.norm} | BATCH, None),
        ({"train.trainable": Trainable.norm, "norm.affine": False} | BATCH, ".* with norm.affine=false; use norm=batch with"),
        ({"train.trainable": Trainable.head, "norm.affine": False} | BATCH, None),
        (BATCH | FROZEN | {"train.init_from": "abc"}, None),
        (RENORM | FROZEN, "train.norm_statistics=frozen needs a trained run"),
    ],
)
def test_each_limit_stands_where_it_is_said_to(values: dict[str, Any], message: str | None) -> None:
    config = changed(RunConfig(), values)
    if message is None:
        validate(config)
        return
    with pytest.raises(ConfigError) as error:
        validate(config)
    assert re.match(message, str(error.value))


@pytest.mark.parametrize(("word", "possible"), [("a-b_c.d", True), ("Größe2", True), ("-x", True), (".x", False)])
def test_names_can_be_folders(word: str, possible: bool) -> None:
    for name in (word, word * 2):
        if possible:
            check_name(name, "arm")
    for name in ("", "a/b", "a b", "a\n", *([] if possible else [word])):
        with pytest.raises(ConfigError, match=r"arm .* is not possible"):
            check_name(name, "arm")
