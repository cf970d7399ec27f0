"""Configurations with other values at some keys, for tests that go through many keys without Hydra."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from bnexp.config.schema import RunConfig


def changed(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """A copy of ``config`` with ``values``, dotted key -> value. Nothing is checked."""
    config = deepcopy(config)
    for key, value in values.items():
        *path, last = key.split(".")
        place: Any = config
        for part in path:
            place = getattr(place, part)
        setattr(place, last, value)
    return config
