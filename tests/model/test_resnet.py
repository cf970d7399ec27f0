"""The residual network: the oracle's training, its size, its blocks, and what its branches begin as."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference import reference_network, reference_train

from bnexp.config.options import InitScheme, ModelName, NormKind, Placement, Precision, ResidualInit
from bnexp.config.schema import InitConfig, ModelConfig, NormConfig, OptimConfig, RunConfig
from bnexp.model.network import Network
from bnexp.model.networks import build_network
from bnexp.training.optim import build_optimiser
from bnexp.training.probes.twin import weight_layers
from bnexp.training.step import TrainStep

BATCH = {"kind": NormKind.batch, "placement": Placement.before_activation}
ZERO, FIXUP = {"residual": ResidualInit.zero}, {"residual": ResidualInit.fixup}
STEPS, IMAGES, SIZE, CLASSES = 50, 6, 8, 4


def config(seed: int = 0, norm: dict[str, Any] | None = None, lr: float = 0.01, **model: Any) -> RunConfig:
    residual = model.pop("residual", ResidualInit.none)
    init = InitConfig(InitScheme.kaiming, residual=residual)
    given = ModelConfig(ModelName.resnet, **({"depth": 8, "width": 2} | model), init=init)
    return RunConfig(seed, model=given, norm=NormConfig(**(norm or {})), optim=OptimConfig(lr=lr, momentum=0.9))


def build(*configs: RunConfig, channels: int = 1, size: int = SIZE, classes: int = CLASSES) -> Network:
    return build_network(configs, channels, size, classes, dtype=torch.float64)


ARMS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({}, {"conv_bias": "false"}),
    ({}, {"depth": 14}),
    *(({"kind": kind, "placement": Placement.before_activation}, {}) for kind in (NormKind.layer, NormKind.instance)),
    *(({"kind": NormKind.group, "placement": placement}, {}) for placement in Placement),
    *(({"kind": NormKind.batch, "placement": placement}, {}) for placement in Placement),
    (BATCH, {"conv_bias": "true"}),
    *((norm, ZERO) for norm in ({}, BATCH, BATCH | {"affine": False})),
    *(({"kind": NormKind.batch, "placement": placement}, ZERO) for placement in (Placement.after_pool, Placement.both)),
    ({}, FIXUP),
    ({}, FIXUP | {"conv_bias": "true", "depth": 14}),
]


@pytest.mark.parametrize(("norm", "model"), ARMS, ids=str)
def test_it_trains_as_the_plain_one_alone_and_in_a_cohort(norm: dict[str, Any], model: dict[str, Any]) -> None:
    configs = [config(seed, norm, lr, **model) for seed, lr in ((0, 0.01), (1, 0.02))]
    g = torch.Generator().manual_seed(0)
    x = torch.randn(STEPS, IMAGES, 2, SIZE, SIZE, dtype=torch.float64, generator=g)
    y = torch.randint(CLASSES, (STEPS, 2, IMAGES), generator=g)
    for first, last in ((0, 2), (1, 2)):
        cohort = configs[first:last]
        network = build(*cohort)
        oracles = [reference_network(c, network.export(run), 1, SIZE, CLASSES) for run, c in enumerate(cohort)]
        step = TrainStep(network, build_optimiser([c.optim for c in cohort], network.flat, STEPS, 1), Precision.fp64)
        losses = torch.stack([step(x[t, :, first:last], y[t, first:last])[0] for t in range(STEPS)])
        logits = network.eval()(x[0, :, :1])
        for run, oracle in enumerate(oracles):
            own = first + run
            expected = reference_train(cohort[run], oracle, [(x[t, :, own : own + 1], y[t, own]) for t in range(STEPS)])
            torch.testing.assert_close(losses[:, run], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)
            torch.testing.assert_close(logits[:, run], oracle.eval()(x[0, :, :1]), rtol=0, atol=1e-9)
            for name, value in oracle.state_dict().items():
                torch.testing.assert_close(torch.as_tensor(network.export(run)[name]), value, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66)])
def test_it_has_as_many_parameters_as_in_the_paper(depth: int, millions: float) -> None:
    """He et al. 2015, table 6."""
    network = build(config(norm=BATCH, depth=depth, width=16), channels=3, size=32, classes=10)
    assert round(network.num_parameters / 1e6, 2) == millions


def test_its_parameters_are_those_of_its_layers() -> None:
    convs = 9 * (16 + 6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64)
    features, blocks = 7 * 16 + 6 * 32 + 6 * 64, 9
    sizes = {"depth": 20, "width": 16}
    for norm, model, expected in (
        (BATCH, {}, convs + 2 * features),
        (BATCH, ZERO, convs + 2 * features),  # the norm has the scale
        ({}, {}, convs + features),
        ({}, ZERO, convs + features + blocks),
        ({}, FIXUP, convs + 5 * blocks + 1 + 1),  # four summands and a factor in each block, one after conv1, one before fc1
    ):
        assert build(config(norm=norm, **sizes, **model), classes=10).num_parameters == expected + 650


@pytest.mark.parametrize("size", [32, 28, 17])
def test_maps_get_half_as_large_and_twice_as_many_from_stage_to_stage(size: int) -> None:
    network = build(config(0), config(1), size=size)
    shapes = []
    for i in (3, 5, 7):
        network.get_submodule(f"add{i}").register_forward_hook(lambda *given: shapes.append(given[2].shape[1:]))
    network(torch.randn(2, 1, size, size, dtype=torch.float64))
    half = -(-size // 2)
    quarter = -(-half // 2)
    assert shapes == [(2 * 2, size, size), (2 * 4, half, half), (2 * 8, quarter, quarter)]


@pytest.mark.parametrize(
    ("norm", "residual", "block"),
    [
        ({}, ResidualInit.none, "shortcut2 conv2 act2 conv3 add3 act3"),
        ({}, ResidualInit.zero, "shortcut2 conv2 act2 conv3 scale3 add3 act3"),
        (
            {},
            ResidualInit.fixup,
            "shortcut2 shift_conv2 conv2 shift_act2 act2 shift_conv3 conv3 scale3 shift_act3 add3 act3",
        ),
        (BATCH, ResidualInit.zero, "shortcut2 conv2 norm2 act2 conv3 norm3 add3 act3"),
        (BATCH | {"affine": False}, ResidualInit.zero, "shortcut2 conv2 norm2 act2 conv3 norm3 scale3 add3 act3"),
        ({"kind": NormKind.batch}, ResidualInit.none, "shortcut2 conv2 act2 norm2 conv3 add3 act3 norm3"),
        ({"kind": NormKind.batch}, ResidualInit.zero, "shortcut2 conv2 act2 norm2 conv3 scale3 add3 act3 norm3"),
        (
            {"kind": NormKind.batch, "placement": Placement.both},
            ResidualInit.zero,
            "shortcut2 conv2 norm2 act2 norm2_after conv3 norm3 add3 act3 norm3_after",
        ),
    ],
)
def test_the_layers_of_a_block(norm: dict[str, Any], residual: ResidualInit, block: str) -> None:
    names = [name for name, _ in build(config(norm=norm, residual=residual)).named_children()]
    begin, end = names.index("shortcut2"), names.index("shortcut4")
    assert names[begin:end] == block.split()


@pytest.mark.parametrize("norm", [{}, BATCH, BATCH | {"affine": False}, {"kind": NormKind.group}], ids=str)
def test_with_branches_that_begin_at_zero_every_block_begins_as_its_shortcut(norm: dict[str, Any]) -> None:
    network = build(config(norm=norm, **ZERO))
    x = torch.randn(5, 1, SIZE, SIZE, dtype=torch.float64)
    before = network(x)
    with torch.no_grad():
        for i in range(2, 8):
            network.get_submodule(f"conv{i}").weight.mul_(-3)  # in the branches
        torch.testing.assert_close(network(x), before, rtol=0, atol=1e-12)
        network.conv1.weight.mul_(-3)
        assert not torch.allclose(network(x), before)


def test_only_the_last_norm_of_a_branch_begins_at_zero() -> None:
    network = build(config(norm=BATCH, **ZERO))
    weights = network.export(0)
    assert [weights[f"norm{i}.weight"].mean() for i in range(1, 8)] == [1, 1, 0, 1, 0, 1, 0]


def test_fixup_begins_with_equal_logits_and_scaled_branches() -> None:
    """Zhang et al. 2019, section 3: of L = 6 branches with m = 2 convolutions, the first is scaled by L^(-1/(2m-2))."""
    usual, fixup = (build(config(depth=14, conv_bias="false", **more)).export(0) for more in ({}, FIXUP))
    for i in range(2, 14):
        factor = 6**-0.5 if i % 2 == 0 else 0
        torch.testing.assert_close(*(torch.as_tensor(w) for w in (fixup[f"conv{i}.weight"], factor * usual[f"conv{i}.weight"])))
    assert (fixup["conv1.weight"] == usual["conv1.weight"]).all()
    assert not fixup["fc1.weight"].any()
    assert not fixup["fc1.bias"].any()
    assert {float(value[0]) for name, value in fixup.items() if name.startswith("shift")} == {0.0}
    assert {float(value[0]) for name, value in fixup.items() if name.startswith("scale")} == {1.0}


@pytest.mark.parametrize("model", [{}, ZERO, FIXUP], ids=str)
def test_each_parameter_is_in_the_block_of_one_weighted_layer(model: dict[str, Any]) -> None:
    network = build(config(**model))
    layers = weight_layers(network)
    assert [layer.name for layer in layers] == [*(f"conv{i}" for i in range(1, 8)), "fc1"]
    assert [layer.block.start for layer in layers[1:]] == [layer.block.stop for layer in layers[:-1]]
    assert (layers[0].block.start, layers[-1].block.stop) == (0, network.num_parameters)
