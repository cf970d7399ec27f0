"""The user's own images, made by a function of theirs: ``data=python data.factory=images.py:load``.

The function returns a mapping with ``x_train, y_train`` and, if there is a test set, ``x_test, y_test``; perhaps also with
``class_names``. Or it returns two or four of these arrays, in this order. ``arrays.py`` says what forms they may have, but
images may not be floats: whether these are 0..1, 0..255 or normalised is for the function to know.

It runs once: what it returns is packed, and packed anew when its source or its arguments change. What else it reads is not
looked at, such as files of images.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bnexp.config.factory import file_of, run_factory
from bnexp.config.schema import ConfigError, DataConfig
from bnexp.data.arrays import NAMES, Array, check_names, from_arrays
from bnexp.data.download import Progress, WrongData
from bnexp.data.images import FileState, RawData

CLASS_NAMES = "class_names"
KEY = "data.factory"


def made_state(config: DataConfig) -> FileState:
    """What tells that the function has changed: its source. Raises ConfigError if a record names it."""
    text = config.factory or ""
    place = f"{file_of(text, KEY)}:{text.rpartition(':')[2]} {sorted(config.args.items())!r}"
    return FileState(place, [config.fingerprint], has_test_set=False)


def load_made(config: DataConfig, _: Path, progress: Progress) -> RawData:
    """Call the function; see ``sources.load``. Images keep their size."""
    text = config.factory or ""
    progress(f"calling {text}", 0, 0)
    try:
        returned = run_factory(text, KEY, **deepcopy(config.args))  # which the function may change
    except ConfigError as error:
        raise WrongData(str(error)) from error
    place = f"what {text} returns"
    values = _named(place, returned)
    check_names(place, list(values))
    raw = from_arrays(place, {name: _array(place, name, values[name]) for name in NAMES if name in values}, config)
    given = values.get(CLASS_NAMES)
    return raw if given is None else replace(raw, class_names=_class_names(place, given, len(raw.class_names)))


def _named(place: str, returned: Any) -> dict[str, Any]:
    """What was returned, by name; an array that is None is left out."""
    if isinstance(returned, Mapping):
        found = {str(name): value for name, value in returned.items()}
    elif isinstance(returned, tuple | list) and len(returned) in (2, 4):
        found = dict(zip(NAMES, returned, strict=False))
    else:
        kind = "None" if returned is None else type(returned).__name__
        many = f" of {len(returned)}" if isinstance(returned, tuple | list) else ""
        raise WrongData(f"{place} is {kind}{many}: return a mapping with {', '.join(NAMES)}, or two or four of them.")
    return {name: value for name, value in found.items() if value is not None}


def _array(place: str, name: str, value: Any) -> Array:
    try:
        array = np.asarray(value)
    except Exception as error:  # of lists of different lengths, or of a tensor that is not on the CPU
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise WrongData(f"{place}: {name} is {type(value).__name__} that makes no array ({reason}): return arrays.") from error
    if array.dtype == np.object_:
        raise WrongData(f"{place}: {name} is {type(value).__name__}, no array of numbers: return arrays of equal images.")
    if name.startswith("x") and array.dtype.kind == "f" and array.size:
        raise WrongData(f"{place}: {name} {_not_bytes(name, array)}")
    return array


def _not_bytes(name: str, images: Array) -> str:
    """What is said of images that are floats: what they are, and how they become bytes."""
    low, high = float(images.min()), float(images.max())
    told = f"is {images.dtype} with values from {low:.3g} to {high:.3g}; return pixel values 0..255 as uint8"
    if not (low >= 0 and high <= 255):  # NaN fails both
        return f"{told}, not normalised: bnexp does that itself."
    pixels = f"(255 * {name})" if high <= 1 else name
    return f'{told}: {pixels}.round().astype("uint8").'


def _class_names(place: str, given: Any, number: int) -> tuple[str, ...]:
    names = tuple(given) if isinstance(given, list | tuple) else ()
    if len(names) != number or not all(isinstance(name, str) and name for name in names) or len(set(names)) != number:
        raise WrongData(
            f"{place}: class_names must be a list of {number} different texts, one for each label from 0 to {number - 1}."
        )
    return names
