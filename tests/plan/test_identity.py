"""Run ids against training itself: a key is part of an id exactly if it changes what a run learns or records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bnexp.config.options import (
    DropoutSide,
    InitLayers,
    InitScheme,
    ModelName,
    NormKind,
    NormStatistics,
    OptimName,
    Placement,
    ResidualInit,
    Schedule,
    Statistics,
)
from bnexp.config.schema import ConfigError, InitConfig, RunConfig
from bnexp.config.validate import validate
from bnexp.metrics import EpochMetrics, RunFinished
from bnexp.plan.spec import RunSpec
from bnexp.training.engine import fit
from tests.changed import changed
from tests.training.fake_data import FakeData, make_config

DATA: Any = FakeData(num_train=20, num_val=5, num_test=5)

# A value of each key that is in no context.
OTHER: dict[str, Any] = {
    "data.root": "/elsewhere",
    "data.test_fraction": 0.3,
    "model.depth": 3,
    "model.width": 12,
    "model.conv_bias": "false",
    "model.dropout_side": DropoutSide.before_norm,
    "model.init.layers": InitLayers.conv,
    "model.init.residual": ResidualInit.zero,
    "norm.placement": Placement.after_activation,
    "norm.eps": 0.1,
    "norm.momentum": 0.5,
    "norm.affine": False,
    "norm.track_running_stats": False,
    "norm.linear": True,
    "norm.groups": 1,
    "norm.ghost_size": 5,
    "norm.statistics": Statistics.precise,
    "norm.noise": 0.3,
    "norm.r_max": 1.01,
    "norm.d_max": 0.01,
    "optim.momentum": 0.5,
    "optim.nesterov": True,
    "optim.beta1": 0.5,
    "optim.beta2": 0.5,
    "optim.eps": 0.1,
    "optim.step_epochs": 2.0,
    "optim.step_gamma": 0.5,
    "train.norm_statistics": NormStatistics.recomputed,
    "probe.per_epoch": 2,
    "probe.images": 5,
    "probe.jitter": 0.5,
}


def context(norm: dict[str, Any] | None = None, kind: NormKind = NormKind.batch, **sections: Any) -> RunConfig:
    sections = {"train": {"epochs": 1, "batch_size": 10}} | sections
    model = {"depth": 2, "width": 8} | sections.pop("model", {})
    config = make_config(1, norm, model=model, **sections)
    if norm is not None:
        config.norm.kind = kind
    return config


MLP, PLAIN = {"name": ModelName.mlp}, {"name": ModelName.plain}
RESNET = {"name": ModelName.resnet, "depth": 8, "width": 2}
CONTEXTS = {
    "none": context(model={"dropout": 0.3}),
    "batch": context({}),
    "batch, linear": context({"linear": True}, model={"dropout": 0.3}),
    "batch, by its batch": context({"track_running_stats": False}),
    "batch, before": context({"placement": Placement.before_activation}),
    "renorm": context({}, NormKind.batch_renorm),
    "layer": context({}, NormKind.layer),
    "instance": context({}, NormKind.instance),
    "group": context({}, NormKind.group),
    "mlp": context({}, model=MLP),
    "mlp, dropout": context({}, model=MLP | {"dropout": 0.3}),
    "mlp, no norm": context(model=MLP | {"dropout": 0.3}),
    "plain": context({}, model=PLAIN),
    "resnet": context({}, model=RESNET),
    "resnet, fixup": context(model=RESNET | {"init": InitConfig(InitScheme.kaiming, residual=ResidualInit.fixup)}),
    "adam": context(optim={"name": OptimName.adam}),
    "step": context(optim={"schedule": Schedule.step, "step_epochs": 0.5}),
    "init scheme": context(model={"init": InitConfig(InitScheme.kaiming)}),
    "init gain": context(model={"init": InitConfig(gain=2.0)}),
    "probe": context(probe={"activations": True, "images": 6}),
    "probe, similar": context({}, probe={"similar": True, "images": 6}),
}


def changed_at(config: RunConfig, *keys: str) -> RunConfig:
    return changed(config, {key: OTHER[key] for key in keys})


def learned(config: RunConfig) -> list[Any]:
    """Everything that a run leaves behind but times, as comparable bits."""
    found: list[Any] = []
    for record in fit([RunSpec(config)], DATA):
        if isinstance(record, EpochMetrics | RunFinished):
            found += [(name, value) for name, value in record.metrics.items() if not name.startswith("time/")]
        if isinstance(record, RunFinished):
            found += [(name, np.asarray(weight).tobytes()) for name, weight in record.weights.items()]
            assert record.predictions is not None
            found.append(record.predictions.probabilities.tobytes())
    return found


def is_valid(config: RunConfig) -> bool:
    try:
        validate(config)
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("name", CONTEXTS)
def test_two_configurations_share_an_id_exactly_if_they_train_the_same(name: str) -> None:
    config = CONTEXTS[name]
    run_id, expected = RunSpec(config).run_id, learned(config)
    same = [key for key in OTHER if RunSpec(changed_at(config, key)).run_id == run_id]
    together = changed_at(config, *same)
    assert RunSpec(together).run_id == run_id
    assert learned(together) == expected, same
    apart = [key for key in OTHER if key not in same and is_valid(changed_at(config, key))]
    assert [key for key in apart if learned(changed_at(config, key)) == expected] == []
