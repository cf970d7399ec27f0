"""Hydra's reader of configuration files, with a memory: a composition reads some ten, and a study has several compositions."""

from __future__ import annotations

import os
from copy import copy, deepcopy
from dataclasses import replace
from typing import Any

from hydra._internal.config_repository import ConfigRepository
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource

_read: dict[tuple[str, str], tuple[object, ConfigResult]] = {}  # source and name of a file -> its state, and what was read


class Files(ConfigRepository):
    """Reads each file once per process, and again if it has changed."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Files:
        """Hydra copies the repository for each composition, to change its list of sources, which it replaces as a whole."""
        return copy(self)

    def load_config(self, config_path: str) -> ConfigResult | None:
        """What the file holds, as an object of its own; None if there is no such file."""
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.scheme() == "structured":  # classes, which Hydra holds already
            return super().load_config(config_path)
        key, state = (source.path, config_path), _state(source, config_path)
        if key not in _read or _read[key][0] != state:
            read = super().load_config(config_path)
            assert read is not None
            _read[key] = (state, read)
        found = _read[key][1]
        return replace(found, config=deepcopy(found.config))


def _state(source: ConfigSource, config_path: str) -> object:
    """Differs if a file of the user's was written in between. The files inside an installed package stay as they are."""
    if source.scheme() == "pkg":
        return None
    found = os.stat(os.path.join(source.path, source._normalize_file_name(config_path)))
    return found.st_mtime_ns, found.st_size, found.st_ino
