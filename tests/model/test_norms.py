"""Batch norm against its formula, torch's own, and its known identities, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnexp.config.options import Backward
from bnexp.config.schema import ConfigError
from bnexp.model.norms import DriftNoise, RunBatchNorm

R, N, C = 3, 5, 4


def make(
    num_runs: int = R, momentum: list[float | None] | None = None, eps: list[float] | None = None, **more: Any
) -> RunBatchNorm:
    norm = RunBatchNorm("norm1", C, 9, eps or [1e-5] * num_runs, momentum or [0.1] * num_runs, dtype=torch.float64, **more)
    with torch.no_grad():
        for p in norm.parameters():
            p.copy_(torch.randn_like(p))
    return norm


def images(num_runs: int = R, batch: int = N, side: int = 3) -> Tensor:
    return 2 * torch.randn(batch, num_runs * C, side, side, dtype=torch.float64) + 1


def features(num_runs: int = R, batch: int = N) -> Tensor:
    return 2 * torch.randn(batch, num_runs, C, dtype=torch.float64) + 1


BY_KERNELS = pytest.mark.parametrize("kernels", [False, True], ids=["torch", "kernels"])  # those of a CPU that has them


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def of_run(x: Tensor, r: int) -> Tensor:
    return x[:, r] if x.dim() == 3 else x[:, r * C : (r + 1) * C]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("draw", [features, images])
def test_gradcheck_by_running_statistics(draw: Any, affine: bool) -> None:
    norm = make(1, affine=affine).eval()
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    x = draw(1, 3).requires_grad_()

    def call(x: Tensor, *parameters: Tensor) -> Tensor:
        names = dict(zip(("weight", "bias"), parameters, strict=False))
        result: Tensor = torch.func.functional_call(norm, names, (x,))
        return result

    inputs = (x, *(p.detach().requires_grad_() for p in norm.parameters()))
    assert torch.autograd.gradcheck(call, inputs, check_undefined_grad=False)


@pytest.mark.parametrize(
    ("momentum", "eps"), [([0.1, 0.1, 0.1], [1e-5] * 3), ([0.3, None, 1.0], [1e-5, 1e-1, 1e-3]), ([None] * 3, [1e-3] * 3)]
)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", ["1d", "2d"])
@BY_KERNELS
def test_parity_with_torch(kernels: bool, kind: str, affine: bool, momentum: list[float | None], eps: list[float]) -> None:
    draw, torch_norm = (features, nn.BatchNorm1d) if kind == "1d" else (images, nn.BatchNorm2d)
    norm = make(momentum=momentum, eps=eps, affine=affine, kernels=kernels)
    oracles = [torch_norm(C, eps[r], momentum[r], affine=affine).double() for r in range(R)]
    for r, oracle in enumerate(oracles):
        oracle.load_state_dict({name: value[r] for name, value in norm.state_dict().items()})
    for batch in (5, 2, 7):
        x = draw(batch=batch).requires_grad_()
        xs = [of_run(x.detach(), r).clone().requires_grad_() for r in range(R)]
        y = norm(x)
        ys = [oracle(z) for oracle, z in zip(oracles, xs, strict=True)]
        dy = torch.randn_like(y)
        y.backward(dy)
        for r, oracle in enumerate(oracles):
            ys[r].backward(of_run(dy, r))
            assert_close(of_run(y, r), ys[r])
            assert_close(of_run(x.grad, r), xs[r].grad)
            assert_close(norm.running_mean[r], oracle.running_mean)
            assert_close(norm.running_var[r], oracle.running_var)
            assert norm.num_batches_tracked[r] == oracle.num_batches_tracked
            if affine:
                assert_close(norm.weight.grad[r], oracle.weight.grad)
                assert_close(norm.bias.grad[r], oracle.bias.grad)
    x = draw()
    norm.eval()
    for r, oracle in enumerate(oracles):
        assert_close(of_run(norm(x), r), oracle.eval()(of_run(x, r)))


def assert_close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_training_output_has_mean_bias_and_deviation_weight() -> None:
    norm = make(eps=[1e-12] * R)
    y = norm(images()).unflatten(1, (R, C))
    assert_close(y.mean((0, 3, 4)), norm.bias.detach())
    torch.testing.assert_close(y.std((0, 3, 4), correction=0), norm.weight.detach().abs(), rtol=1e-9, atol=0)


def test_the_gradient_of_the_input_sums_to_zero_and_is_orthogonal_to_it() -> None:
    norm, x = make(eps=[1e-12] * R), images().requires_grad_()
    y = norm(x)
    y.backward(torch.randn_like(y))
    assert x.grad is not None
    assert_close(x.grad.sum((0, 2, 3)), torch.zeros(R * C, dtype=torch.float64))
    centred = x.detach() - x.detach().mean((0, 2, 3), keepdim=True)
    torch.testing.assert_close((x.grad * centred).sum((0, 2, 3)), torch.zeros(R * C, dtype=torch.float64), rtol=0, atol=1e-9)


def test_evaluation_is_the_identity_where_weight_and_bias_undo_the_running_statistics() -> None:
    norm, x = make().eval(), images()
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        norm.bias.copy_(norm.running_mean)
    assert_close(norm(x), x)


def test_scale_and_shift_of_the_input_leave_the_output() -> None:
    norm, x = make(eps=[1e-12] * R), images()
    torch.testing.assert_close(norm(4 * x + 3), norm(x), rtol=1e-9, atol=1e-9)


def test_one_image_is_instance_norm() -> None:
    norm, x = make(1, affine=False), images(1, batch=1)
    assert_close(norm(x), nn.functional.instance_norm(x, eps=1e-5))


@BY_KERNELS
def test_running_statistics_move_in_training_and_stand_in_evaluation(kernels: bool) -> None:
    norm, before = make(kernels=kernels), torch.zeros(R, C, dtype=torch.float64)
    norm.eval()(images())
    assert torch.equal(norm.running_mean, before)
    assert norm.num_batches_tracked.tolist() == [0] * R
    norm.train()(images().requires_grad_())
    assert not torch.equal(norm.running_mean, before)
    assert not norm.running_mean.requires_grad
    assert norm.num_batches_tracked.tolist() == [1] * R


@BY_KERNELS
def test_frozen_statistics_normalise_in_training_and_stand(kernels: bool) -> None:
    norm, x = make(kernels=kernels), images()
    norm(x)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    norm.frozen = True
    training = norm(x)
    assert torch.equal(training, norm.eval()(x))
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())
    norm.train().check_batch(1)
    assert norm(images(batch=1, side=1)).shape == (1, R * C, 1, 1)


@BY_KERNELS
def test_without_running_statistics_evaluation_uses_the_batch(kernels: bool) -> None:
    norm, x = make(track_running_stats=False, kernels=kernels), images()
    assert_close(norm(x), norm.eval()(x))
    assert not [name for name in norm.state_dict() if "running" in name]


@pytest.mark.parametrize(
    "more",
    [{"ghost_size": 2}, {"noise": DriftNoise(0.1, [0] * R, None)}, {"backward": Backward.staged}],
    ids=["ghost", "noise", "staged"],
)
def test_what_kernels_cannot_compute_is_not_left_to_them(more: dict[str, Any]) -> None:
    assert not make(kernels=True, **more).by_kernels(images())


def test_a_large_mean_costs_no_precision() -> None:
    norm, x = make(1, affine=False), images(1)
    torch.testing.assert_close(norm(x + 1e7), norm(x), rtol=0, atol=1e-7)


@pytest.mark.parametrize("x", [features(batch=1), images(batch=1, side=1)], ids=["features", "1x1 maps"])
@BY_KERNELS
def test_one_value_a_channel_is_refused_in_training_only(kernels: bool, x: Tensor) -> None:
    norm = make(kernels=kernels)
    with pytest.raises(ConfigError, match=r"norm1 has one value per channel .*train\.batch_size .*at least 2 images"):
        norm(x)
    assert norm.eval()(x).shape == x.shape


def test_bfloat16_input_is_normalised_in_full_precision() -> None:
    norm = RunBatchNorm("norm1", C, 9, [1e-5], [0.1])
    x = images(1).bfloat16()
    torch.testing.assert_close(norm(x), norm(x.float()))
    assert norm(x).dtype == torch.float32
