"""The user's own images: counted, and known again, without reading one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bnexp.config.schema import DataConfig
from bnexp.data.catalogue import CATALOGUE, Format
from bnexp.data.folder import count_folder_images, folder_state
from bnexp.data.images import FileState
from bnexp.data.made import made_state
from bnexp.data.npz import count_npz_images, npz_state


@dataclass(frozen=True)
class OwnFormat:
    """What the files of a format tell without being read.

    Args:
        count: ``config`` -> number of training images, those for validation included; None if they must be packed to tell.
        state: ``config`` -> what tells whether the files have changed.
    """

    count: Callable[[DataConfig], int] | None
    state: Callable[[DataConfig], FileState]


OWN_FORMATS = {
    Format.image_folder: OwnFormat(count_folder_images, folder_state),
    Format.npz: OwnFormat(count_npz_images, npz_state),
    Format.python: OwnFormat(None, made_state),
}


def own_format(config: DataConfig) -> OwnFormat | None:
    """The format of the user's own files; None for a published data set."""
    return OWN_FORMATS.get(CATALOGUE[config.name].format)


def look_for_files(config: DataConfig) -> None:
    """See that the user's own files are there and arranged as they should be, without reading an image.

    Nothing is done for a published data set, nor for images that a function makes.

    Raises:
        ConfigError: ``data.root`` does not name what it should.
        DataError: the files cannot be understood.
    """
    own = own_format(config)
    if own and own.count:
        own.count(config)
