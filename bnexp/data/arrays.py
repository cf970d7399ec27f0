"""Arrays of images and labels as a data set: what forms they may have, and what is said of others.

Images have shape (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3. Integers are pixel values 0..255. Floats are 0..1
if no value is above 1, else 0..255. Labels are integers 0..K-1 of shape (N,) or (N, 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexp.config.schema import DataConfig
from bnexp.data.download import WrongData
from bnexp.data.images import MAX_CLASSES, Int64, RawData, UInt8
from bnexp.data.splits import split_off_test

Array = NDArray[Any]
NAMES = ("x_train", "y_train", "x_test", "y_test")


def from_arrays(place: str, arrays: Mapping[str, Array], config: DataConfig) -> RawData:
    """The data set of some arrays. Images keep their size; classes are named by their numbers.

    Args:
        place: where the arrays are from, as messages begin.
        arrays: ``x_train, y_train`` and, if there is a test set, ``x_test, y_test``.
        config: says how a test set is split off if there is none.

    Raises:
        WrongData: they are not all there, or have other forms.
    """
    images = {key: _channels_first(place, key, array) for key, array in arrays.items() if key.startswith("x")}
    _check_alike(place, images)
    unit = all(x.dtype.kind == "f" for x in images.values()) and max(float(x.max()) for x in images.values()) <= 1
    x = {key: _to_uint8(place, key, array, unit) for key, array in images.items()}
    y = {key: _labels(place, key, array, len(x["x" + key[1:]])) for key, array in arrays.items() if key.startswith("y")}
    num_classes = _num_classes(place, y)
    if "x_test" in x:
        parts = x["x_train"], y["y_train"], x["x_test"], y["y_test"]
    else:
        kept, taken = split_off_test(config, y["y_train"])
        parts = x["x_train"][kept], y["y_train"][kept], x["x_train"][taken], y["y_train"][taken]
    return RawData(*parts, tuple(map(str, range(num_classes))))


def check_names(place: str, found: Sequence[str]) -> None:
    """Raise WrongData if an array is missing."""
    missing = [key for key in NAMES[:2] if key not in found]
    if not missing and ("x_test" in found) != ("y_test" in found):
        missing = [key for key in NAMES[2:] if key not in found]
    if missing:
        there = ", ".join(found[:10]) or "nothing"
        raise WrongData(
            f"{place} lacks {' and '.join(missing)} (it has {there}): name the arrays x_train, y_train, x_test, y_test; "
            "without both of the last two, data.test_fraction of the images becomes the test set."
        )


def check_shape(place: str, key: str, shape: tuple[int, ...]) -> None:
    """Raise WrongData unless it is a shape of images."""
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[1] not in (1, 3) and shape[3] not in (1, 3)):
        raise WrongData(
            f"{place}: {key} has shape {shape}; allowed is (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3."
        )
    if 0 in shape:
        raise WrongData(f"{place}: {key} has shape {shape}, so no pixels: write at least one image.")


def _channels_first(place: str, key: str, images: Array) -> Array:
    """Images as (N, C, H, W). If both the last and the second axis have size 1 or 3, the last one is the channels."""
    check_shape(place, key, images.shape)
    if images.ndim == 3:
        return images[:, None]
    return images.transpose(0, 3, 1, 2) if images.shape[3] in (1, 3) else images


def _check_alike(place: str, images: dict[str, Array]) -> None:
    kinds = [(array.shape[1:], array.dtype) for array in images.values()]
    if len(set(kinds)) > 1:
        (a, a_type), (b, b_type) = kinds
        raise WrongData(
            f"{place}: images of x_train are {a_type} of shape {a}, those of x_test {b_type} of shape {b} (channels, height, "
            "width): make them alike."
        )


def _to_uint8(place: str, key: str, images: Array, unit: bool) -> UInt8:
    if images.dtype == np.uint8:
        return images
    if images.dtype == np.bool_:
        return images.astype(np.uint8) * np.uint8(255)
    if images.dtype.kind not in "iuf":
        raise WrongData(
            f"{place}: {key} has type {images.dtype}; allowed are uint8, other integers 0..255, and floats 0..1 or 0..255."
        )
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 255):  # NaN fails both
        raise WrongData(
            f"{place}: {key} has values from {low:g} to {high:g}; allowed are 0..255, or 0..1 for floats: rescale it."
        )
    out = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), 1024):  # in parts: float64 images would need their memory twice
        part = images[start : start + 1024]
        out[start : start + 1024] = np.rint(part * (255 if unit else 1))
    return out


def _labels(place: str, key: str, labels: Array, num_images: int) -> Int64:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise WrongData(
            f"{place}: {key} has shape {labels.shape} and type {labels.dtype}; allowed are integers of shape (N,) or (N, 1), "
            "a class number for each image (argmax turns one-hot rows into them, astype(int) whole floats, "
            "np.unique(names, return_inverse=True)[1] names)."
        )
    if len(labels) != num_images:
        raise WrongData(f"{place}: {key} has {len(labels)} labels for the {num_images} images of x{key[1:]}: make them equal.")
    for label in (labels.min(), labels.max()):
        if not 0 <= label < MAX_CLASSES:
            raise WrongData(
                f"{place}: {key} has the label {label}; allowed are class numbers from 0 to {MAX_CLASSES - 1}: renumber them."
            )
    return labels.astype(np.int64)


def _num_classes(place: str, y: dict[str, Int64]) -> int:
    present = np.unique(y["y_train"])
    num_classes = int(present[-1]) + 1
    absent = np.setdiff1d(np.arange(num_classes), present)
    if len(absent):
        raise WrongData(
            f"{place}: no image of y_train has the label {absent[0]}, though {present[-1]} occurs: number from 0 without gaps."
        )
    if num_classes < 2:
        raise WrongData(f"{place}: y_train has one class; at least 2 are needed.")
    if "y_test" in y and y["y_test"].max() >= num_classes:
        raise WrongData(
            f"{place}: y_test has the label {y['y_test'].max()}; y_train ends at {present[-1]}: use the same classes."
        )
    return num_classes
