"""Batch renormalisation against its formula and the outputs that it connects, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from norm_cases import N, R, assert_close, build, features, gradients, images

from bnexp.config.options import NormKind
from bnexp.config.schema import ConfigError, NormConfig, RunConfig
from bnexp.model.norms import build_norm

STEPS = 130_000  # so that a step is one of the paper's


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def at(step: int, **norm: Any) -> Any:
    layer = build(NormKind.batch_renorm, num_steps=STEPS, **norm)
    layer.step.fill_(step)
    return layer


@pytest.mark.parametrize("values", [images, features])
def test_unclipped_training_is_evaluation(values: Any) -> None:
    norm, x = at(STEPS, r_max=1e6, d_max=1e6), values()
    expected = norm.eval()(x)
    assert_close(norm.train()(x), expected)


def test_it_begins_as_batch_norm() -> None:
    norm, x = at(0), images()
    torch.manual_seed(1)
    plain = build(NormKind.batch)
    plain.load_state_dict(norm.state_dict())
    for _ in range(3):
        assert_close(norm(x), plain(x))
    for name, buffer in plain.named_buffers():
        assert_close(buffer, dict(norm.named_buffers())[name])


@pytest.mark.parametrize(
    ("step", "r_max", "d_max"),
    [(0, 1, 0), (5_000, 1, 0), (15_000, 1 + 2 * 10 / 35, 2.5), (25_000, 1 + 2 * 20 / 35, 5), (40_000, 3, 5), (STEPS, 3, 5)],
)
def test_the_bounds_open_over_the_run(step: int, r_max: float, d_max: float) -> None:
    norm, ones = at(step), torch.ones(R, 4, dtype=torch.float64)
    norm.running_mean.zero_()
    norm.running_var.fill_(1)
    for sign in (1, -1):
        r, d = norm._correction(sign * 1e6 * ones, 10.0 ** (6 * sign) * ones)
        norm.step -= 1
        assert_close(r, float(r_max) ** sign * ones)
        assert_close(d, sign * d_max * ones)


def test_the_gradient_takes_the_correction_as_constant() -> None:
    norm, x = at(STEPS, r_max=1.8, d_max=0.5), images().requires_grad_()
    z = x.view(N, R, 4, 9)
    mean, var = z.mean((0, 3), keepdim=True), z.var((0, 3), keepdim=True, correction=0)
    eps = norm.eps.unsqueeze(-1)
    s = (norm.running_var.unsqueeze(-1) + eps).sqrt()
    r = ((var + eps).sqrt() / s).clamp(1 / 1.8, 1.8).detach()
    d = ((mean - norm.running_mean.unsqueeze(-1)) / s).clamp(-0.5, 0.5).detach()
    assert 0 < (r < 1.8).sum() < r.numel()  # some are clipped, some not
    expected = norm.weight.unsqueeze(-1) * ((z - mean) / (var + eps).sqrt() * r + d) + norm.bias.unsqueeze(-1)
    expected = expected.reshape(x.shape)
    y = norm(x)
    assert_close(y, expected)
    dy = torch.randn_like(y)
    for a, b in zip(gradients(y, dy, x, norm), gradients(expected, dy, x, norm), strict=True):
        assert_close(a, b)


def test_steps_are_counted_in_training_only() -> None:
    norm, x = at(0), images()
    norm.eval()(x)
    norm.train().frozen = True
    norm(x)
    assert norm.step == 0
    norm.frozen = False
    norm(x)
    assert norm.step == 1
    assert "step" not in norm.state_dict()


def test_single_precision_counts_the_steps_of_long_trainings() -> None:
    norm = build_norm("norm1", [RunConfig(norm=NormConfig(kind=NormKind.batch_renorm))], 4, 9, STEPS)
    norm.step.fill_(2**24)  # from here on a float32 counts no single steps
    norm(images(1).float())
    assert norm.step == 2**24 + 1


def test_it_needs_running_statistics() -> None:
    with pytest.raises(ConfigError, match=r"norm\.track_running_stats=false leaves batch renorm nothing to correct by; set"):
        build(NormKind.batch_renorm, track_running_stats=False)
