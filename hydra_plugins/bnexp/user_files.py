"""The Hydra config source ``bnexp``: the user's configuration files, whose size is checked before they are read."""

from pathlib import Path

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.plugins.config_source import ConfigResult


class UserFiles(FileConfigSource):
    """A directory of ``BNEXP_CONFIG_PATH``."""

    @staticmethod
    def scheme() -> str:
        return "bnexp"

    def load_config(self, config_path: str) -> ConfigResult:
        from bnexp.config.yaml_size import check_size

        if self.is_config(config_path):
            check_size(Path(self.path) / self._normalize_file_name(config_path))
        return super().load_config(config_path)
