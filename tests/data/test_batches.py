"""Batches: values, order, augmentation, and that a run's are the same alone and in a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bnexp.config import DataConfig
from bnexp.data.batches import CROP_PADDING, DeviceData, augmented, epoch_augmentation, epoch_order
from bnexp.data.resident import Resident, prepare
from bnexp.options import Augment, DataName

CPU = torch.device("cpu")
N = 37  # training images: batches of 16 leave a last one of 5


@pytest.fixture(params=["grey", "grey as three", "colour"])
def resident(request: pytest.FixtureRequest, tmp_path: Path) -> Resident:
    rng = np.random.default_rng(0)
    shape = (50, 17, 17, 3) if request.param == "colour" else (50, 17, 17)
    images, labels = rng.integers(1, 256, shape, np.uint8), np.arange(50) % 5
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images[:9], y_test=labels[:9])
    channels = 3 if request.param == "grey as three" else None
    config = DataConfig(
        name=DataName.npz, root=str(tmp_path / "data.npz"), size=17, channels=channels, val_fraction=0.2, train_size=N
    )
    return prepare(config)


def normalised(resident: Resident, images: np.ndarray[Any, Any]) -> torch.Tensor:
    """The definition, in float64."""
    images = np.broadcast_to(images, (len(images), resident.in_channels, *images.shape[2:]))
    return torch.from_numpy((images / 255 - resident.mean[:, None, None]) / resident.std[:, None, None])


def test_an_epoch_shows_every_training_image_once_in_the_runs_order(resident: Resident) -> None:
    data = DeviceData(resident, CPU, torch.float64)
    batches = list(data.train_batches([3], epoch=2, batch_size=16))
    assert [len(x) for x, _ in batches] == [16, 16, 5]
    order = resident.train_index[epoch_order(3, 2, N).numpy()]
    assert sorted(order) == resident.train_index.tolist()
    x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches], 1)
    torch.testing.assert_close(x, normalised(resident, resident.train_images[order]), rtol=1e-12, atol=1e-12)
    assert y.tolist() == [resident.train_labels[order].tolist()]
    torch.testing.assert_close(epoch_order(3, 2, N), epoch_order(3, 2, N))
    assert epoch_order(3, 2, N).tolist() != epoch_order(3, 3, N).tolist() != epoch_order(4, 3, N).tolist()


@pytest.mark.parametrize("augment", list(Augment))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_has_the_same_batches_alone_and_in_a_cohort(resident: Resident, augment: Augment, dtype: torch.dtype) -> None:
    data = DeviceData(resident, CPU, dtype, augment)
    seeds = [5, 0, 5, 2]
    cohort = list(data.train_batches(seeds, epoch=1, batch_size=16))
    channels = resident.in_channels
    for run, seed in enumerate(seeds):
        for (x, y), (x_cohort, y_cohort) in zip(data.train_batches([seed], 1, 16), cohort, strict=True):
            assert x_cohort.is_contiguous()
            assert x_cohort.dtype == dtype
            assert torch.equal(x_cohort[:, run * channels : (run + 1) * channels], x)
            assert torch.equal(y_cohort[run : run + 1], y)


def test_evaluation_follows_the_index_without_changes(resident: Resident) -> None:
    data = DeviceData(resident, CPU, torch.float64, Augment.flip_crop)
    wanted = {
        "train": (resident.train_images[resident.train_index], resident.train_labels[resident.train_index]),
        "val": (resident.train_images[resident.val_index], resident.train_labels[resident.val_index]),
        "test": (resident.test_images, resident.test_labels),
    }
    for split, (images, labels) in wanted.items():
        batches = list(data.eval_batches(split, 4))  # type: ignore[arg-type]
        assert data.num_images(split) == len(labels)  # type: ignore[arg-type]
        assert all(x.is_contiguous() for x, _ in batches)
        torch.testing.assert_close(torch.cat([x for x, _ in batches]), normalised(resident, images), rtol=1e-12, atol=1e-12)
        assert torch.cat([y for _, y in batches]).tolist() == labels.tolist()


def test_half_precision_is_rounded_once(resident: Resident) -> None:
    half, _ = next(DeviceData(resident, CPU, torch.bfloat16).eval_batches("test", 9))
    full, _ = next(DeviceData(resident, CPU, torch.float32).eval_batches("test", 9))
    assert torch.equal(half, full.to(torch.bfloat16))


@pytest.mark.parametrize("augment", [Augment.flip, Augment.crop, Augment.flip_crop])
def test_augmentation_is_the_plain_crop_and_mirror_of_each_image(augment: Augment) -> None:
    images = torch.randint(0, 256, (40, 2, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    changes = epoch_augmentation(1, 1, 40, augment)
    out = augmented(images, changes, augment)
    padding = 0 if augment is Augment.flip else CROP_PADDING
    for image, (row, column, mirrored), actual in zip(images, changes.tolist(), out, strict=True):
        padded = np.pad(image.numpy(), ((0, 0), (padding, padding), (padding, padding)))
        expected = padded[:, row : row + 9, column : column + 9]
        np.testing.assert_array_equal(actual, expected[:, :, ::-1] if mirrored else expected)


def test_augmentation_draws_what_its_name_says() -> None:
    flip, crop, both = (epoch_augmentation(0, 1, 5000, augment) for augment in (Augment.flip, Augment.crop, Augment.flip_crop))
    assert not flip[:, :2].any()
    assert not crop[:, 2].any()
    assert torch.equal(both, flip + crop)
    assert both[:, :2].unique().tolist() == list(range(2 * CROP_PADDING + 1))
    assert 0.47 < flip[:, 2].double().mean() < 0.53
    assert not torch.equal(both, epoch_augmentation(0, 2, 5000, Augment.flip_crop))


def test_margins_are_black_before_normalisation(resident: Resident) -> None:
    data = DeviceData(resident, CPU, torch.float64, Augment.crop)
    x = torch.cat([x for x, _ in data.train_batches([0], 1, 16)])
    black = normalised(resident, np.zeros((1, 1, 1, 1), np.uint8))
    assert torch.isclose(x, black).any(dim=(2, 3)).any(dim=0).all()  # no pixel of these images is itself black
    torch.testing.assert_close(x.amin((0, 2, 3)), black.flatten())


def test_images_are_used_in_place_on_the_cpu(resident: Resident) -> None:
    before = resident.train_images.ctypes.data
    data = DeviceData(resident, CPU, torch.float32)
    assert data._splits["train"][0].data_ptr() == before
