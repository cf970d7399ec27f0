"""Layer, instance and group norm against torch's own, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from norm_cases import C, R, assert_close, build, features, gradients, images, of_run
from torch import nn

from bnexp.config.options import Backward, NormKind
from bnexp.config.schema import ConfigError
from bnexp.model.norms import RunGroupNorm

EPS = [1e-5, 1e-1, 1e-3]

# What torch calls the layer of kind, values, number of groups; the second argument is eps.
ORACLES: dict[str, tuple[NormKind, Any, int, Callable[[float], nn.Module]]] = {
    "layer on maps": (NormKind.layer, images, 9, lambda eps: nn.GroupNorm(1, C, eps)),
    "layer on features": (NormKind.layer, features, 1, lambda eps: nn.LayerNorm(C, eps)),
    "instance": (NormKind.instance, images, 9, lambda eps: nn.InstanceNorm2d(C, eps, affine=True)),
    "group on maps": (NormKind.group, images, 9, lambda eps: nn.GroupNorm(2, C, eps)),
    "group on features": (NormKind.group, features, 1, lambda eps: nn.GroupNorm(2, C, eps)),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("case", ORACLES)
@pytest.mark.parametrize("backward", list(Backward))
def test_parity_with_torch(case: str, backward: Backward) -> None:
    kind, values, map_size, oracle_of = ORACLES[case]
    norm = build(kind, map_size, backward=backward)
    norm.eps.copy_(torch.tensor(EPS)[:, None])
    for batch in (5, 1):
        x = values(batch=batch).requires_grad_()
        y = norm(x)
        assert torch.equal(y, norm.eval()(x))
        dy = torch.randn_like(y)
        dx, dweight, dbias = gradients(y, dy, x, norm.train())
        for r, eps in enumerate(norm.eps.flatten().tolist()):
            oracle = oracle_of(eps).double()
            oracle.load_state_dict({name: value[r] for name, value in norm.state_dict().items()})
            z = of_run(x.detach(), r).clone().requires_grad_()
            expected = oracle(z)
            assert_close(of_run(y, r), expected)
            own = torch.autograd.grad(expected, (z, oracle.weight, oracle.bias), of_run(dy, r))
            for a, b in zip((of_run(dx, r), dweight[r], dbias[r]), own, strict=True):
                assert_close(a, b)


def test_layer_norm_is_over_channels_and_pixels() -> None:
    x = images()
    y = build(NormKind.layer, affine=False)(x)
    for r in range(R):
        assert_close(of_run(y, r), F.layer_norm(of_run(x, r), (C, 3, 3)))


@pytest.mark.parametrize("kind", [NormKind.layer, NormKind.instance, NormKind.group])
def test_an_image_does_not_depend_on_the_others(kind: NormKind) -> None:
    norm, x = build(kind), images()
    torch.testing.assert_close(norm(x)[2:3], norm(x[2:3]), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [NormKind.layer, NormKind.instance, NormKind.group])
def test_scale_and_shift_of_the_input_leave_the_output(kind: NormKind) -> None:
    norm, x = build(kind, eps=1e-12), images()
    torch.testing.assert_close(norm(4 * x + 3), norm(x), rtol=1e-9, atol=1e-9)


def refusal(kind: NormKind, map_size: int, **norm: Any) -> str:
    with pytest.raises(ConfigError) as error:
        build(kind, map_size, **norm)
    return str(error.value)


def test_instance_norm_of_single_values_is_refused() -> None:
    assert refusal(NormKind.instance, 1) == (
        "norm1 with 4 channels of one value leaves instance norm a single value to normalise: keep it off features and single "
        "pixels (norm.linear=false, another norm.placement, a larger data.size), or use norm=layer or norm=batch."
    )


def test_groups_that_do_not_fit_are_refused() -> None:
    assert refusal(NormKind.group, 9, groups=3) == (
        "norm.groups=3 does not fit norm1 with 4 channels: allowed there is 1, 2, 4; "
        "set norm.groups to a number that fits every normalised layer."
    )
    for groups in (3, 4):
        expected = f"norm.groups={groups} does not fit norm1 with 4 channels of one value: allowed there is 1, 2;"
        assert refusal(NormKind.group, 1, groups=groups).startswith(expected)


def test_a_refusal_counts_the_channels() -> None:
    for channels, counted in ((1, "1 channel of one value"), (2, "2 channels of one value")):
        with pytest.raises(ConfigError, match=f"^norm1 with {counted} leaves instance norm"):
            RunGroupNorm("norm1", channels, 1, [1e-5], None)


@pytest.mark.parametrize("groups", [1, None])
def test_a_single_value_is_refused(groups: int | None) -> None:
    with pytest.raises(ConfigError, match=r"norm1 with 1 channel of one value .* a single value"):
        RunGroupNorm("norm1", 1, 1, [1e-5], groups)
