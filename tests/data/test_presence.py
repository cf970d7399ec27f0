"""Whether a published data set is on this machine: packed, as files, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnexp.config.options import DataName
from bnexp.config.schema import DataConfig
from bnexp.data.catalogue import CATALOGUE
from bnexp.data.presence import presence
from bnexp.data.resident import prepare


def made(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_digits_are_always_there_and_packed_once_they_were_used() -> None:
    config = DataConfig(name=DataName.digits)
    assert presence(config) == "raw"
    prepare(config)
    assert presence(config) == "packed"
    assert presence(DataConfig(name=DataName.digits, size=20)) == "raw"


def test_all_files_must_be_there_wherever_each_is_and_unpacked_or_not(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BNEXP_DATA_DIR", str(tmp_path / "data"))
    config = DataConfig(name=DataName.mnist, root=str(tmp_path / "mine"))
    assert presence(config) == "absent"
    first, second, third, last = (file.path for file in CATALOGUE[DataName.mnist].files)
    made(tmp_path / "mine" / first, tmp_path / "data" / second.removesuffix(".gz"), cache / "raw" / third)
    assert presence(config) == "absent"
    made(tmp_path / "data" / last)
    assert presence(config) == "raw"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (DataName.cifar10, "cifar-10-python.tar.gz"),
        (DataName.cifar10, "cifar-10-batches-py/data_batch_1"),
        (DataName.cifar100, "cifar-100-python.tar.gz"),
        (DataName.cifar100, "cifar-100-python/train"),
    ],
)
def test_cifar_may_be_unpacked(tmp_path: Path, name: DataName, file: str) -> None:
    made(tmp_path / file)
    assert presence(DataConfig(name=name, root=str(tmp_path))) == "raw"
    assert presence(DataConfig(name=name)) == "absent"


def test_images_of_ones_own_are_not_looked_for(tmp_path: Path) -> None:
    assert presence(DataConfig(name=DataName.npz, root=str(tmp_path))) == "absent"
