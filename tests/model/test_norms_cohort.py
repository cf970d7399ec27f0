"""What holds for every kind of norm: no run feels its cohort, bit for bit, and what a norm takes away from the layer before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from norm_cases import KINDS, R, assert_close, build, images
from torch import Tensor

from bnexp.config.options import Backward, NormKind, Placement
from bnexp.config.schema import ConfigError, NormConfig, RunConfig
from bnexp.model.networks import build_network
from bnexp.model.norms import build_norm, running_norms

OPTIONS: dict[str, dict[str, Any]] = {
    **{kind.value: {"kind": kind} for kind in KINDS},
    "ghost": {"kind": NormKind.batch, "ghost_size": 3},
    "noise": {"kind": NormKind.batch, "noise": 0.5},
    "batch, staged": {"kind": NormKind.batch, "backward": Backward.staged},
    "group, staged": {"kind": NormKind.group, "backward": Backward.staged},
    "batch, autograd": {"kind": NormKind.batch, "backward": Backward.autograd},
    "group, autograd": {"kind": NormKind.group, "backward": Backward.autograd},
}
EARLY = 1_000_000  # steps of a training in whose first ones batch renorm is batch norm
CONFIGS = [(0, 1e-5, 0.1), (1, 1e-3, 0.37), (2, 1e-1, None)]  # seed, eps, momentum


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def history(option: dict[str, Any], runs: list[int], x: Tensor, dy: Tensor, start: Tensor) -> list[Tensor]:
    """What three steps and an evaluation of the runs give: everything with a run axis, which comes first.

    ``x`` and ``dy`` (N, R, C) or (N, R, C, H, W) are of the runs alone; ``start`` (2, R, C) is scale and shift of all.
    """
    configs = [RunConfig(CONFIGS[r][0], norm=NormConfig(eps=CONFIGS[r][1], momentum=CONFIGS[r][2], **option)) for r in runs]
    norm = build_norm("norm1", configs, x.shape[2], x[0, 0, 0].numel(), num_steps=4)
    with torch.no_grad():
        for p, value in zip(norm.parameters(), start, strict=True):
            p.copy_(value[runs])
    found = []
    for step in range(3):
        leaf = (x * (1 + step)).requires_grad_()
        y = norm(leaf if x.dim() == 3 else leaf.flatten(1, 2)).view(x.shape)
        dx, dweight, dbias = torch.autograd.grad(y, (leaf, norm.weight, norm.bias), dy)
        found += [y.detach().transpose(0, 1), dx.transpose(0, 1), dweight, dbias]
    y = norm.eval()(x if x.dim() == 3 else x.flatten(1, 2)).view(x.shape)
    return [*found, y.detach().transpose(0, 1), *(value for value in norm.state_dict().values() if value.dim())]


SHAPES = [(6, 7, 7), (16, 2, 2), (16, 1, 1), (20,)]


@pytest.mark.parametrize(
    ("option", "shape"), [(o, shape) for o in OPTIONS for shape in SHAPES[: 2 if o == "instance" else None]], ids=str
)
def test_a_run_is_the_same_alone_and_in_a_cohort(option: str, shape: tuple[int, ...]) -> None:
    x = torch.randn(38, R, *shape)
    dy, start = torch.randn_like(x), torch.randn(2, R, shape[0])
    together = history(OPTIONS[option], [0, 1, 2], x, dy, start)
    for r in range(R):
        alone = history(OPTIONS[option], [r], x[:, r : r + 1].contiguous(), dy[:, r : r + 1].contiguous(), start)
        for a, b in zip(alone, together, strict=True):
            assert torch.equal(a[0], b[r])


@pytest.mark.parametrize("kind", KINDS)
def test_weights_before_a_norm_may_have_any_scale(kind: NormKind) -> None:
    """A factor of 4 on the convolution before it leaves the output, and takes the gradient of its weights by 4."""
    norm = build(kind, eps=1e-14, num_steps=EARLY)
    x, weight = images(), torch.randn(12, 12, 1, 1, dtype=torch.float64)

    def call(weight: Tensor) -> tuple[Tensor, Tensor]:
        weight = weight.requires_grad_()
        y = norm(torch.nn.functional.conv2d(x, weight))
        return y.detach(), torch.autograd.grad((y**3).sum(), weight)[0]

    (y, gradient), (other, smaller) = call(weight), call(4 * weight.detach())
    torch.testing.assert_close(other, y, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(4 * smaller, gradient, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bias_before_a_norm_is_redundant_where_a_channel_is_normalised_by_itself(kind: NormKind) -> None:
    norm, x = build(kind, num_steps=EARLY), images()
    bias = torch.randn(1, 12, 1, 1, dtype=torch.float64, requires_grad=True)
    y = norm(x + bias)
    (gradient,) = torch.autograd.grad((y**3).sum(), bias)
    if kind in (NormKind.layer, NormKind.group):
        assert gradient.abs().min() > 1e-3
    else:
        assert gradient.abs().max() < 1e-11
        assert_close(y, norm(x))


def network(size: int = 32, **norm: Any) -> Any:
    return build_network([RunConfig(norm=NormConfig(**norm))], 3, size, 10)


def test_only_norms_that_keep_running_statistics_are_found_as_such() -> None:
    assert len(running_norms(network(kind=NormKind.batch))) == 2
    assert len(running_norms(network(kind=NormKind.batch_renorm, linear=True))) == 4
    for norm in ({"kind": NormKind.batch, "track_running_stats": False}, {"kind": NormKind.group}, {"kind": NormKind.none}):
        assert running_norms(network(**norm)) == []


def test_norms_that_cannot_be_are_refused_when_the_network_is_built() -> None:
    for norm, message in (
        (
            {"kind": NormKind.group, "groups": 4},
            r"^norm\.groups=4 does not fit norm1 with 6 channels: allowed there is 1, 2, 3, 6;",
        ),
        (
            {"kind": NormKind.group, "groups": 6},
            r"^norm\.groups=6 does not fit norm2 with 16 channels: allowed there is 1, 2, 4, 8",
        ),
        ({"kind": NormKind.instance, "linear": True}, "^norm3 with 120 channels of one value leaves instance norm"),
        ({"kind": NormKind.instance, "size": 16}, "^norm2 with 16 channels of one value leaves instance norm"),
    ):
        with pytest.raises(ConfigError, match=message):
            network(**norm)
    network(16, kind=NormKind.instance, placement=Placement.before_activation)


def test_a_last_batch_of_one_is_refused_where_it_leaves_one_value() -> None:
    for kind in (NormKind.batch, NormKind.batch_renorm):
        with pytest.raises(ConfigError, match="norm3 has one value per channel"):
            network(kind=kind, linear=True).check_batch(1)
        network(kind=kind, linear=True).check_batch(2)
        network(kind=kind, linear=True).eval().check_batch(1)
        network(kind=kind).check_batch(1)
    ghosts = {"kind": NormKind.batch, "linear": True, "ghost_size": 3}
    with pytest.raises(ConfigError, match=r"norm\.ghost_size=3 leaves norm3 one value per channel .* of 7 images"):
        network(**ghosts).check_batch(7)
    network(**ghosts, track_running_stats=False).eval().check_batch(7)  # evaluation normalises by the whole batch
    for kind in (NormKind.layer, NormKind.group):
        network(kind=kind, linear=True).check_batch(1)
