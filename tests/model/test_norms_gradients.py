"""The gradient of every kind of norm, in each of the ways to compute it, in float64."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from norm_cases import KINDS, ON_FEATURES, C, R, assert_close, build, features, gradients, images
from torch import Tensor

from bnexp.config.options import Backward, NormKind
from bnexp.model.norms import RunNorm
from bnexp.model.norms.standardise import standardise

CASES = [(kind, "images") for kind in KINDS] + [(kind, "features") for kind in ON_FEATURES]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def small(values: str, num_runs: int) -> tuple[Tensor, int]:
    """A small input and its map size."""
    return (images(num_runs, 2, 2), 4) if values == "images" else (features(num_runs, 3), 1)


def check(norm: RunNorm, x: Tensor) -> bool:
    def call(x: Tensor, *parameters: Tensor) -> Tensor:
        names = dict(zip(("weight", "bias"), parameters, strict=False))
        result: Tensor = torch.func.functional_call(norm, names, (x,))
        return result

    inputs = (x.requires_grad_(), *(p.detach().requires_grad_() for p in norm.parameters()))
    return torch.autograd.gradcheck(call, inputs, check_undefined_grad=False)


@pytest.mark.parametrize("backward", list(Backward))
@pytest.mark.parametrize(("kind", "values"), CASES)
@pytest.mark.parametrize("affine", [True, False])
def test_gradcheck(kind: NormKind, values: str, affine: bool, backward: Backward) -> None:
    num_runs = 2 if affine else 1
    x, map_size = small(values, num_runs)
    norm = build(kind, map_size, num_runs, affine=affine, backward=backward, momentum=1e-12)
    if kind is NormKind.batch_renorm:  # every correction clipped, and so constant, which it is to the gradient
        norm.running_mean.fill_(-1e3)
        norm.running_var.fill_(1e-3)
        norm.step += 1
    assert check(norm, x)


@pytest.mark.parametrize("backward", list(Backward))
@pytest.mark.parametrize("values", ["images", "features"])
def test_gradcheck_of_ghost_batches(values: str, backward: Backward) -> None:
    x = images(1, 3, 2) if values == "images" else features(2, 5)
    num_runs = x.numel() // (len(x) * C * (4 if values == "images" else 1))
    assert check(build(NormKind.batch, num_runs=num_runs, ghost_size=2 if values == "images" else 3, backward=backward), x)


@pytest.mark.parametrize(("kind", "values"), CASES)
@pytest.mark.parametrize("affine", [True, False])
def test_the_ways_to_compute_it_agree(kind: NormKind, values: str, affine: bool) -> None:
    x = images() if values == "images" else features()
    norm = build(kind, 9 if values == "images" else 1, affine=affine)
    dy, results = torch.randn_like(x), []
    for backward in Backward:
        layer, leaf = deepcopy(norm), x.clone().requires_grad_()
        layer.backward = backward
        y = layer(leaf)
        results.append((y.detach(), *gradients(y, dy, leaf, layer)))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert_close(a, b)


@pytest.mark.parametrize("backward", list(Backward))
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_sums_to_zero_over_what_is_normalised_together(kind: NormKind, backward: Backward) -> None:
    x = images().requires_grad_()
    y = build(kind, backward=backward)(x)
    (dx,) = torch.autograd.grad(y, x, torch.randn_like(y))
    dx = dx.view(len(x), R, C, -1)
    groups = {NormKind.layer: 1, NormKind.group: 2, NormKind.instance: C}
    sums = dx.unflatten(2, (groups[kind], -1)).sum((3, 4)) if kind in groups else dx.sum((0, 3))
    assert sums.abs().max() < 1e-12


@pytest.mark.parametrize(
    ("backward", "step"), [("compact", "_CompactBackward"), ("staged", "_StagedBackward"), ("autograd", "")]
)
def test_the_gradient_goes_the_way_that_was_chosen(backward: str, step: str) -> None:
    x = torch.randn(5, 1, C, 9, dtype=torch.float64, requires_grad=True)
    y, mean, var = standardise(x, None, None, x.new_full((), 1e-5), (0, 3), Backward(backward))
    assert {type(y.grad_fn).__name__} & {"_CompactBackward", "_StagedBackward"} == ({step} if step else set())
    assert not mean.requires_grad
    assert not var.requires_grad
