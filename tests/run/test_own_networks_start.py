"""Before anything trains: each network of the user's is tried once, and what arms do not share is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bnexp.config.factory import name_code
from bnexp.config.options import ModelName, NormKind
from bnexp.config.schema import ConfigError, RunConfig
from bnexp.plan.spec import RunSpec
from bnexp.run.own_networks import try_networks

CODE = """
import random
import numpy as np
import torch
from torch import nn

def build(norm, in_channels, num_classes, size, width=4, bias=True, zero=False):
    conv = nn.Conv2d(in_channels, width, 3, bias=bias)
    net = nn.Sequential(conv, norm(width), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
    if zero:
        nn.init.zeros_(net[4].weight)
    return net

class Drawing(nn.Linear):
    def forward(self, x):
        factor = np.random.rand() + random.random() if self.seeded else np.random.default_rng().random()
        return super().forward(x.flatten(1)) * factor

def drawing(norm, in_channels, num_classes, size, seeded=True, weight=False):
    net = Drawing(in_channels * size * size, num_classes)
    net.seeded, generator = seeded, np.random.default_rng(None if weight else 0)
    net.bias.data = torch.tensor(generator.normal(size=num_classes), dtype=net.bias.dtype)
    return net

def plain(norm, in_channels, num_classes, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * size * size, num_classes))
"""
IMAGES = (1, 8, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(CODE)
    return tmp_path


def spec(folder: Path, arm: str, kind: NormKind, seed: int = 0, function: str = "build", **args: Any) -> RunSpec:
    config = RunConfig(seed=seed)
    config.model.name, config.model.args = ModelName.python, args
    config.model.factory = name_code(f"nets.py:{function}", "model.factory", folder)
    config.norm.kind = kind
    config.study.name, config.study.arm = "mine", arm
    return RunSpec(config)


def test_arms_that_differ_in_their_norm_alone_share_everything_and_nothing_is_said(folder: Path) -> None:
    specs = [
        spec(folder, kind.value, kind, seed) for seed in (0, 1) for kind in (NormKind.none, NormKind.batch, NormKind.layer)
    ]
    assert try_networks(specs, IMAGES) == []


def test_what_arms_do_not_share_is_named_with_the_reason(folder: Path) -> None:
    specs = [
        spec(folder, "none", NormKind.none),
        spec(folder, "batch", NormKind.batch, bias=False, zero=True),
        spec(folder, "none", NormKind.none, seed=1),
        spec(folder, "batch", NormKind.batch, seed=1, bias=False, zero=True),
    ]
    said = "The arms start alike, but not in 0.bias (only in none), 4.weight (with other values): these are not paired by seed."
    assert try_networks(specs, IMAGES) == [said]
    wider = [spec(folder, "none", NormKind.none), spec(folder, "wide", NormKind.none, width=6)]
    (line,) = try_networks(wider, IMAGES)
    assert "0.weight (of another shape), 0.bias (of another shape), 4.weight (of another shape)" in line


def test_each_different_network_is_tried_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr("bnexp.run.own_networks._start", lambda spec, _: tried.append(spec.arm) or {"0.weight": "1 a"})
    monkeypatch.setattr("bnexp.run.own_networks.unseeded", lambda *_: "")
    specs = [spec(folder, str(width), NormKind.none, seed, width=width) for seed in (0, 1) for width in (4, 5)]
    for one in specs:
        one.config.study.levels = {"width": one.arm}
    assert try_networks(specs, IMAGES) == []
    assert tried == ["4", "5"]


def test_a_network_that_cannot_train_is_refused_though_other_arms_could(folder: Path) -> None:
    specs = [spec(folder, "none", NormKind.none, function="plain"), spec(folder, "batch", NormKind.batch, function="plain")]
    with pytest.raises(ConfigError, match=r"nets\.py:plain never calls norm, so norm\.kind=batch would change nothing"):
        try_networks(specs, IMAGES)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"seeded": True}, ""),
        ({"seeded": False}, "its network, made twice with one seed, gives other logits for the same images, so a run that is "),
        (
            {"weight": True},
            "its network, made twice with one seed, starts with other values of bias, so a run that is repeated ",
        ),
    ],
)
def test_random_numbers_that_no_seed_decides_are_told(folder: Path, args: dict[str, Any], said: str) -> None:
    lines = try_networks([spec(folder, "none", NormKind.none, seed, function="drawing", **args) for seed in (0, 1)], IMAGES)
    assert len(lines) == bool(said)
    assert said in "".join(lines)
