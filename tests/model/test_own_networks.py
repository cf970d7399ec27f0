"""A user's own module becomes a network: paired by names, normalised where they say, or refused in one sentence."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bnexp
from bnexp.config.options import Backward, NormKind
from bnexp.config.schema import ConfigError, RunConfig
from bnexp.model.export import own_module
from bnexp.model.own.network import OwnNetwork, build_own_network
from bnexp.model.own.norms import Norm

Make = Callable[[Norm], nn.Module]


def configured(kind: NormKind = NormKind.batch, seed: int = 0, **norm: Any) -> RunConfig:
    config = RunConfig(seed=seed)
    return replace(config, norm=replace(config.norm, kind=kind, **norm))


def built(make: Make, *configs: RunConfig, dtype: torch.dtype = torch.float32, size: int = 8) -> OwnNetwork:
    def build(norm: Norm, in_channels: int, num_classes: int, size: int) -> nn.Module:
        return make(norm)

    return build_own_network(build, "model.factory=nets.py:build", {}, configs or [configured()], 1, size, 3, dtype=dtype)


class Small(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self, norm: Norm, extra: bool = False) -> None:
        super().__init__()
        if extra:
            self.extra = nn.Linear(5, 5)  # draws before all others
        self.conv = nn.Conv2d(1, 4, 3)
        nn.init.orthogonal_(self.conv.weight)
        self.norm = norm(4)
        self.fc = nn.Linear(4, 3)
        self.fc.bias.requires_grad = False
        nn.init.trunc_normal_(self.fc.weight, std=0.02)
        self.shift = nn.Parameter(0.1 * torch.randn(3) + torch.rand(3))
        self.register_buffer("code", torch.randperm(5))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(F.relu(self.norm(self.conv(x))).mean((2, 3))) + self.shift
        return logits


class Wrapped(nn.Module):
    """A module of which a function makes the output."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Any], **layers: Any) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.function = forward

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def linear(**layers: Any) -> Wrapped:
    return Wrapped(lambda self, x: self.fc(x.flatten(1)), fc=nn.Linear(64, 3), **layers)


def test_arms_of_a_seed_share_what_has_the_same_name_and_shape_whatever_else_draws() -> None:
    plain = built(Small, configured(NormKind.none)).export(0)
    for make, config in [(Small, configured()), (lambda norm: Small(norm, extra=True), configured(NormKind.group))]:
        other = built(make, config).export(0)
        assert plain.keys() <= other.keys()
        assert [name for name in plain if not np.array_equal(plain[name], other[name])] == []
    seven = built(Small, configured(seed=7)).export(0)
    assert [name for name in plain if np.array_equal(plain[name], seven[name])] == []


def test_initial_values_have_the_distribution_that_the_code_asks_for() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(64, 3)
            self.square = nn.Parameter(torch.empty(40, 40))
            nn.init.orthogonal_(self.square)
            self.sum = nn.Parameter(torch.randn(10_000) + torch.randn(10_000))
            self.rows = nn.Parameter(torch.empty(2, 50))
            for row in self.rows.data:
                row.uniform_(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.fc(x.flatten(1)) + self.sum.sum() * self.rows.sum() * self.square.sum()
            return logits

    weights = built(lambda norm: Wide(), configured(NormKind.none)).export(0)
    np.testing.assert_allclose(weights["square"] @ weights["square"].T, np.eye(40), atol=1e-5)
    assert weights["sum"].std() == pytest.approx(2**0.5, rel=0.03)
    assert weights["rows"].min() >= 2
    assert weights["rows"].max() < 3
    assert not np.array_equal(weights["rows"][0], weights["rows"][1])


def test_one_generator_of_their_own_is_left_alone() -> None:
    def make(norm: Norm) -> nn.Module:
        module = linear()
        with torch.no_grad():
            module.fc.weight.normal_(generator=torch.Generator().manual_seed(5))
        return module

    expected = torch.empty(3, 64).normal_(generator=torch.Generator().manual_seed(5)).numpy()
    assert np.array_equal(built(make, configured(NormKind.none, seed=3)).export(0)["fc.weight"], expected)


def test_code_that_changes_the_process_changes_no_other_run() -> None:
    def careless(norm: Norm) -> nn.Module:
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.set_grad_enabled(False)
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        return Small(norm)

    def state() -> list[Any]:
        drawn = torch.get_rng_state().tolist(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
        settings = torch.get_num_threads(), torch.is_grad_enabled()
        return [*drawn, torch.get_default_dtype(), *settings, torch.backends.cudnn.benchmark]

    before = state()
    network = built(careless)
    weights = network.export(0)
    network(torch.zeros(2, 1, 8, 8))
    assert state() == before
    for name, value in built(Small).export(0).items():  # but for rounding: they asked for float64
        np.testing.assert_allclose(weights[name], value, atol=1e-6, err_msg=name)


def test_numbers_that_a_module_draws_from_python_and_numpy_are_the_runs_own() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        noise = random.random() + float(np.random.rand())  # noqa: NPY002
        logits: Tensor = self.fc(x.flatten(1)) * noise
        return logits

    def make(norm: Norm) -> nn.Module:
        return Wrapped(forward, fc=nn.Linear(64, 3))

    x = torch.ones(2, 1, 8, 8)
    one, two = (built(make, configured(NormKind.none, seed=4)) for _ in range(2))
    random.random()
    first = one(x)
    assert torch.equal(first, two(x))
    assert not torch.equal(first, one(x))


def test_shared_frozen_and_unused_parameters_and_buffers_of_any_kind_survive_export_and_load() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(self.body(x.flatten(1))))
        return logits

    def make(norm: Norm) -> nn.Module:
        body, frozen = nn.Linear(64, 64), nn.Linear(64, 3)
        module = Wrapped(forward, body=body, again=body, head=frozen, unused=nn.Linear(2, 2), lazy=nn.LazyLinear(3))
        module.lazy = nn.Identity()
        frozen.weight.requires_grad = False
        module.register_buffer("flags", torch.tensor([True, False]))
        module.register_buffer("waves", torch.tensor([1j]))
        module.register_buffer("small", torch.ones(2, dtype=torch.bfloat16))
        return module

    network = built(make, configured(NormKind.none), configured(NormKind.none, seed=1))
    assert network.num_parameters == 64 * 64 + 64 + 3 + 6
    weights = network.export(0)
    assert np.array_equal(weights["again.weight"], weights["body.weight"])
    assert {"head.weight", "flags", "waves", "small"} <= weights.keys()
    network.load(1, weights)
    assert all(np.array_equal(value, network.export(1)[name]) for name, value in weights.items())
    gradient = torch.empty_like(network.flat)
    x = torch.rand(4, 1, 8, 8)
    network.gradient(network(x)[:, 1].sum(), gradient)
    assert gradient[0].count_nonzero() == 0
    assert gradient[1][network.columns()["body.weight"]].count_nonzero() > 0
    assert gradient[1][network.columns()["unused.weight"]].count_nonzero() == 0


def test_lazy_layers_learn_their_shapes_and_draw_from_the_streams_of_their_names() -> None:
    def make(layer: Callable[[], nn.Module]) -> np.ndarray[Any, Any]:
        config = configured(NormKind.none)
        return built(lambda norm: Wrapped(lambda s, x: s.fc(x.flatten(1)), fc=layer()), config).export(0)["fc.weight"]

    assert np.array_equal(make(lambda: nn.LazyLinear(3)), make(lambda: nn.Linear(64, 3)))


def test_columns_stand_in_the_order_in_which_images_reach_the_layers() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        logits: Tensor = self.last(F.relu(self.first(x.flatten(1))))
        return logits

    network = built(lambda norm: Wrapped(forward, last=nn.Linear(5, 3), first=nn.Linear(64, 5)), configured(NormKind.none))
    assert network.weight_layers() == ["first", "last"]
    assert list(network.columns()) == ["first.weight", "first.bias", "last.weight", "last.bias"]
    assert network.head == "last"
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.modules()), "nobody looks on"


def resnet_like(norm: Norm) -> nn.Module:
    inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    nn.init.zeros_(inner[1].weight)
    inner[1].running_mean.fill_(2)
    inner[1].running_var.fill_(3)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), inner, nn.Flatten(), nn.Linear(4 * 36, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    return bnexp.replace_norms(module, norm)


def test_replace_norms_puts_the_arms_norm_where_batch_norms_stood_and_keeps_what_these_start_from() -> None:
    network = built(resnet_like)
    assert network.norm_layers() == ["1.1", "4"]
    weights = network.export(0)
    assert weights["1.1.weight"].tolist() == [0] * 4
    assert (weights["1.1.running_mean"].tolist(), weights["1.1.running_var"].tolist()) == ([2] * 4, [3] * 4)
    assert weights["4.running_var"].tolist() == [1] * 6
    assert built(resnet_like, configured(NormKind.none)).norm_layers() == []
    assert list(built(resnet_like, configured(NormKind.layer)).export(0)) == [
        name for name in weights if "running" not in name and "num_batches" not in name
    ]


def test_replace_norms_says_so_if_there_is_nothing_to_replace() -> None:
    with pytest.raises(ConfigError, match=r"found no nn\.BatchNorm1d or nn\.BatchNorm2d in Linear: call norm\(num_channels\)"):
        bnexp.replace_norms(nn.Linear(2, 3), lambda channels, spatial=True: nn.Identity())


@pytest.mark.parametrize("kind", [NormKind.batch, NormKind.batch_renorm, NormKind.group, NormKind.none])
def test_the_module_of_a_run_has_torchs_norms_and_computes_the_same(kind: NormKind) -> None:
    network = built(resnet_like, configured(kind, affine=True))
    x = torch.rand(5, 1, 8, 8)
    network.train()(x)
    expected = network.eval()(x)[:, 0]
    module = own_module(network, 0)
    torch.testing.assert_close(module(x), expected)
    assert not any(type(layer).__module__.startswith("bnexp") for layer in module.modules())
    weights = network.export(0) if kind is NormKind.none else None
    assert weights is None or weights.keys() == module.state_dict().keys()


def sharing(norm: Norm) -> nn.Module:
    module = linear(n=norm(1))
    module.a = nn.Parameter(torch.ones(3))
    module.b = nn.Parameter(module.a.data)
    return module


REFUSED: dict[str, tuple[Make, str]] = {
    "no norm": (lambda norm: linear(), r"nets\.py:build never calls norm, so norm\.kind=batch would change nothing: write "),
    "norm thrown away": (
        lambda norm: (norm(3), linear())[1],
        r"calls norm, but no layer that it returned is in the module",
    ),
    "norm in a list": (
        lambda norm: linear(first=norm(3), others=[norm(3)]),
        r"calls norm 2 times, but the layer of call 2 is not in the module: assign it to an attribute, or .*nn\.ModuleList",
    ),
    "norm unused": (lambda norm: linear(bn=norm(3)), r"forward uses no norm layer of the module \(bn\)"),
    "channels": (
        lambda norm: nn.Sequential(nn.Conv2d(1, 4, 3), norm(5)),
        r"layer 1 was made by norm\(5\), but is given values ",
    ),
    "no number": (lambda norm: nn.Sequential(norm(0)), r"calls norm\(0\): give the number of channels, an integer from 1"),
    "no module": (lambda norm: torch.zeros(3), r"returns Tensor; it has to return a torch\.nn\.Module"),  # type: ignore[arg-type, return-value]
    "tuple": (
        lambda norm: Wrapped(lambda s, x: (s.n(x), 1), n=norm(1)),
        r"the module returns tuple for images of shape \(2, 1, 8, 8\); it has to return one tensor of logits, \(N, 3\)",
    ),
    "shape": (
        lambda norm: nn.Sequential(norm(1), nn.Flatten(), nn.Linear(64, 4)),
        r"returns shape \(2, 4\) for images .*; it has to return logits of shape \(2, 3\)",
    ),
    "integers": (
        lambda norm: Wrapped(lambda s, x: s.n(x).flatten(1)[:, :3].long(), n=norm(1)),
        r"returns torch\.int64 .*; it has to return floating-point logits",
    ),
    "nothing to train": (
        lambda norm: Wrapped(lambda s, x: s.n(x).flatten(1)[:, :3].detach(), n=norm(1)),
        r"the logits depend on no trainable parameter",
    ),
    "unregistered": (
        lambda norm: Wrapped(lambda s, x: s.layers[0](s.n(x).flatten(1)), n=norm(1), layers=[nn.Linear(64, 3)]),
        r"depend on a parameter of shape \((3|64|3, 64),?\) that is not in module\.parameters\(\)",
    ),
    "memory": (sharing, r"a and b share memory but are two tensors"),
    "one value": (
        lambda norm: nn.Sequential(nn.Flatten(), nn.Linear(64, 3), norm(3, spatial=False)),
        r"2 with 3 channels of one value leaves instance norm a single value to normalise",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_network_that_cannot_be_trained_is_refused_in_one_sentence(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as error:
        built(make, configured(NormKind.instance if case == "one value" else NormKind.batch))
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_an_error_in_the_users_code_names_their_line_and_the_images() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1)[:, :7])  # type: ignore[no-any-return]

    def make(norm: Norm) -> nn.Module:
        return Wrapped(forward, fc=nn.Linear(64, 3))

    line = forward.__code__.co_firstlineno + 1
    message = (
        r"nets\.py:build failed for images of shape \(2, 1, 8, 8\) in the layer fc, Linear\(in_features=64, out_features=3, "
        rf"bias=True\): RuntimeError: .*\(test_own_networks\.py, line {line}\)"
    )
    with pytest.raises(ConfigError, match=message):
        built(make, configured(NormKind.none))


def test_an_error_in_a_row_of_layers_names_the_layer_that_failed() -> None:
    message = r"of shape \(2, 1, 8, 8\) in the layer 2, Linear\(in_features=9, out_features=3, bias=True\): RuntimeError: mat1"
    with pytest.raises(ConfigError, match=message):
        built(lambda norm: nn.Sequential(nn.Flatten(), norm(64, spatial=False), nn.Linear(9, 3)))


def test_a_norm_of_single_values_is_refused_without_advice_that_only_built_in_networks_can_take() -> None:
    with pytest.raises(ConfigError) as error:
        built(lambda norm: nn.Sequential(nn.Flatten(), nn.Linear(64, 3), norm(3, spatial=False)), configured(NormKind.instance))
    assert str(error.value) == (
        "model.factory=nets.py:build: the norm layer 2 with 3 channels of one value leaves instance norm a single value to "
        "normalise: leave out its call of norm(), or use norm=layer or norm=batch."
    )


def test_a_batch_that_leaves_a_norm_one_value_per_channel_is_refused_by_the_name_of_the_layer() -> None:
    network = built(lambda norm: nn.Sequential(nn.Flatten(), nn.Linear(64, 3), norm(3, spatial=False))).train()
    network.check_batch(2)
    with pytest.raises(ConfigError, match=r"^2 has one value per channel to normalise"):
        network.check_batch(1)


@pytest.mark.parametrize("kind", [kind for kind in NormKind if kind is not NormKind.none])
@pytest.mark.parametrize("options", [{}, {"affine": False}, *({"backward": backward} for backward in Backward)])
def test_what_follows_a_norm_may_work_in_place(kind: NormKind, options: dict[str, Any]) -> None:
    def gradient(inplace: bool) -> Tensor:
        def make(norm: Norm) -> nn.Module:
            layers = [nn.Conv2d(1, 4, 3), norm(4), nn.ReLU(inplace), nn.Flatten(), nn.Linear(144, 6)]
            features = [] if kind is NormKind.instance else [norm(6, spatial=False), nn.ReLU(inplace)]
            return nn.Sequential(*layers, *features, nn.Linear(6, 3))

        network = built(make, configured(kind, **options), dtype=torch.float64)
        x = torch.linspace(-1, 1, 256, dtype=torch.float64).sin().view(4, 1, 8, 8)
        out = torch.empty_like(network.flat)
        network.gradient(network(x)[:, 0, 0].square().sum(), out)
        return out

    assert torch.equal(gradient(True), gradient(False))


class Averaging(Small):
    """Keeps a running mean in a buffer that it replaces in every step."""

    def __init__(self, norm: Norm) -> None:
        super().__init__(norm)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.seen + x.mean()
        return super().forward(x)


def test_runs_are_computed_as_one_only_if_that_gives_the_same() -> None:
    configs = [configured(seed=seed, ghost_size=2, noise=0.1) for seed in range(3)]
    single, combined = (built(Small, *configs, dtype=torch.float64).train() for _ in range(2))
    combined.combine(8)
    assert combined.not_captured == "a network of your own, its runs computed as one by torch.func"
    for step in range(2):
        x = torch.linspace(0, step + 1, 5 * 3 * 64, dtype=torch.float64).cos().view(5, 3, 8, 8)
        gradients = []
        for network in (single, combined):
            gradients.append(torch.empty_like(network.flat))
            network.gradient(network(x).square().sum(), gradients[-1])
            network.flat.sub_(0.1 * gradients[-1])
        torch.testing.assert_close(gradients[1], gradients[0])
    for name, value in single.export(2).items():
        np.testing.assert_allclose(combined.export(2)[name], value, atol=1e-10, err_msg=name)

    other = built(Small, configured(seed=9), dtype=torch.float64).export(0)
    outputs = []
    for network in (single, combined):
        network.load(1, other)
        outputs.append(network.eval()(x)[:, 1])
    torch.testing.assert_close(outputs[1], outputs[0])
    assert not torch.equal(outputs[0], single(x)[:, 2])

    averaging = built(Averaging, configured(), configured(seed=1)).train()
    averaging.combine(8)
    assert averaging.not_captured is not None
    assert averaging.not_captured.endswith("one after another: torch.func computes something else than the module by itself")
    averaging(torch.ones(2, 1, 8, 8))
    assert averaging.export(1)["seen"] == 1


def test_what_is_overwritten_leaves_no_trace_in_the_stream_of_a_parameter() -> None:
    def make(start: Callable[[], Tensor]) -> np.ndarray[Any, Any]:
        def build(norm: Norm) -> nn.Module:
            return Wrapped(lambda self, x: self.fc(x.flatten(1)) + self.shift, fc=nn.Linear(64, 3), shift=nn.Parameter(start()))

        return built(build, configured(NormKind.none)).export(0)["shift"]

    def copied() -> Tensor:
        return torch.empty(3).uniform_().copy_(torch.randn(3))

    assert np.array_equal(make(copied), make(lambda: torch.randn(3)))
    assert np.array_equal(make(copied), make(lambda: torch.empty(3).uniform_().normal_()))


@pytest.mark.parametrize(
    "options", [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}, {"ghost_size": 9}]
)
def test_batch_norm_in_ones_own_network_is_the_same_whichever_kernel_computes_it(options: dict[str, Any]) -> None:
    outcomes = []
    for backward in (Backward.compact, Backward.staged):
        config = configured(backward=backward, **options)
        network = built(resnet_like, config, dtype=torch.float64).train()
        x = torch.linspace(-1, 1, 320, dtype=torch.float64).sin().view(5, 1, 8, 8)
        gradient = torch.empty_like(network.flat)
        for _ in range(2):
            network.gradient(network(x).square().sum(), gradient)
        outcomes.append([gradient.numpy(), *network.export(0).values()])
    for a, b in zip(*outcomes, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_a_function_may_use_up_its_arguments() -> None:
    args = {"widths": [4]}

    def build(norm: Norm, in_channels: int, num_classes: int, size: int, widths: list[int]) -> nn.Module:
        width = widths.pop()
        return nn.Sequential(nn.Conv2d(1, width, 3), norm(width), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3))

    network = build_own_network(build, "model.factory=nets.py:build", args, [configured(), configured(seed=1)], 1, 8, 3)
    assert network.norm_layers() == ["1"]
    assert args == {"widths": [4]}, "they are part of the run's identity"
