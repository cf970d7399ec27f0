"""The user's own files: counted, and known again, without reading an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bnexp.config.schema import DataConfig
from bnexp.data.catalogue import CATALOGUE, Format
from bnexp.data.folder import count_folder_images, folder_state
from bnexp.data.images import FileState
from bnexp.data.npz import count_npz_images, npz_state


@dataclass(frozen=True)
class OwnFormat:
    """What the files of a format tell without being read.

    Args:
        count: ``config`` -> number of training images, those for validation included.
        state: ``config`` -> what tells whether the files have changed.
    """

    count: Callable[[DataConfig], int]
    state: Callable[[DataConfig], FileState]


OWN_FORMATS = {
    Format.image_folder: OwnFormat(count_folder_images, folder_state),
    Format.npz: OwnFormat(count_npz_images, npz_state),
}


def own_format(config: DataConfig) -> OwnFormat | None:
    """The format of the user's own files; None for a published data set."""
    return OWN_FORMATS.get(CATALOGUE[config.name].format)


def count_train_images(config: DataConfig) -> int:
    """The number of training images, those for validation included.

    The catalogue has it for published data sets. The user's own files are counted without reading an image.

    Raises:
        ConfigError: if ``data.root`` does not name what it should.
        DataError: if the user's own files cannot be read or understood.
    """
    own = own_format(config)
    return own.count(config) if own else CATALOGUE[config.name].num_train
