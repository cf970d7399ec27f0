"""The catalogue: complete, in agreement with the configuration files, with the readers and with what others know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bnexp.config.options import DataName
from bnexp.config.schema import DataConfig
from bnexp.data.catalogue import CATALOGUE, Format, RawFile
from bnexp.data.own import OWN_FORMATS
from bnexp.data.resident import prepare
from bnexp.data.sources import READERS
from bnexp.plan.compose import compose
from bnexp.plan.session import groups


def missing(known: dict[str, set[str]]) -> list[str]:
    """What has to be added so that every place knows the same data sets."""
    every = set().union(*known.values())
    return [f"{name} is missing in {place}" for place, names in known.items() for name in sorted(every - names)]


def test_every_data_set_is_known_everywhere() -> None:
    places = {
        "DataName of bnexp/config/options.py": {name.value for name in DataName},
        "CATALOGUE of bnexp/data/catalogue.py": {name.value for name in CATALOGUE},
        "the files of configs/data": set(groups()["data"]),
    }
    assert missing(places) == []
    assert missing({"a": {"x"}, "b": {"x", "new"}}) == ["new is missing in a"]
    assert READERS.keys() == set(Format)
    assert {known.format for known in CATALOGUE.values()} == set(Format)


@pytest.mark.parametrize("name", DataName)
def test_an_entry_is_complete(name: DataName) -> None:
    known = CATALOGUE[name]
    needed = ["data.factory=getpass:getuser"] if name is DataName.python else ["data.root=x"] if name.own_files else []
    config = compose([f"data={name}", *needed]).data
    assert config.name is name
    assert known.title
    assert (known.format in OWN_FORMATS) == name.is_own
    if name.is_own:
        assert (known.num_train, known.num_test, known.num_classes, known.size, known.channels) == (0,) * 5
        return
    assert known.source
    assert min(known.num_train, known.num_test, known.num_classes, known.size) > 0
    assert known.channels in (1, 3)
    assert len(known.class_names) in (0, known.num_classes)
    assert all(len(file.md5) == 32 and len(file.unpacked_md5) in (0, 32) and file.urls for file in known.files)
    assert all(url.rsplit("/", 1)[-1] == file.path.rsplit("/", 1)[-1] for file in known.files for url in file.urls)


IDX_CLASSES = {DataName.mnist: "MNIST", DataName.fashion_mnist: "FashionMNIST", DataName.kmnist: "KMNIST"}


@pytest.mark.parametrize(
    "name", [*IDX_CLASSES, *(name for name in DataName if CATALOGUE[name].format in (Format.cifar, Format.svhn))]
)
def test_files_and_classes_are_those_that_torchvision_knows(name: DataName) -> None:
    from torchvision import datasets

    known = CATALOGUE[name]
    if known.format is Format.svhn:
        splits = datasets.SVHN.split_list
        assert known.files == tuple(RawFile(splits[part][1], splits[part][2], (splits[part][0],)) for part in ("train", "test"))
        return
    if known.format is Format.cifar:
        source: Any = getattr(datasets, known.torchvision)
        assert known.files == (RawFile(source.filename, source.tgz_md5, (source.url,)),)
        return
    source = getattr(datasets, IDX_CLASSES[name])
    assert [(Path(file.path).name, file.md5) for file in known.files] == source.resources
    assert {file.path.split("/")[0] for file in known.files} == {source.__name__}
    assert [file.urls for file in known.files] == [
        tuple(base + file for base in source.mirrors) for file, _ in source.resources
    ]
    assert known.class_names == tuple(label.split(" - ")[0] for label in source.classes)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        (DataName.mnist, (60_000, 10_000, 10, 28, 1)),
        (DataName.fashion_mnist, (60_000, 10_000, 10, 28, 1)),
        (DataName.kmnist, (60_000, 10_000, 10, 28, 1)),
        (DataName.cifar10, (50_000, 10_000, 10, 32, 3)),
        (DataName.cifar100, (50_000, 10_000, 100, 32, 3)),
        (DataName.svhn, (73_257, 26_032, 10, 32, 3)),
    ],
)
def test_numbers_are_those_of_the_publication(name: DataName, published: tuple[int, ...]) -> None:
    known = CATALOGUE[name]
    assert (known.num_train, known.num_test, known.num_classes, known.size, known.channels) == published


@pytest.mark.parametrize("name", [DataName.digits, pytest.param(DataName.mnist, marks=pytest.mark.real_data)])
def test_the_files_hold_what_the_catalogue_says(name: DataName, request: pytest.FixtureRequest) -> None:
    if name is DataName.mnist:
        request.getfixturevalue("real_data_dir")
    known, data = CATALOGUE[name], prepare(DataConfig(name=name, val_fraction=0.0))
    assert (len(data.train_labels), len(data.test_labels)) == (known.num_train, known.num_test)
    assert (data.num_classes, data.in_channels) == (known.num_classes, known.channels)
