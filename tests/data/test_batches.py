"""Batches: values, order, augmentation, and that a run's are the same alone and in a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from epochs import epoch_batches
from hypothesis import given, settings
from hypothesis import strategies as st

from bnexp.config.options import Augment, DataName, Order
from bnexp.config.schema import DataConfig
from bnexp.data.batches import CROP_PADDING, GROUP, DeviceData, arranged, augmented, epoch_augmentation, epoch_order
from bnexp.data.resident import Resident, prepare

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
    batches = list(epoch_batches(data, [3], epoch=2, batch_size=16))
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
    data = DeviceData(resident, CPU, dtype, DataConfig(augment=augment))
    seeds = [5, 0, 5, 2]
    cohort = list(epoch_batches(data, seeds, epoch=1, batch_size=16))
    channels = resident.in_channels
    for run, seed in enumerate(seeds):
        for (x, y), (x_cohort, y_cohort) in zip(epoch_batches(data, [seed], 1, 16), cohort, strict=True):
            assert x_cohort.is_contiguous()
            assert x_cohort.dtype == dtype
            assert torch.equal(x_cohort[:, run * channels : (run + 1) * channels], x)
            assert torch.equal(y_cohort[run : run + 1], y)


def test_evaluation_sees_every_image_once_without_changes(resident: Resident) -> None:
    data = DeviceData(resident, CPU, torch.float64, DataConfig(augment=Augment.flip_crop))
    wanted = {
        "train": (resident.train_images[resident.train_index], resident.train_labels[resident.train_index]),
        "val": (resident.train_images[resident.val_index], resident.train_labels[resident.val_index]),
        "test": (resident.test_images, resident.test_labels),
    }
    for split, (images, labels) in wanted.items():
        batches = list(data.eval_batches(split, 4))  # type: ignore[arg-type]
        order = data.eval_order[split].numpy()  # type: ignore[index]
        assert sorted(order) == list(range(len(labels)))
        images, labels = images[order], labels[order]
        assert all(x.is_contiguous() for x, _ in batches)
        torch.testing.assert_close(torch.cat([x for x, _ in batches]), normalised(resident, images), rtol=1e-12, atol=1e-12)
        assert torch.cat([y for _, y in batches]).tolist() == labels.tolist()


def test_an_evaluation_batch_is_a_sample_of_all_classes_where_the_images_are_sorted(resident: Resident) -> None:
    by_class = np.argsort(resident.test_labels, kind="stable")
    resident.test_images[:] = resident.test_images[by_class]
    resident.test_labels[:] = resident.test_labels[by_class]
    _, labels = next(DeviceData(resident, CPU, torch.float32).eval_batches("test", len(by_class) // 2))
    assert len(labels.unique()) > len(np.unique(resident.test_labels[: len(labels)]))


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
    data = DeviceData(resident, CPU, torch.float64, DataConfig(augment=Augment.crop))
    x = torch.cat([x for x, _ in epoch_batches(data, [0], 1, 16)])
    black = normalised(resident, np.zeros((1, 1, 1, 1), np.uint8))
    assert torch.isclose(x, black).any(dim=(2, 3)).any(dim=0).all()  # no pixel of these images is itself black
    torch.testing.assert_close(x.amin((0, 2, 3)), black.flatten())


def test_images_are_used_in_place_on_the_cpu(resident: Resident) -> None:
    before = resident.train_images.ctypes.data
    data = DeviceData(resident, CPU, torch.float32)
    assert data._splits["train"][0].data_ptr() == before


ARRANGED = [
    {"order": Order.sorted},
    {"duplicates": 4},
    {"order": Order.sorted, "duplicates": 8, "augment": Augment.flip_crop},
    {"contrast": -0.5, "brightness": 0.3, "normalize": False},
]


@pytest.mark.parametrize("options", ARRANGED, ids=str)
def test_every_option_gives_a_run_the_same_batches_alone_and_in_a_cohort(resident: Resident, options: dict[str, Any]) -> None:
    data = DeviceData(resident, CPU, torch.float32, DataConfig(**options))
    cohort = list(epoch_batches(data, [5, 0, 5], epoch=1, batch_size=16))
    assert [len(x) for x, _ in cohort] == [16, 16, 5]
    for run, seed in enumerate([5, 0, 5]):
        for (x, y), (x_cohort, y_cohort) in zip(epoch_batches(data, [seed], 1, 16), cohort, strict=True):
            assert torch.equal(x_cohort.chunk(3, 1)[run], x)
            assert torch.equal(y_cohort[run : run + 1], y)


@given(st.integers(1, 60), st.sampled_from([1, 2, 3, 8]), st.sampled_from(list(Order)), st.integers(0, 3))
def test_arranging_keeps_the_number_of_images_and_repeats_each_in_a_row(n: int, k: int, order: Order, seed: int) -> None:
    labels, drawn = torch.arange(n) % 4, epoch_order(seed, 1, n)
    images = arranged(drawn, labels, DataConfig(order=order, duplicates=k))
    assert len(images) == n
    distinct = images[::k]
    assert torch.equal(images, distinct.repeat_interleave(k)[:n])
    assert distinct.sort().values.tolist() == sorted(drawn[: len(distinct)].tolist())  # of all classes, when sorted too
    if order is Order.sorted or (order is Order.grouped and len(distinct) <= GROUP):
        assert labels[images].tolist() == sorted(labels[images].tolist())
    elif order is Order.shuffled:
        assert torch.equal(distinct, drawn[: len(distinct)])


@given(st.integers(2, 4), st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_grouped_batches_hold_a_few_classes_which_are_others_in_each_pass(size: int, seed: int) -> None:
    n = 20 * GROUP
    labels = torch.arange(n) % 10
    together: list[set[tuple[int, ...]]] = []
    for number in (1, 2):
        images = arranged(epoch_order(seed, number, n), labels, DataConfig(order=Order.grouped, group_classes=size))
        assert images.sort().values.tolist() == list(range(n))
        classes = [tuple(labels[batch].unique().tolist()) for batch in images.split(GROUP)]
        assert sum(len(found) == size for found in classes) >= 10  # the others meet the next set, or hold the smaller last one
        together.append(set(classes))
    assert together[0] != together[1]


@pytest.mark.parametrize("seed", range(4))
def test_sets_of_classes_come_in_the_order_of_their_smallest_class(seed: int) -> None:
    """So what does not fill a batch of 64 comes last, and is of another set than class 0."""
    labels = torch.arange(GROUP + 16) % 4
    images = arranged(epoch_order(seed, 1, len(labels)), labels, DataConfig(order=Order.grouped, group_classes=2))
    assert len(labels[images[GROUP:]].unique()) == 2
    assert 0 not in labels[images[GROUP:]]


def test_grouped_epochs_have_batches_of_one_class_and_classes_take_turns() -> None:
    n = 10 * GROUP + 30
    labels, drawn = torch.arange(n) % 5, epoch_order(0, 1, n)
    images = arranged(drawn, labels, DataConfig(order=Order.grouped))
    assert images.sort().values.tolist() == list(range(n))
    classes = [labels[batch].unique().tolist() for batch in images.split(GROUP)]
    assert sum(len(found) == 1 for found in classes) >= 6  # of eleven; four meet the next class
    assert [found[0] for found in classes] != sorted(found[0] for found in classes)


def test_sorted_epochs_go_class_by_class_in_an_order_of_their_own_within(resident: Resident) -> None:
    data = DeviceData(resident, CPU, torch.float64, DataConfig(order=Order.sorted))
    epochs = []
    for epoch in (1, 2):
        batches = list(epoch_batches(data, [3], epoch, 16))
        labels = torch.cat([y for _, y in batches], 1)[0]
        assert labels.tolist() == sorted(resident.train_labels[resident.train_index].tolist())
        drawn = resident.train_index[epoch_order(3, epoch, N).numpy()]
        expected = np.concatenate([drawn[resident.train_labels[drawn] == c] for c in range(5)])
        x = torch.cat([x for x, _ in batches])
        torch.testing.assert_close(x, normalised(resident, resident.train_images[expected]), rtol=1e-12, atol=1e-12)
        epochs.append(expected.tolist())
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == resident.train_index.tolist()


@pytest.mark.parametrize("augment", [Augment.none, Augment.flip_crop])
def test_a_batch_holds_each_of_its_images_as_often_as_asked(resident: Resident, augment: Augment) -> None:
    data = DeviceData(resident, CPU, torch.float64, DataConfig(duplicates=4, augment=augment))
    seen = set()
    for epoch in range(1, 9):
        batches = list(epoch_batches(data, [1], epoch, 16))
        assert [len(x) for x, _ in batches] == [16, 16, 5]
        for x, y in batches[:2]:
            groups = x.view(4, 4, -1)
            assert torch.equal(groups, groups[:, :1].expand_as(groups))  # exact copies, changed alike
            assert len(x.flatten(1).unique(dim=0)) == 4
            assert torch.equal(y.view(4, 4), y.view(4, 4)[:, :1].expand(4, 4))
        seen |= {tuple(image.flatten().tolist()) for x, _ in batches for image in x}
    assert len(seen) > 30  # other images in other epochs


@pytest.mark.parametrize("options", [{}, {"normalize": False}, {"contrast": -0.5, "brightness": 0.3}], ids=str)
def test_shifted_images_are_those_of_another_contrast_and_brightness(resident: Resident, options: dict[str, Any]) -> None:
    data = DeviceData(resident, CPU, torch.float64, DataConfig(**options))
    before, (after, _) = data.images("test", torch.arange(9))[0], data.shifted(0.5, 0.25).images("test", torch.arange(9))
    std = resident.std[:, None, None] if data.config.normalize else 1.0
    mean = resident.mean[:, None, None] if data.config.normalize else 0.0
    expected = ((before.numpy() * std + mean - 0.5) * 0.5 + 0.5 + 0.25 - mean) / std
    np.testing.assert_allclose(after.numpy(), expected, atol=1e-12)
    assert torch.equal(data.images("test", torch.arange(9))[0], before)


@pytest.mark.parametrize(("contrast", "brightness"), [(1.0, 0.0), (0.5, 0.2), (-1.0, 0.0), (2.0, -0.75)])
@pytest.mark.parametrize("normalize", [True, False])
def test_a_shift_changes_every_split_before_the_constants_of_the_images_without_it(
    resident: Resident, contrast: float, brightness: float, normalize: bool
) -> None:
    data = DeviceData(resident, CPU, torch.float64, DataConfig(contrast=contrast, brightness=brightness, normalize=normalize))

    def expected(images: np.ndarray[Any, Any]) -> torch.Tensor:
        images = np.broadcast_to(images, (len(images), resident.in_channels, *images.shape[2:]))
        p = (images / 255 - 0.5) * contrast + 0.5 + brightness
        return torch.from_numpy((p - resident.mean[:, None, None]) / resident.std[:, None, None] if normalize else p)

    train = resident.train_images
    order = resident.train_index[epoch_order(0, 1, N).numpy()]
    x = torch.cat([x for x, _ in epoch_batches(data, [0], 1, 16)])
    torch.testing.assert_close(x, expected(train[order]), rtol=1e-12, atol=1e-12)
    for split, images in (("val", train[resident.val_index]), ("test", resident.test_images)):
        x, _ = data.images(split, torch.arange(len(images)))  # type: ignore[arg-type]
        torch.testing.assert_close(x, expected(images), rtol=1e-12, atol=1e-12)


def test_inverted_images_are_negatives_and_raw_pixels_lie_between_0_and_1(resident: Resident) -> None:
    configs = [DataConfig(normalize=False, contrast=contrast) for contrast in (1.0, -1.0)]
    raw, inverted = (next(DeviceData(resident, CPU, torch.float64, config).eval_batches("test", 9))[0] for config in configs)
    assert 0 <= raw.min() < 0.1 < 0.9 < raw.max() <= 1
    torch.testing.assert_close(inverted, 1 - raw)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_a_shift_the_bits_are_those_of_the_plain_normalisation(resident: Resident, dtype: torch.dtype) -> None:
    x, _ = DeviceData(resident, CPU, dtype).images("test", torch.arange(len(resident.test_images)))
    mean, std = resident.mean[:, None, None], resident.std[:, None, None]
    scale, shift = torch.from_numpy(1 / (255 * std)).to(dtype), torch.from_numpy(-mean / std).to(dtype)
    images = torch.from_numpy(resident.test_images).expand(-1, resident.in_channels, -1, -1).to(dtype)
    assert torch.equal(x, images * scale + shift)


def test_what_chance_decides_is_what_it_was_in_earlier_versions() -> None:
    # Records were made with these numbers: they are comparable only as long as the numbers stay.
    assert epoch_order(3, 2, 12).tolist() == [0, 11, 10, 9, 8, 2, 1, 3, 6, 5, 4, 7]
    assert epoch_augmentation(3, 2, 5, Augment.flip_crop).tolist() == [[8, 2, 1], [7, 3, 1], [4, 3, 0], [0, 3, 1], [1, 0, 0]]
    digits = prepare(DataConfig(name=DataName.digits, val_fraction=0.01, train_size=12, split_seed=3))
    order = DeviceData(digits, CPU, torch.float32).eval_order
    assert order["train"][:6].tolist() == [11, 1, 8, 0, 9, 6]
    assert order["val"][:6].tolist() == [3, 12, 4, 5, 11, 6]
    assert order["test"][:6].tolist() == [308, 176, 168, 309, 320, 207]
    labels = torch.arange(3 * 64) % 2
    grouped = arranged(torch.arange(3 * 64), labels, DataConfig(order=Order.grouped))
    assert grouped[:64].tolist() == list(range(0, 128, 2))  # 64 of class 0, then 32 of each, then 64 of class 1
    assert labels[grouped].tolist() == [0] * 96 + [1] * 96


def test_a_data_set_on_a_device_says_what_it_holds(resident: Resident) -> None:
    data = DeviceData(resident, CPU, torch.float32)
    assert (data.num_classes, data.in_channels, data.size) == (5, resident.in_channels, 17)
    assert (data.num_train, data.num_images("train"), data.num_images("val"), data.num_images("test")) == (N, N, 10, 9)
    assert (data.device, data.dtype, data.augment) == (CPU, torch.float32, Augment.none)
    assert data.block == 1
    assert DeviceData(resident, CPU, torch.float32, DataConfig(duplicates=4)).block == 4
    assert DeviceData(resident, CPU, torch.float32, DataConfig(order=Order.grouped, duplicates=2)).block == 128
    draws = data.epoch_draws([3, 3, 4], 2)
    assert (draws.shape, draws.dtype) == ((3, N, 1), torch.int64)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert DeviceData(resident, CPU, torch.float32, DataConfig(augment=Augment.flip)).epoch_draws([3], 2).shape == (1, N, 4)
    x, y = next(data.eval_batches("val", 3))
    assert (x.dtype, tuple(x.shape), y.dtype) == (torch.float32, (3, resident.in_channels, 17, 17), torch.int64)
