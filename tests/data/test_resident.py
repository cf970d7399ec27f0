"""Splits and constants."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_files import FileServer, images_and_labels, load

from bnexp.config.options import DataName
from bnexp.config.schema import ConfigError, DataConfig
from bnexp.data.images import images_by_id
from bnexp.data.packed import image_moments
from bnexp.data.resident import normalisation, prepare, training_normalisation


def test_parts_are_disjoint_stratified_and_fixed_by_the_split_seed(npz: Path) -> None:
    resident = load(npz, val_fraction=0.1, train_size=90)
    assert not set(resident.train_index) & set(resident.val_index)
    assert np.bincount(resident.train_labels[resident.val_index]).tolist() == [8, 6, 4, 2]
    assert np.bincount(resident.train_labels[resident.train_index]).tolist() == [36, 27, 18, 9]
    again = load(npz, val_fraction=0.1, train_size=90)
    np.testing.assert_array_equal(again.train_index, resident.train_index)
    whole = load(npz, val_fraction=0.1)
    np.testing.assert_array_equal(whole.val_index, resident.val_index)
    assert sorted([*whole.train_index, *whole.val_index]) == list(range(200))
    other = load(npz, val_fraction=0.1, split_seed=1)
    assert other.val_index.tolist() != resident.val_index.tolist()


def test_constants_are_those_of_the_training_part(npz: Path) -> None:
    resident = load(npz, val_fraction=0.2, train_size=100)
    pixels = resident.train_images[resident.train_index] / 255
    np.testing.assert_allclose(resident.mean, pixels.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(resident.std, pixels.std((0, 2, 3)), rtol=1e-12)
    config = DataConfig(name=DataName.npz, root=str(npz), size=16, val_fraction=0.2, train_size=100)
    alone = training_normalisation(resident.packed, config)
    assert [part.tolist() for part in alone] == [resident.mean.tolist(), resident.std.tolist()]


def test_constants_do_not_depend_on_the_order_and_never_divide_by_zero() -> None:
    images, _ = images_and_labels(50, 2, 16, 16)
    images[:, 1] = 255
    mean, std = normalisation(image_moments(images), 16)
    mean_reversed, std_reversed = normalisation(image_moments(images[::-1]), 16)
    assert (mean.tolist(), std.tolist()) == (mean_reversed.tolist(), std_reversed.tolist())
    assert (mean[1], std[1]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"channels": 1}, "data.channels=1 is not possible: npz has colour images; allowed is 3 or null (as they are)."),
        ({"val_fraction": 0.002}, "data.val_fraction=0.002 of 200 training images is none: "),
        (
            {"train_size": 191},
            "data.train_size=191 is more than there is: npz has 190 training images besides the 10 for validation; "
            "allowed is at most 190 or null (all).",
        ),
        (
            {"val_fraction": 0.001},
            "data.val_fraction=0.001 of 200 training images is none: raise it, or set data.val_fraction=0 to do without "
            "validation.",
        ),
    ],
)
def test_impossible_keys_are_explained(npz: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(npz, **keys)
    assert str(raised.value).startswith(message)


def test_a_split_that_loses_a_class_is_refused(tmp_path: Path) -> None:
    images, labels = images_and_labels(30, 16, 16, num_classes=15)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    for keys, message in (
        (
            {"train_size": 14, "val_fraction": 0.0},
            "data.train_size=14 leaves no training image of class 14: raise it.",
        ),  # the last class
        ({"train_size": 10, "val_fraction": 0.0}, "data.train_size=10 leaves no training image of class 10: raise it."),
        ({"val_fraction": 0.8}, "data.val_fraction=0.8 leaves no training image of class 0: lower it or add images."),
    ):
        with pytest.raises(ConfigError) as raised:
            load(tmp_path / "data.npz", **keys)
        assert str(raised.value) == message
    resident = load(tmp_path / "data.npz", train_size=15, val_fraction=0.0)
    assert sorted(resident.train_labels[resident.train_index]) == list(range(15))
    assert resident.fingerprint == resident.packed.fingerprint


def test_mnist_of_28_pixels_is_used_as_it_is(mnist_server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNEXP_DATA_DIR", str(tmp_path))
    resident = prepare(DataConfig(size=28))
    np.testing.assert_array_equal(resident.train_images[:, 0], images_and_labels(40, 28, 28)[0])


def test_grey_images_count_as_three_channels_on_request() -> None:
    grey = prepare(DataConfig(name=DataName.digits))
    repeated = prepare(DataConfig(name=DataName.digits, channels=3))
    assert (grey.in_channels, repeated.in_channels) == (1, 3)
    assert repeated.mean.tolist() == grey.mean.tolist() * 3
    assert repeated.train_images.shape == grey.train_images.shape


def test_display_shows_the_stored_pixels(npz: Path) -> None:
    resident = load(npz)
    shown = images_by_id(resident.train_images)(resident.val_index[:3])
    np.testing.assert_array_equal(shown, resident.train_images[resident.val_index[:3]].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(
        images_by_id(resident.test_images)(np.array([5]))[0], resident.test_images[5].transpose(1, 2, 0)
    )


def test_pickles_carry_paths_not_pixels_and_writing_never_reaches_the_file(npz: Path) -> None:
    resident = load(npz)
    resident.train_images[0] = 0
    content = pickle.dumps(resident)
    assert len(content) < 20_000 < resident.train_images.nbytes
    copy = pickle.loads(content)
    assert copy.train_images[0].any()
    np.testing.assert_array_equal(copy.train_images[1:], resident.train_images[1:])
    assert copy.fingerprint == resident.fingerprint


def test_parts_are_those_of_earlier_versions() -> None:
    # Records were made with these parts: they are comparable only as long as the parts stay.
    resident = prepare(DataConfig(name=DataName.digits, val_fraction=0.01, train_size=12, split_seed=3))
    assert resident.val_index.tolist() == [222, 302, 469, 755, 823, 824, 904, 940, 969, 1049, 1052, 1066, 1147, 1216]
    assert resident.train_index.tolist() == [118, 146, 368, 539, 620, 639, 768, 1030, 1207, 1220, 1356, 1384]
    assert resident.fingerprint == "cb3b50d9ff13a2cb03af"
    assert resident.test_labels[:12].tolist() == [3, 8, 2, 7, 9, 4, 9, 5, 5, 9, 8, 2]
    assert resident.mean.tolist() == [pytest.approx(0.30221992, abs=1e-8)]
    assert resident.std.tolist() == [pytest.approx(0.32337027, abs=1e-8)]


def test_a_data_set_knows_its_name_size_and_whole_training_part(npz: Path) -> None:
    resident = load(npz, val_fraction=0.0)
    assert (resident.name, resident.size, resident.in_channels, resident.num_classes) == ("npz", 16, 3, 4)
    assert resident.class_names == ("0", "1", "2", "3")
    assert (len(resident.train_index), len(resident.val_index)) == (200, 0)
    assert len(load(npz, val_fraction=0.05, train_size=190).train_index) == 190  # as many as there are
    np.testing.assert_array_equal(
        images_by_id(resident.train_images)(np.array([7]))[0], resident.train_images[7].transpose(1, 2, 0)
    )


def test_moments_are_exact_in_parts_and_of_the_brightest_images() -> None:
    images, _ = images_and_labels(5000, 2, 3, 5)
    images[-1] = 255
    wide = images.astype(np.int64)
    np.testing.assert_array_equal(image_moments(images), np.stack([wide.sum((2, 3)), (wide**2).sum((2, 3))], -1))
