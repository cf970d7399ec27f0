"""Keras-style npz files: layouts, number formats, and what each mistake is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_files import images_and_labels
from numpy.typing import NDArray

from bnexp.config.options import DataName
from bnexp.config.schema import ConfigError, DataConfig
from bnexp.data.download import DataError
from bnexp.data.resident import Resident, prepare

IMAGES, LABELS = images_and_labels(40, 16, 16, num_classes=4)


def load(path: Path, **keys: Any) -> Resident:
    return prepare(DataConfig(name=DataName.npz, root=str(path), size=16, val_fraction=0.0, **keys))


def saved(path: Path, **changes: Any) -> Path:
    arrays = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:8], "y_test": LABELS[:8]} | changes
    np.savez(path / "data.npz", **{key: array for key, array in arrays.items() if array is not None})
    return path / "data.npz"


def colour(axis: int) -> NDArray[np.uint8]:
    return np.stack([IMAGES, IMAGES // 2, IMAGES // 3], axis)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (IMAGES, IMAGES[:, None]),
        (IMAGES[..., None], IMAGES[:, None]),
        (IMAGES[:, None], IMAGES[:, None]),
        (colour(-1), colour(1)),
        (colour(1), colour(1)),
        (IMAGES.astype(np.int32), IMAGES[:, None]),
        (IMAGES.astype(np.float64), IMAGES[:, None]),
        ((IMAGES / 255).astype(np.float32), IMAGES[:, None]),
        (IMAGES > 127, (IMAGES > 127)[:, None] * 255),
        ((IMAGES % 2).astype(np.int16), (IMAGES % 2)[:, None]),  # whole numbers are pixel values, however small
    ],
)
def test_all_usual_forms_give_the_same_pixels(tmp_path: Path, images: NDArray[Any], expected: NDArray[Any]) -> None:
    resident = load(saved(tmp_path, x_train=images, x_test=images[:8], y_train=LABELS[:, None].astype(np.int16)))
    np.testing.assert_array_equal(resident.train_images, expected)
    np.testing.assert_array_equal(resident.test_images, expected[:8])
    np.testing.assert_array_equal(resident.train_labels, LABELS)
    assert resident.class_names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    "images", [np.rint(IMAGES / 255 * 1000) / 1000, IMAGES / 255 * 254.6, (IMAGES % 7 * 36).astype(np.int64)]
)
def test_numbers_are_rounded_to_the_nearest_pixel_value(tmp_path: Path, images: NDArray[Any]) -> None:
    many = np.concatenate([images] * 60)  # more than are converted at a time
    scale = 255 if images.max() <= 1 else 1
    resident = load(saved(tmp_path, x_train=many, y_train=np.concatenate([LABELS] * 60), x_test=images[:8]))
    np.testing.assert_array_equal(resident.train_images[:, 0], np.rint(many * scale))


@pytest.mark.parametrize(("high", "factor"), [(1.0, 255), (1.01, 1), (255.0, 1)])
def test_floats_up_to_1_are_shares_of_255(tmp_path: Path, high: float, factor: int) -> None:
    images = np.full((40, 16, 16), high, np.float16)
    resident = load(saved(tmp_path, x_train=images, x_test=images[:8] * 0))
    assert (resident.train_images == round(high * factor)).all()
    assert not resident.test_images.any()


def test_a_last_axis_of_1_or_3_is_read_as_channels_first(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 16, 3), np.uint8)
    resident = load(saved(tmp_path, x_train=images, x_test=images[:8]))
    assert resident.train_images.shape == (40, 3, 16, 16)
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    resident = load(saved(tmp_path, x_train=images, x_test=images[:8]))
    np.testing.assert_array_equal(resident.train_images, images.transpose(0, 3, 1, 2))


def test_the_file_may_be_named_from_home_and_by_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(Path("~/data.npz")).packed.path == load(path).packed.path
    for root in (None, "", str(tmp_path)):
        with pytest.raises(ConfigError) as raised:
            prepare(DataConfig(name=DataName.npz, root=root))
        assert str(raised.value) == (
            f"data.root={root} is not a file: data=npz needs a .npz file with x_train, y_train, x_test, y_test."
        )


def test_dark_float_test_images_share_the_scale_of_the_training_images(tmp_path: Path) -> None:
    floats = IMAGES.astype(np.float32)
    resident = load(saved(tmp_path, x_train=floats, x_test=np.minimum(floats[:8], 1)))
    assert resident.test_images.max() == 1


def test_without_a_test_set_a_stratified_part_is_split_off(tmp_path: Path) -> None:
    resident = load(saved(tmp_path, x_test=None, y_test=None), test_fraction=0.2)
    assert np.bincount(resident.test_labels).tolist() == [2, 2, 2, 2]
    assert len(resident.train_images) == 32


def with_label(label: int) -> NDArray[Any]:
    labels = LABELS.astype(np.uint64)
    labels[3] = label
    return labels


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"x_train": None},
            " lacks x_train (it has y_train, x_test, y_test): name the arrays x_train, y_train, x_test, y_test; without both "
            "of the last two, data.test_fraction of the images becomes the test set.",
        ),
        ({"y_test": None}, " lacks y_test (it has x_train, y_train, x_test): name"),
        ({"x_test": None, "y_train": None}, " lacks y_train (it has x_train, y_test): name"),
        ({"x_train": None, "y_train": None}, " lacks x_train and y_train (it has x_test, y_test): name"),
        (
            {"x_test": None} | {f"a{i}": LABELS for i in range(20)},
            " lacks x_test (it has x_train, y_train, y_test, a0, a1, a2, a3, a4, a5, a6): name",
        ),
        (dict.fromkeys(("x_train", "y_train", "x_test", "y_test")), " lacks x_train and y_train (it has nothing): name"),
        (
            {"x_train": IMAGES.reshape(40, -1)},
            ": x_train has shape (40, 256); allowed is (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3.",
        ),
        ({"x_train": np.zeros((40, 16, 16, 4), np.uint8)}, ": x_train has shape (40, 16, 16, 4); allowed is"),
        ({"x_train": np.zeros((40, 2, 16, 16), np.uint8)}, ": x_train has shape (40, 2, 16, 16); allowed is"),
        ({"x_train": np.zeros((40, 1, 3, 16, 16), np.uint8)}, ": x_train has shape (40, 1, 3, 16, 16); allowed is"),
        ({"x_train": IMAGES[:0]}, ": x_train has shape (0, 16, 16), so no pixels: write at least one image."),
        ({"x_test": IMAGES[:, :0]}, ": x_test has shape (40, 0, 16), so no pixels: write at least one image."),
        (
            {"x_test": colour(-1)[:8]},
            ": images of x_train are uint8 of shape (1, 16, 16), those of x_test uint8 of shape (3, 16, 16) (channels, height, "
            "width): make them alike.",
        ),
        (
            {"x_test": IMAGES[:8] / 255},
            ": images of x_train are uint8 of shape (1, 16, 16), those of x_test float64 of shape (1, 16, 16)",
        ),
        (
            {"x_train": IMAGES - 300.0, "x_test": IMAGES[:8] * 1.0},
            ": x_train has values from -300 to -45; allowed are 0..255, or 0..1 for floats: rescale it.",
        ),
        ({"x_train": IMAGES * 1.0 - 1, "x_test": IMAGES[:8] * 1.0}, ": x_train has values from -1 to 254; allowed"),
        ({"x_train": IMAGES / 255 - 0.5, "x_test": IMAGES[:8] * 0.0}, ": x_train has values from -0.5 to 0.5; allowed"),
        ({"x_test": IMAGES[:8] * 1.0 + 1, "x_train": IMAGES * 1.0}, ": x_test has values from 1 to 256; allowed"),
        ({"x_train": IMAGES.astype(int) + 1, "x_test": IMAGES[:8].astype(int)}, ": x_train has values from 1 to 256; allowed"),
        ({"x_train": IMAGES * np.nan, "x_test": IMAGES[:8] * 1.0}, ": x_train has values from nan to nan; allowed are 0..255"),
        (
            {"x_train": IMAGES.astype(np.complex64), "x_test": IMAGES[:8].astype(np.complex64)},
            ": x_train has type complex64; allowed are uint8, other integers 0..255, and floats 0..1 or 0..255.",
        ),
        (
            {"y_train": np.eye(4)[LABELS]},
            ": y_train has shape (40, 4) and type float64; allowed are integers of shape (N,) or (N, 1), a class number for "
            "each image (argmax turns one-hot rows into them, astype(int) whole floats, "
            "np.unique(names, return_inverse=True)[1] names).",
        ),
        (
            {"y_train": np.array(["cat", "dog", "owl", "yak"])[LABELS]},
            ": y_train has shape (40,) and type <U3; allowed are integers",
        ),
        ({"y_train": np.eye(4, dtype=int)[LABELS]}, ": y_train has shape (40, 4) and type int64; allowed are integers"),
        ({"y_train": LABELS[:-1]}, ": y_train has 39 labels for the 40 images of x_train: make them equal."),
        ({"y_test": LABELS[:9]}, ": y_test has 9 labels for the 8 images of x_test: make them equal."),
        ({"y_train": LABELS.astype(int) - 1}, ": y_train has the label -1; allowed are class numbers from 0 to 999: renumber"),
        ({"y_train": LABELS * 2}, ": no image of y_train has the label 1, though 6 occurs: number from 0 without gaps."),
        ({"y_train": LABELS + 1, "y_test": LABELS[:8]}, ": no image of y_train has the label 0, though 4 occurs"),
        ({"y_train": LABELS * 0}, ": y_train has one class; at least 2 are needed."),
        ({"y_test": LABELS[:8] + 1}, ": y_test has the label 4; y_train ends at 3: use the same classes."),
        (
            {"y_train": with_label(1000)},
            ": y_train has the label 1000; allowed are class numbers from 0 to 999: renumber them.",
        ),
        ({"y_train": with_label(10**12)}, ": y_train has the label 1000000000000; allowed are class numbers from 0 to 999"),
        ({"y_train": with_label(2**63 - 1)}, ": y_train has the label 9223372036854775807; allowed are class numbers from 0"),
        ({"y_train": with_label(2**64 - 1)}, ": y_train has the label 18446744073709551615; allowed are class numbers from 0"),
        ({"y_test": with_label(2**63)[:8]}, ": y_test has the label 9223372036854775808; allowed are class numbers from 0"),
        ({"y_test": LABELS[:8].astype(int) - 1}, ": y_test has the label -1; allowed are class numbers from 0"),
        ({"y_train": with_label(999)}, ": no image of y_train has the label 4, though 999 occurs"),
        ({"y_train": LABELS * np.nan}, ": y_train has shape (40,) and type float64; allowed are integers"),
        ({"y_train": LABELS > 1}, ": y_train has shape (40,) and type bool; allowed are integers"),
        ({"y_train": LABELS.astype(str)}, ": y_train has shape (40,) and type <U3; allowed are integers"),
        ({"y_train": np.array(3)}, ": y_train has shape () and type int64; allowed are integers"),
        ({"x_train": np.array(3)}, ": x_train has shape (); allowed is (N, H, W)"),
        ({"x_train": np.array([{}] * 40)}, " cannot be read as a .npz file of plain arrays (x_train holds Python objects)"),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = saved(tmp_path, **changes)
    with pytest.raises(DataError) as raised:
        load(path)
    assert str(raised.value).startswith(f"{path}{message}")


def test_two_classes_suffice_and_the_test_set_may_lack_some(tmp_path: Path) -> None:
    resident = load(saved(tmp_path, y_train=LABELS % 2, y_test=LABELS[:8] * 0))
    assert resident.class_names == ("0", "1")
    many = np.arange(2000) % 1000
    images = np.zeros((2000, 16, 16), np.uint8)
    assert load(saved(tmp_path, x_train=images, y_train=many)).num_classes == 1000


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04 cut off"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"data\.npz cannot be read as a \.npz file of plain arrays"):
        load(path)
    with pytest.raises(ConfigError, match=r"data\.root=.*/none\.npz is not a file"):
        load(tmp_path / "none.npz")


def test_a_truncated_or_bare_array_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"cannot be read as a \.npz file"):
        load(path)
    with (tmp_path / "bare.npz").open("wb") as handle:
        np.save(handle, IMAGES)
    with pytest.raises(DataError, match=r"cannot be read as a \.npz file"):
        load(tmp_path / "bare.npz")
