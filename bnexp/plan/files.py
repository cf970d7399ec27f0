"""Hydra's reader and composer of configuration files, with a memory.

A composition reads some twenty files, and takes 50 ms. A command has several, some of them twice. What is kept is pickled: to
unpickle a tree takes an eighth of the time that OmegaConf needs to copy it.
"""

from __future__ import annotations

import os
import pickle
from contextlib import suppress
from copy import copy
from dataclasses import replace
from typing import Any, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.utils import JobRuntime
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig

KEPT = 100  # compositions, of some 40 KB each

_read: dict[tuple[str, str], tuple[object, ConfigResult, bytes]] = {}  # source and name -> state, what was read, the pickle
_composed: dict[object, tuple[dict[str, object], bytes]] = {}  # what was asked -> states of the files, the tree


class Files(ConfigRepository):
    """Reads each file once per process, and again if it has changed."""

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self.asked: dict[str, object] = {}  # name of a file -> its state

    def __deepcopy__(self, memo: dict[int, Any]) -> Files:
        """Hydra copies the repository for each composition, to change its list of sources, which it replaces as a whole."""
        return copy(self)

    def load_config(self, config_path: str) -> ConfigResult | None:
        """What the file holds, as an object of its own; None if there is no such file."""
        state = self.asked[config_path] = self.state(config_path)
        if not isinstance(state, tuple):  # no file: classes, which Hydra holds already
            return super().load_config(config_path)
        key = (state[0], config_path)
        if key not in _read or _read[key][0] != state:
            read = super().load_config(config_path)
            assert read is not None
            _read[key] = (state, read, pickle.dumps(read.config))
        _, found, config = _read[key]
        return replace(found, config=pickle.loads(config))

    def state(self, config_path: str) -> object:
        """Differs if the file was written in between, or another is found. Those of an installed package stay as they are."""
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.scheme() == "structured":
            return source and source.scheme()
        if source.scheme() == "pkg":
            return (source.path,)
        found = os.stat(os.path.join(source.path, source._normalize_file_name(config_path)))
        return source.path, found.st_mtime_ns, found.st_size, found.st_ino


class Loader(ConfigLoaderImpl):
    """Composes the same files with the same overrides once per process, and again if one of the files has changed."""

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self._files = self.repository = Files(search_path)

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """The composition, as an object of its own."""
        asked = (config_name, *overrides, run_mode, from_shell, validate_sweep_overrides)
        sources = tuple((source.scheme(), source.path) for source in self.get_sources())
        key = (asked, sources, os.getcwd(), JobRuntime.instance().get("name"))  # the last two become values of Hydra's own
        if key in _composed and all(self._files.state(path) == state for path, state in _composed[key][0].items()):
            return cast(DictConfig, pickle.loads(_composed[key][1]))
        self._files.asked.clear()
        tree = super().load_configuration(config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
        with suppress(pickle.PicklingError):  # in a process of joblib, classes of plugins are not those that can be imported
            if not tree.hydra.job.env_copy:  # whose values may change
                _composed[key] = (dict(self._files.asked), pickle.dumps(tree))
        if len(_composed) > KEPT:
            del _composed[next(iter(_composed))]
        return tree
