"""The built networks: parameter counts, layer order, exported weights, errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from reference import reference_network, reference_train
from torch import nn

from bnexp.config.options import Activation, DropoutSide, Kernels, ModelName, NormKind, Placement, Precision
from bnexp.config.schema import ConfigError, ModelConfig, NormConfig, OptimConfig, RunConfig, TrainConfig
from bnexp.model.layers import RunConv2d
from bnexp.model.network import Network
from bnexp.model.networks import _Builder, build_network
from bnexp.model.table import table
from bnexp.training.optim import build_optimiser
from bnexp.training.step import TrainStep

MLP = ModelConfig(ModelName.mlp, depth=2, width=8, activation=Activation.sigmoid)
PLAIN = ModelConfig(ModelName.plain, depth=3, width=4)
DEEP = ModelConfig(ModelName.plain, depth=5, width=4, activation=Activation.tanh)


def build(num_runs: int = 1, size: int = 32, model: ModelConfig | None = None, **norm: Any) -> Network:
    configs = [RunConfig(seed=s, model=model or ModelConfig(), norm=NormConfig(**norm)) for s in range(num_runs)]
    return build_network(configs, 3, size, 10, dtype=torch.float64)


pooled = RunConv2d.pooled


def names(network: Network) -> list[str]:
    return [name for name, _ in network.named_children()]


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        ({}, 62_006),
        ({"kind": NormKind.batch}, 62_050),
        ({"kind": NormKind.batch, "placement": Placement.before_activation}, 62_050 - 22),  # no redundant bias
        ({"kind": NormKind.batch, "affine": False}, 62_006),
        ({"kind": NormKind.batch, "linear": True}, 62_050 + 2 * (120 + 84)),
    ],
    ids=str,
)
def test_parameter_counts(norm: dict[str, Any], expected: int) -> None:
    network = build(2, **norm)
    assert network.num_parameters == expected
    assert sum(p.numel() for p in network.parameters()) == 2 * expected


@pytest.mark.parametrize(
    ("model", "norm", "expected"),
    [
        (ModelConfig(ModelName.mlp, depth=3, width=100), {}, 3072 * 100 + 100 + 2 * 10_100 + 1010),
        (ModelConfig(ModelName.mlp, depth=3, width=100), {"kind": NormKind.batch}, 3072 * 100 + 100 + 2 * 10_100 + 1010 + 600),
        (ModelConfig(ModelName.mlp, depth=1, width=7), {"kind": NormKind.layer}, 3072 * 7 + 7 + 80 + 14),
        (ModelConfig(ModelName.plain, depth=4, width=16), {}, 27 * 16 + 16 + 3 * (144 * 16 + 16) + 170),
        (
            ModelConfig(ModelName.plain, depth=4, width=16),
            {"kind": NormKind.group},
            27 * 16 + 16 + 3 * (144 * 16 + 16) + 170 + 128,
        ),
        (ModelConfig(ModelName.plain, depth=1, width=16, conv_bias="false"), {}, 27 * 16 + 170),
    ],
    ids=str,
)
def test_parameter_counts_of_other_networks(model: ModelConfig, norm: dict[str, Any], expected: int) -> None:
    assert build(2, model=model, **norm).num_parameters == expected


@pytest.mark.parametrize("depth", range(1, 21))
def test_a_plain_network_has_up_to_four_equal_stages(depth: int) -> None:
    convs = table(ModelConfig(ModelName.plain, depth=depth)).convs
    stages = "".join("x|" if row.pool else "x" for row in convs).split("|")
    assert len(convs) == depth
    assert len(stages) == min(4, depth)
    assert max(map(len, stages)) - min(map(len, stages)) <= 1
    network = build(model=ModelConfig(ModelName.plain, depth=depth, width=2))
    maps = []
    network.average.register_forward_hook(lambda layer, inputs, output: maps.append(inputs[0].shape))
    network(torch.randn(2, 3, 32, 32, dtype=torch.float64))
    assert maps == [(2, 2, 2 ** (6 - len(stages)), 2 ** (6 - len(stages)))]


@pytest.mark.parametrize("placement", list(Placement))
def test_rows_of_a_plain_network(placement: Placement) -> None:
    network = names(
        build(
            model=ModelConfig(ModelName.plain, depth=2, width=2, activation=Activation.tanh),
            kind=NormKind.batch,
            placement=placement,
        )
    )
    first, last = {
        Placement.before_activation: ("conv1 norm1 act1 pool1", "conv2 norm2 act2"),
        Placement.after_activation: ("conv1 act1 norm1 pool1", "conv2 act2 norm2"),
        Placement.after_pool: ("conv1 act1 pool1 norm1", "conv2 act2 norm2"),
        Placement.both: ("conv1 norm1 act1 norm1_after pool1", "conv2 norm2 act2 norm2_after"),
    }[placement]
    assert network == [*first.split(), *last.split(), "average", "fc1"]


def test_an_mlp_normalises_its_hidden_layers_whatever_norm_linear_says() -> None:
    plain = names(build(model=MLP))
    assert plain == ["flatten", "fc1", "act1", "fc2", "act2", "fc3"]
    for linear in (False, True):
        normed = names(build(model=MLP, kind=NormKind.batch, linear=linear, placement=Placement.before_activation))
        assert normed == ["flatten", "fc1", "norm1", "act1", "fc2", "norm2", "act2", "fc3"]


def test_lenet_has_no_depth_or_width() -> None:
    assert names(build(model=ModelConfig(depth=9, width=3))) == names(build())
    assert build(model=ModelConfig(depth=9, width=3)).num_parameters == build().num_parameters


LINEAR = ["flatten", "fc1", "act3", "fc2", "act4", "fc3"]


@pytest.mark.parametrize(
    ("placement", "block"),
    [
        (Placement.before_activation, "conv norm act pool"),
        (Placement.after_activation, "conv act norm pool"),
        (Placement.after_pool, "conv act pool norm"),
        (Placement.both, "conv norm act norm_after pool"),
    ],
)
def test_the_norm_stands_where_the_placement_says(placement: Placement, block: str) -> None:
    network = build(kind=NormKind.batch, placement=placement, model=ModelConfig(activation=Activation.tanh))
    expected = [f"{part.split('_')[0]}{i}{'_after' if '_' in part else ''}" for i in (1, 2) for part in block.split()]
    assert names(network) == expected + LINEAR


@pytest.mark.parametrize(
    ("model", "norm", "kernels", "fused"),
    [
        (ModelConfig(), {}, Kernels.auto, True),
        (ModelConfig(), {"kind": NormKind.batch, "placement": Placement.after_pool}, Kernels.auto, True),
        (ModelConfig(), {"kind": NormKind.batch, "placement": Placement.before_activation}, Kernels.auto, False),
        (ModelConfig(), {"kind": NormKind.batch, "placement": Placement.after_activation}, Kernels.auto, False),
        (ModelConfig(activation=Activation.tanh), {}, Kernels.auto, False),  # only ReLU may be computed after pooling
        (PLAIN, {}, Kernels.auto, False),  # it pads
        (MLP, {"kind": NormKind.batch, "linear": True}, Kernels.auto, False),
        (ModelConfig(), {"kind": NormKind.batch}, Kernels.torch, False),
    ],
)
def test_kernels_compute_what_pooling_follows_directly(
    model: ModelConfig, norm: dict[str, Any], kernels: Kernels, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig(model=model, norm=NormConfig(**norm), train=TrainConfig(kernels=kernels))
    network = build_network([config], 1, 20, 4, dtype=torch.float64)
    by_kernels = [f"conv{i} with pooling" for i in (1, 2) if fused]
    if kernels is Kernels.auto:
        directly = model == ModelConfig(activation=Activation.tanh) or norm.get("placement") is Placement.after_activation
        by_kernels += ["pooling"] * (not fused and model is not MLP and not directly) + ["norms"] * ("kind" in norm)
    assert network.compile_kernels(1, 20) == by_kernels
    shapes: list[torch.Size] = []
    monkeypatch.setattr(RunConv2d, "pooled", lambda layer, x: shapes.append(x.shape) or pooled(layer, x))
    images = torch.randn(3, 1, 20, 20, dtype=torch.float64)
    network(images)
    assert shapes == ([images.shape, (3, 6, 8, 8)] if fused else [])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network.compile_kernels(1, 20) == []


@pytest.mark.parametrize(("device", "fused"), [(None, True), ("cpu", True), ("cuda", False), ("mps", False)])
def test_only_a_cpu_has_kernels(device: str | None, fused: bool) -> None:
    builder = _Builder([RunConfig()], torch.device(device) if device else None, torch.float32, num_steps=1)
    assert builder._is_fused(builder.table.convs[0]) is fused


def test_linear_layers_are_normalised_on_request() -> None:
    tanh = ModelConfig(activation=Activation.tanh)
    after = names(build(kind=NormKind.batch, linear=True, model=tanh))
    assert after[-7:] == ["fc1", "act3", "norm3", "fc2", "act4", "norm4", "fc3"]
    before = names(build(kind=NormKind.batch, linear=True, placement=Placement.before_activation, model=tanh))
    assert before[-7:] == ["fc1", "norm3", "act3", "fc2", "norm4", "act4", "fc3"]


def test_dropout_follows_hidden_linear_layers_where_any_run_asks_for_it() -> None:
    network = names(build(model=ModelConfig(dropout=0.5)))
    assert network[-7:] == ["fc1", "act3", "dropout1", "fc2", "act4", "dropout2", "fc3"]
    assert "dropout1" not in names(build())


@pytest.mark.parametrize(
    ("placement", "before", "after"),
    [
        (Placement.before_activation, "fc1 dropout1 norm1 act1", "fc1 norm1 act1 dropout1"),
        (Placement.after_activation, "fc1 act1 dropout1 norm1", "fc1 act1 norm1 dropout1"),
        (Placement.after_pool, "fc1 act1 dropout1 norm1", "fc1 act1 norm1 dropout1"),
        (Placement.both, "fc1 dropout1 norm1 act1 norm1_after", "fc1 norm1 act1 norm1_after dropout1"),
    ],
)
def test_dropout_stands_on_its_side_of_the_norm(placement: Placement, before: str, after: str) -> None:
    for side, block in ((DropoutSide.before_norm, before), (DropoutSide.after_norm, after)):
        model = ModelConfig(ModelName.mlp, depth=1, width=8, dropout=0.5, dropout_side=side)
        assert names(build(model=model, kind=NormKind.batch, placement=placement)) == ["flatten", *block.split(), "fc2"]


def test_dropout_ends_a_block_without_norm_on_either_side() -> None:
    for side in DropoutSide:
        network = names(build(model=ModelConfig(dropout=0.5, dropout_side=side), kind=NormKind.batch))
        assert network[-6:] == ["act3", "dropout1", "fc2", "act4", "dropout2", "fc3"]


def test_a_norm_after_dropout_normalises_what_is_left() -> None:
    x = torch.randn(400, 3, 32, 32, dtype=torch.float64)
    left = {}
    for side in DropoutSide:
        model = ModelConfig(ModelName.mlp, depth=1, width=50, activation=Activation.identity, dropout=0.5, dropout_side=side)
        network = build(model=model, kind=NormKind.batch)
        h = nn.Sequential(*list(network.children())[:-1])(x)[:, 0]
        var = h.var(0, unbiased=False)
        if side is DropoutSide.before_norm:  # mean 0 and variance 1 of what dropout left
            torch.testing.assert_close(h.mean(0), torch.zeros(50, dtype=torch.float64))
            torch.testing.assert_close(var, torch.ones(50, dtype=torch.float64), rtol=1e-3, atol=0)
            left[side] = network.dropout1(torch.ones(400, 1, 50, dtype=torch.float64)) != 0
        else:  # half of the units zero, the others twice as large
            assert abs((h == 0).double().mean() - 0.5) < 0.02
            assert abs(var.mean() - 2) < 0.05
            left[side] = network.dropout1(torch.ones(400, 1, 50, dtype=torch.float64)) != 0
    assert torch.equal(left[DropoutSide.before_norm], left[DropoutSide.after_norm])  # the same units on either side


def test_parameters_are_views_of_the_flat_tensor() -> None:
    network = build(3, kind=NormKind.batch)
    with torch.no_grad():
        network.flat.fill_(0.5)
    assert all((p == 0.5).all() for p in network.parameters())


@pytest.mark.parametrize("placement", [None, *Placement])
@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("size", [32, 19])
def test_exported_weights_load_strictly_into_a_plain_network_with_the_same_logits(
    placement: Placement | None, linear: bool, size: int
) -> None:
    norm = {"kind": NormKind.batch, "placement": placement, "linear": linear} if placement else {}
    network = build(2, size, **norm)
    network(torch.randn(4, 6, size, size, dtype=torch.float64))  # moves the running statistics
    network.eval()
    x = torch.randn(6, 3, size, size, dtype=torch.float64)
    logits = network(x)
    assert logits.shape == (6, 2, 10)
    for run in range(2):
        config = RunConfig(norm=NormConfig(**norm))
        oracle = reference_network(config, network.export(run), 3, size, 10).eval()
        torch.testing.assert_close(logits[:, run], oracle(x), rtol=0, atol=1e-12)


MODELS = {"lenet": ModelConfig(), "mlp": MLP, "plain": PLAIN, "deep": DEEP}
ARMS = [
    pytest.param(model, kind, Kernels.auto, id=f"{name}-{kind}")
    for name, model in MODELS.items()
    for kind in NormKind
    if kind is not NormKind.batch_renorm  # torch has none to train against
    and not (kind.needs_maps and model is MLP)  # a feature of one image is one value
] + [pytest.param(ModelConfig(), kind, Kernels.torch, id=f"lenet-{kind}-torch") for kind in (NormKind.none, NormKind.batch)]


@pytest.mark.parametrize("placement", list(Placement))
@pytest.mark.parametrize(("model", "kind", "kernels"), ARMS)
def test_every_network_trains_as_the_plain_one(
    model: ModelConfig, kind: NormKind, kernels: Kernels, placement: Placement
) -> None:
    norm, train = NormConfig(kind, placement, linear=not kind.needs_maps), TrainConfig(kernels=kernels)
    configs = [
        RunConfig(seed, model=model, norm=norm, train=train, optim=OptimConfig(lr=lr)) for seed, lr in ((0, 0.01), (1, 0.02))
    ]
    network = build_network(configs, 1, 20, 4, dtype=torch.float64)
    oracles = [reference_network(configs[run], network.export(run), 1, 20, 4) for run in range(2)]
    g = torch.Generator().manual_seed(0)
    batches = [(torch.randn(8, 2, 20, 20, dtype=torch.float64, generator=g), torch.arange(16).view(2, 8) % 4) for _ in range(3)]
    step = TrainStep(network, build_optimiser([c.optim for c in configs], network.flat, 3, 1), Precision.fp64)
    losses = torch.stack([step(x, y)[0] for x, y in batches])
    shared = batches[0][0][:, :1]
    logits = network.eval()(shared)
    for run, oracle in enumerate(oracles):
        expected = reference_train(configs[run], oracle, [(x[:, run : run + 1], y[run]) for x, y in batches])
        torch.testing.assert_close(losses[:, run], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10)
        torch.testing.assert_close(logits[:, run], oracle.eval()(shared), rtol=0, atol=1e-10)
        for name, value in oracle.state_dict().items():
            torch.testing.assert_close(torch.as_tensor(network.export(run)[name]), value, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "norm",
    [
        {"kind": NormKind.batch_renorm},
        {"kind": NormKind.batch, "ghost_size": 4},
        {"kind": NormKind.batch, "noise": 0.2},
        {"kind": NormKind.batch, "affine": False},
        {"kind": NormKind.batch, "track_running_stats": False},
        {"kind": NormKind.group, "affine": False, "groups": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("model", [MLP, PLAIN], ids=["mlp", "plain"])
def test_weights_of_every_norm_load_into_the_plain_network(model: ModelConfig, norm: dict[str, Any]) -> None:
    network = build(2, 20, model, **norm)
    network(torch.randn(8, 6, 20, 20, dtype=torch.float64))  # moves the running statistics
    x = torch.randn(6, 3, 20, 20, dtype=torch.float64)
    logits = network.eval()(x)
    for run in range(2):
        oracle = reference_network(RunConfig(model=model, norm=NormConfig(**norm)), network.export(run), 3, 20, 10).eval()
        torch.testing.assert_close(logits[:, run], oracle(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", [ModelConfig(dropout=0.3), replace(MLP, dropout=0.3), DEEP], ids=["lenet", "mlp", "plain"])
def test_a_run_computes_the_same_alone_and_in_a_cohort(model: ModelConfig) -> None:
    configs = [RunConfig(seed, model=model, norm=NormConfig(NormKind.batch)) for seed in range(3)]
    x = torch.randn(5, 9, 20, 20, dtype=torch.float64)
    cohort = build_network(configs, 3, 20, 10, dtype=torch.float64)(x)
    for run, config in enumerate(configs):
        alone = build_network([config], 3, 20, 10, dtype=torch.float64)(x[:, 3 * run : 3 * run + 3])
        torch.testing.assert_close(cohort[:, run], alone[:, 0])


def test_load_restores_an_export_in_any_slot() -> None:
    source, target = build(1, kind=NormKind.batch), build(3, kind=NormKind.batch)
    source(torch.randn(4, 3, 32, 32, dtype=torch.float64))
    target.load(2, source.export(0))
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(target.eval()(x)[:, 2], source.eval()(x)[:, 0])


def test_load_refuses_weights_of_another_network() -> None:
    with pytest.raises(ConfigError, match=r"do not fit this network: norm1\.bias, .* is only in one of them"):
        build().load(0, build(kind=NormKind.batch).export(0))
    with pytest.raises(ConfigError, match=r"fc1\.weight is \(120, 256\) instead of \(120, 400\)"):
        build().load(0, build(size=28).export(0))


def test_an_image_that_is_too_small_is_refused() -> None:
    message = "data.size=15 is too small for model.name=lenet: allowed is at least 16; set data.size=32."
    with pytest.raises(ConfigError, match=f"^{message}$"):
        build(size=15)
    assert build(size=16)(torch.randn(2, 3, 16, 16, dtype=torch.float64)).shape == (2, 1, 10)


def test_a_batch_of_one_is_refused_where_maps_are_single_pixels() -> None:
    build(size=32, kind=NormKind.batch).check_batch(1)
    build(size=16, kind=NormKind.batch).check_batch(2)
    build(size=16, kind=NormKind.batch, placement=Placement.before_activation).check_batch(1)
    with pytest.raises(ConfigError, match="norm2 has one value per channel"):
        build(size=16, kind=NormKind.batch).check_batch(1)
    with pytest.raises(ConfigError, match="norm3 has one value per channel"):
        build(size=32, kind=NormKind.batch, linear=True).check_batch(1)
