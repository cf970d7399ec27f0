"""What a CUDA graph demands, shown without a GPU: a step does the same operations every time, on memory that stays in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from fake_data import FakeData, make_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from bnexp.config.options import Kernels, ModelName, NormKind, OptimName, Precision, ResidualInit, Trainable
from bnexp.config.schema import InitConfig, RunConfig, TrainConfig
from bnexp.model.networks import build_network
from bnexp.training.evaluate import SplitScores
from bnexp.training.loop import EpochLoop
from bnexp.training.optim import build_optimiser
from bnexp.training.precision import compute_dtype
from bnexp.training.step import TrainStep
from bnexp.training.transfer import hold

# They wait for the device, copy from the host, or draw from a generator whose state a graph would freeze.
FORBIDDEN = (
    "_local_scalar_dense",
    "nonzero",
    "is_nonzero",
    "masked_select",
    "lift_fresh",
    "_unique",
    "rand",
    "bernoulli",
    "normal_",
)


class Trace(TorchDispatchMode):
    """The operations that run inside, with everything about them that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[object, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves, _ = tree_flatten((args, kwargs or {}))
        shown = [tuple(leaf.shape) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        self.operations.append((str(func), *shown))
        return func(*args, **(kwargs or {}))


def traced(function: Callable[[], None]) -> list[tuple[object, ...]]:
    with Trace() as trace:
        function()
    return trace.operations


def build(config: RunConfig) -> tuple[EpochLoop, SplitScores]:
    config = replace(config, train=replace(config.train, kernels=Kernels.torch))  # as on a GPU
    precision = config.train.precision
    data: Any = FakeData(num_train=48, dtype=compute_dtype(precision))
    seeds = [0, 1]
    configs = [config, config]
    network = build_network(configs, data.in_channels, data.size, data.num_classes, dtype=data.dtype, num_steps=20)
    optimiser = hold(build_optimiser([c.optim for c in configs], network.flat, 10, 2), network, config.train)
    loop = EpochLoop(TrainStep(network.train(), optimiser, precision), data, seeds, TrainConfig(batch_size=12))
    return loop, SplitScores(network, data, "val", 7, precision)


def norm_case(kind: NormKind, **more: Any) -> RunConfig:
    config = make_config(0, {"linear": True} | more)
    config.norm.kind = kind
    return config


RESNET = {"name": ModelName.resnet, "depth": 8, "width": 2}
CASES = {
    **{kind.value: norm_case(kind, linear=not kind.needs_maps) for kind in NormKind},
    "ghost": norm_case(NormKind.batch, ghost_size=4),
    "noise": norm_case(NormKind.batch, noise=True),
    "cumulative": norm_case(NormKind.batch, momentum=None),
    "untracked": norm_case(NormKind.batch, track_running_stats=False),
    "dropout": make_config(0, {"linear": True}, model={"dropout": 0.5}),
    "adam": make_config(0, {}, optim={"name": OptimName.adam, "weight_decay": 0.1}),
    "nesterov": make_config(0, {}, optim={"nesterov": True, "weight_decay": 0.1}),
    "plain": make_config(0, {}, model={"name": ModelName.plain}),
    "resnet": make_config(0, {}, model=RESNET),
    "resnet, zero": make_config(0, None, model=RESNET | {"init": InitConfig(residual=ResidualInit.zero)}),
    "resnet, fixup": make_config(0, None, model=RESNET | {"init": InitConfig(residual=ResidualInit.fixup)}),
    "mlp": make_config(0, {"linear": True}, model={"name": ModelName.mlp}),
    "head": make_config(0, {}, train={"trainable": Trainable.head, "batch_size": 12}),
    "bf16": make_config(0, {}, train={"precision": Precision.bf16, "batch_size": 12}),
}


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_every_step_and_every_validation_is_the_same_list_of_operations(config: RunConfig) -> None:
    loop, validation = build(config)
    loop.begin(1)
    state = [*loop.state, *validation.state]
    places = [tensor.data_ptr() for tensor in state]
    for function in (loop.functions[12], validation):
        function()
        first, second = traced(function), traced(function)
        assert first == second
        assert not [name for name, *_ in first if any(word in str(name) for word in FORBIDDEN)]
    assert [tensor.data_ptr() for tensor in [*loop.state, *validation.state]] == places


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_what_a_step_changes_is_known_as_its_state(config: RunConfig) -> None:
    """Put back, the state makes the same step give the same bits: nothing else remembers anything."""
    loop, validation = build(config)
    loop.begin(1)
    loop.functions[12]()  # so that momentum and running statistics are there
    state = [*loop.state, *validation.state]
    before = [tensor.clone() for tensor in state]
    results = []
    for _ in range(2):
        loop.functions[12]()
        validation()
        results.append([tensor.clone() for tensor in state])
        with torch.no_grad():
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert not torch.equal(results[0][0], before[0])
