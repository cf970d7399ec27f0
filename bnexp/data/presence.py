"""Whether a published data set is on this machine, told without reading or downloading it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from bnexp.config.schema import DataConfig
from bnexp.data.catalogue import CATALOGUE, RawFile
from bnexp.data.download import raw_roots

CIFAR_FOLDERS = {"cifar-10-python.tar.gz": "cifar-10-batches-py", "cifar-100-python.tar.gz": "cifar-100-python"}


class Presence(StrEnum):
    """Where a published data set is."""

    packed = "packed"
    raw = "raw"
    absent = "absent"


def presence(config: DataConfig) -> Presence:
    """What is there of a published data set: the packed images, or files to pack, or nothing to do it without a download.

    Files are not opened: one that is damaged counts as there. The user's own files are not looked for.

    Args:
        config: the data set, the size of its images, and where else raw files may be.
    """
    from bnexp.data.cache import packed_path

    if not config.name.is_own and (packed_path(config) / "meta.json").is_file():
        return Presence.packed
    known, roots = CATALOGUE[config.name], raw_roots(config.root)
    part_of_bnexp = not known.files and not config.name.is_own
    here = part_of_bnexp or (bool(known.files) and all(any(_is_in(root, file) for root in roots) for file in known.files))
    return Presence.raw if here else Presence.absent


def _is_in(root: Path, file: RawFile) -> bool:
    """Whether a raw file is there, as published or unpacked."""
    unpacked = CIFAR_FOLDERS.get(file.path, file.path.removesuffix(".gz"))
    return any((root / name).exists() for name in (file.path, unpacked))
