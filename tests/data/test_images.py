"""How images come to the size of the network's input: margin, central square, resizing."""

from __future__ import annotations

import numpy as np
import pytest
from made_files import images_and_labels
from numpy.typing import NDArray
from PIL import Image

from bnexp.data.images import fit, square


def silent(what: str, done: int, total: int) -> None:
    pass


def resized(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


@pytest.mark.parametrize(("size", "before", "after"), [(28, 0, 0), (29, 0, 1), (30, 1, 1), (31, 1, 2), (32, 2, 2)])
def test_mnist_images_get_a_black_margin(size: int, before: int, after: int) -> None:
    images, _ = images_and_labels(3, 1, 28, 28)
    out = fit(images, size, silent)
    assert out.shape == (3, 1, size, size)
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(out[:, :, before : size - after, before : size - after], images)
    assert out.sum() == images.sum()


@pytest.mark.parametrize("size", [33, 40, 64])
def test_mnist_images_larger_than_lenets_are_those_of_32_pixels_enlarged(size: int) -> None:
    images, _ = images_and_labels(3, 1, 28, 28)
    padded = np.pad(images[:, 0], ((0, 0), (2, 2), (2, 2)))
    np.testing.assert_array_equal(fit(images, size, silent)[:, 0], [resized(image, size) for image in padded])


def test_smaller_ones_and_images_of_other_sizes_get_no_margin() -> None:
    images, _ = images_and_labels(3, 1, 28, 28)
    np.testing.assert_array_equal(fit(images, 24, silent)[:, 0], [resized(image, 24) for image in images[:, 0]])
    colour, _ = images_and_labels(3, 3, 28, 28)
    expected = [resized(image.transpose(1, 2, 0), 32).transpose(2, 0, 1) for image in colour]
    np.testing.assert_array_equal(fit(colour, 32, silent), expected)


def test_other_images_are_cut_to_the_central_square_and_resized() -> None:
    images = np.zeros((2, 3, 20, 40), np.uint8)
    images[:, 0, :, :10] = 255  # left of the square
    images[:, 0, :, 30:] = 255
    images[:, 1, :, 10:30] = 100
    out = fit(images, 16, silent)
    assert out.shape == (2, 3, 16, 16)
    assert not out[:, 0].any()
    assert (out[:, 1] == 100).all()
    upright = fit(images.transpose(0, 1, 3, 2), 16, silent)
    np.testing.assert_array_equal(upright, out.transpose(0, 1, 3, 2))


def test_where_the_square_cannot_be_in_the_middle_it_is_nearer_to_the_start() -> None:
    image = Image.fromarray(np.arange(15, dtype=np.uint8).reshape(3, 5)[:, :4])
    np.testing.assert_array_equal(np.asarray(square(image, 3)), [[0, 1, 2], [5, 6, 7], [10, 11, 12]])


def test_resizing_shows_its_progress() -> None:
    calls: list[tuple[str, int, int]] = []
    fit(np.zeros((2500, 1, 2, 2), np.uint8), 1, lambda *call: calls.append(call))
    assert calls == [("resizing images", 1000, 2500), ("resizing images", 2000, 2500), ("resizing images", 2500, 2500)]
    calls.clear()
    fit(np.zeros((5, 1, 2, 2), np.uint8), 2, lambda *call: calls.append(call))
    assert not calls
