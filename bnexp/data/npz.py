"""The user's own arrays: a keras-style ``.npz`` file with ``x_train, y_train`` and, with a test set, ``x_test, y_test``."""

from __future__ import annotations

from pathlib import Path

from bnexp.config.schema import ConfigError, DataConfig
from bnexp.data.archive import read_arrays, read_shapes
from bnexp.data.arrays import NAMES, check_names, check_shape, from_arrays
from bnexp.data.download import Progress
from bnexp.data.images import FileState, RawData
from bnexp.data.splits import part_sizes


def npz_path(config: DataConfig) -> Path:
    """``data.root`` as a file. Raises ConfigError if it is not one."""
    path = Path(config.root or "").expanduser()
    if not config.root or not path.is_file():
        raise ConfigError(
            f"data.root={config.root} is not a file: data=npz needs a .npz file with x_train, y_train, x_test, y_test."
        )
    return path.resolve()


def npz_state(config: DataConfig) -> FileState:
    """What tells that the file has changed. Raises ConfigError if there is none."""
    path = npz_path(config)
    stat = path.stat()
    # Only opening the file would tell whether it has a test set.
    return FileState(str(path), [stat.st_size, stat.st_mtime_ns], has_test_set=False)


def count_npz_images(config: DataConfig) -> int:
    """The number of training images that the file announces; reads none. Raises ConfigError and DataError as ``load_npz``."""
    path = npz_path(config)
    shapes, found = read_shapes(path, NAMES)
    check_names(str(path), found)
    check_shape(str(path), "x_train", shapes["x_train"])
    count = shapes["x_train"][0]
    return count if "x_test" in found else part_sizes(count, config.test_fraction)[0]


def load_npz(config: DataConfig, _: Path, __: Progress) -> RawData:
    """Read the file; see ``sources.load``. Images keep their size."""
    path = npz_path(config)
    arrays, found = read_arrays(path, NAMES)
    check_names(str(path), found)
    return from_arrays(str(path), arrays, config)
