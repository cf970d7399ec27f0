"""Ghost batches and noisy batch norm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from norm_cases import C, R, assert_close, build, features, images, of_run
from torch import Tensor

from bnexp.config.options import NormKind
from bnexp.config.schema import ConfigError, NormConfig, RunConfig
from bnexp.model.norms import build_norm


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("values", [images, features])
@pytest.mark.parametrize("batch", [8, 7, 3, 2])
def test_a_ghost_batch_is_batch_norm_of_each_part(values: Any, batch: int) -> None:
    ghost, plain = build(NormKind.batch, ghost_size=3, momentum=1.0), build(NormKind.batch, momentum=1.0)
    plain.load_state_dict(ghost.state_dict())
    if values is features and batch == 7:
        batch = 5  # no part of one value
    x = values(batch=batch)
    y, mean, var = ghost(x), 0.0, 0.0
    for part, z in zip(y.split(3), x.split(3), strict=True):
        assert_close(part, plain(z))
        mean, var = mean + plain.running_mean * len(z) / batch, var + plain.running_var * len(z) / batch
    assert_close(ghost.running_mean, mean)
    assert_close(ghost.running_var, var)
    assert (ghost.num_batches_tracked == 1).all()


def test_ghost_batches_are_for_training_only() -> None:
    ghost, plain, x = build(NormKind.batch, ghost_size=2).eval(), build(NormKind.batch).eval(), images()
    plain.load_state_dict(ghost.state_dict())
    assert torch.equal(ghost(x), plain(x))
    ghost, plain = (build(NormKind.batch, track_running_stats=False, ghost_size=size).eval() for size in (2, None))
    plain.load_state_dict(ghost.state_dict())
    assert torch.equal(ghost(x), plain(x))


def test_a_part_of_one_value_is_refused() -> None:
    norm = build(NormKind.batch, map_size=1, ghost_size=3)
    message = (
        r"norm\.ghost_size=3 leaves norm1 one value per channel to normalise in a part of a batch of 7 images: choose "
        r"norm\.ghost_size above 1, and train\.batch_size"
    )
    with pytest.raises(ConfigError, match=message):
        norm(features(batch=7))
    with pytest.raises(ConfigError, match=message):
        norm.check_batch(7)
    norm.check_batch(8)
    norm.check_batch(2)
    with pytest.raises(ConfigError, match="norm1 has one value per channel"):
        norm.check_batch(1)
    build(NormKind.batch, map_size=4, ghost_size=1).check_batch(7)
    norm.eval().check_batch(1)


AMOUNT = 0.5


def noisy(seeds: list[int], **more: Any) -> Any:
    configs = [RunConfig(seed=s, norm=NormConfig(kind=NormKind.batch, noise=AMOUNT, **more)) for s in seeds]
    torch.manual_seed(5)
    return build_norm("norm1", configs, C, 9, 1, dtype=torch.float64)


def scale_and_shift(norm: Any, num_images: int) -> tuple[Tensor, Tensor]:
    """What the noise of one step does to each image, channel and pixel: (N, R, C, M)."""
    ones = torch.ones(num_images, len(norm.eps), C, 9, dtype=torch.float64)
    step = norm.noise.step.clone()
    shift = norm.noise(0 * ones)
    norm.noise.step.copy_(step)
    return norm.noise(ones) - shift, shift


def test_noise_follows_batch_norm_in_training_only() -> None:
    norm, plain, x = noisy([0, 1, 2]), build(NormKind.batch), images()
    plain.load_state_dict(norm.state_dict())
    scale, shift = scale_and_shift(norm, len(x))
    norm.noise.step.zero_()
    expected = plain(x).view(len(x), R, C, -1) * scale + shift
    assert_close(norm(x), expected.view(x.shape))
    assert_close(norm.eval()(x), plain.eval()(x))
    assert norm.noise.step == 1


def test_noise_is_the_same_alone_and_in_a_cohort_and_new_in_every_step() -> None:
    cohort, x = noisy([4, 9, 4]), images()
    x[:, 2 * C :] = x[:, :C]
    steps = [cohort(x) for _ in range(3)]
    for r, seed in enumerate([4, 9, 4]):
        alone = noisy([seed])
        for y in steps:
            assert torch.equal(of_run(y, r), alone(of_run(x, r)))
    assert torch.equal(of_run(steps[0], 0), of_run(steps[0], 2))
    assert not torch.equal(steps[0], steps[1])


def test_noise_has_a_mean_and_a_scale_of_its_own_in_every_step() -> None:
    norm = noisy([0, 1])
    drawn_steps = [scale_and_shift(norm, 60) for _ in range(200)]
    scale, shift = (torch.stack(values) for values in zip(*drawn_steps, strict=True))  # (steps, N, R, C, M)
    own = AMOUNT / 5
    for values, low, high, most, spread in (
        (scale, 1, 1 + AMOUNT / 2, 3.46 * own, own),
        (shift, -AMOUNT, AMOUNT, own, own / 3**0.5),
    ):
        assert low - most <= values.min() < values.max() <= high + most
        centres = values.mean((1, 4))  # (steps, R, C)
        middle, width = (low + high) / 2, high - low
        torch.testing.assert_close(centres.mean(0), torch.full((2, C), middle).double(), rtol=0, atol=0.1 * width)
        torch.testing.assert_close(centres.std(0), torch.full((2, C), width / 12**0.5).double(), rtol=0.2, atol=0)
        around = values - centres[:, None, :, :, None]
        torch.testing.assert_close(around.std(), torch.tensor(spread).double(), rtol=0.01, atol=0)
        for axis in (1, 4):  # no image and no pixel has noise of its own: all activations draw alone
            independent = spread * (1 / values.shape[axis] - 1 / (60 * 9)) ** 0.5  # less the mean of all, taken off before
            assert around.mean(axis).std().item() == pytest.approx(independent, rel=0.02)
    channels = torch.cat([scale.mean((1, 4)).flatten(1), shift.mean((1, 4)).flatten(1)], 1)
    unrelated = torch.corrcoef(channels.T) - torch.eye(channels.shape[1])
    assert unrelated.abs().max() < 0.3


def test_the_scale_of_an_activation_is_about_normal() -> None:
    scale, _ = scale_and_shift(noisy([0]), 5000)
    per_channel = scale[:, 0].movedim(1, 0).flatten(1)
    z = (per_channel - per_channel.mean(1, keepdim=True)) / (AMOUNT / 5)
    for quantile in (0.025, 0.16, 0.5, 0.84, 0.975):
        expected = torch.distributions.Normal(0, 1).icdf(torch.tensor(quantile)).item()
        assert z.quantile(quantile).item() == pytest.approx(expected, abs=0.05)  # of a sum of four numbers
