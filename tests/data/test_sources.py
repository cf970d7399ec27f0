"""The published formats, from small synthetic files served over the loopback, and the embedded digits."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import re
import shutil
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_files import FileServer, idx, images_and_labels, md5

from bnexp.config.options import DataName
from bnexp.config.schema import DataConfig
from bnexp.data.catalogue import CATALOGUE
from bnexp.data.download import DataError
from bnexp.data.idx import read_idx
from bnexp.data.resident import prepare


@pytest.fixture
def small_fashion(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with 40 and 20 unpacked images of Fashion-MNIST, and a server that has none."""
    monkeypatch.setenv("BNEXP_DATA_MIRROR", server.url)
    raw = tmp_path / "FashionMNIST/raw"
    raw.mkdir(parents=True)
    for part, seed, n in (("train", 0, 40), ("t10k", 1, 20)):
        images, labels = images_and_labels(n, 28, 28, seed=seed)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def cifar_archive(data_set: DataName, monkeypatch: pytest.MonkeyPatch, label_key: str) -> bytes:
    """An archive in the published layout, 100 images per batch; the catalogue and torchvision are told its checksums."""
    from torchvision import datasets

    known = CATALOGUE[data_set]
    source, num_classes = getattr(datasets, known.torchvision), known.num_classes
    names = [f"class{i}" for i in range(num_classes)]
    members = {source.meta["filename"]: pickle.dumps({source.meta["key"]: names})}
    for seed, (name, _) in enumerate(source.train_list + source.test_list):
        images, labels = images_and_labels(100, 3 * 32 * 32, num_classes=num_classes, seed=seed)
        content = pickle.dumps({"data": images, label_key: labels.tolist()}, protocol=2)
        # The alignment is a number, as in the published files, which NumPy 2.4 dislikes.
        members[name] = content.replace(b"\x89\x88\x87", b"K\x00\x86", 1)
    for attribute in ("train_list", "test_list"):
        monkeypatch.setattr(source, attribute, [[name, md5(members[name])] for name, _ in getattr(source, attribute)])
    monkeypatch.setattr(source, "meta", source.meta | {"md5": md5(members[source.meta["filename"]])})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"{source.base_folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    file = replace(known.files[0], md5=md5(buffer.getvalue()))
    monkeypatch.setitem(CATALOGUE, data_set, replace(known, files=(file,)))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "label_key", "num_classes", "num_train"),
    [(DataName.cifar10, "labels", 10, 500), (DataName.cifar100, "fine_labels", 100, 100)],
)
def test_cifar_is_read_from_its_archive_and_from_its_folder(
    server: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: DataName,
    label_key: str,
    num_classes: int,
    num_train: int,
) -> None:
    archive = cifar_archive(name, monkeypatch, label_key)
    server.files[f"/{name}/{CATALOGUE[name].files[0].path}"] = archive
    monkeypatch.setenv("BNEXP_DATA_MIRROR", server.url)
    config = DataConfig(name=name, val_fraction=0.0)
    resident = prepare(config)
    assert resident.train_images.shape == (num_train, 3, 32, 32)
    assert resident.class_names == tuple(f"class{i}" for i in range(num_classes))
    expected, labels = images_and_labels(100, 3, 32, 32, num_classes=num_classes)
    np.testing.assert_array_equal(resident.train_images[:100], expected)
    np.testing.assert_array_equal(resident.train_labels[:100], labels)

    root = tmp_path / "unpacked"
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(root, filter="data")
    shutil.rmtree(os.environ["BNEXP_CACHE_DIR"])
    assert prepare(DataConfig(name=name, val_fraction=0.0, root=str(root))).fingerprint == resident.fingerprint
    assert sum(server.requests.values()) == 1
    assert not caplog.records  # a place without the folder is passed over in silence

    folder = next(path for path in root.iterdir())
    next(path for path in folder.iterdir() if "test" in path.name).write_bytes(b"damaged")
    calls: list[tuple[str, int, int]] = []
    config = DataConfig(name=name, val_fraction=0.0, root=str(root), size=31)
    assert len(prepare(config, lambda *call: calls.append(call)).train_images) == num_train  # from the archive
    assert [record.message for record in caplog.records] == [f"{folder} is incomplete or damaged, so it is not used."]
    assert (f"unpacking {CATALOGUE[name].files[0].path}", 0, 1) in calls


def test_an_archive_writes_nothing_outside_of_its_folder(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../../evil"))
    known = CATALOGUE[DataName.cifar10]
    file = replace(known.files[0], md5=md5((tmp_path / "evil.tar").read_bytes()))
    (tmp_path / "evil.tar").rename(tmp_path / file.path)
    monkeypatch.setitem(CATALOGUE, DataName.cifar10, replace(known, files=(file,)))
    with pytest.raises(tarfile.FilterError):
        prepare(DataConfig(name=DataName.cifar10, root=str(tmp_path)))
    assert not [*Path(os.environ["BNEXP_CACHE_DIR"]).rglob("evil")]


def test_svhn_calls_the_digit_zero_class_zero(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    known, files = CATALOGUE[DataName.svhn], []
    for file, count in zip(known.files, (30, 20), strict=True):
        images, labels = images_and_labels(count, 32, 32, 3)
        buffer = io.BytesIO()
        savemat(buffer, {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[:, None]})
        server.files[f"/svhn/{file.path}"] = buffer.getvalue()
        files.append(replace(file, md5=md5(buffer.getvalue())))
    monkeypatch.setitem(CATALOGUE, DataName.svhn, replace(known, files=tuple(files)))
    monkeypatch.setenv("BNEXP_DATA_MIRROR", server.url)
    resident = prepare(DataConfig(name=DataName.svhn, val_fraction=0.0))
    for images, count in ((resident.train_images, 30), (resident.test_images, 20)):
        np.testing.assert_array_equal(images, images_and_labels(count, 32, 32, 3)[0].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(resident.train_labels, images_and_labels(30, 32, 32, 3)[1])
    np.testing.assert_array_equal(resident.test_labels, images_and_labels(20, 32, 32, 3)[1])
    assert resident.class_names == tuple("0123456789")


def test_digits_need_no_file_and_fill_the_range() -> None:
    resident = prepare(DataConfig(name=DataName.digits))
    assert resident.train_images.shape[1:] == (1, 32, 32)
    assert len(resident.train_images) + len(resident.test_images) == 1797
    assert len(resident.test_images) == 359
    assert (resident.train_images.min(), resident.train_images.max()) == (0, 255)
    shares = np.bincount(resident.test_labels) / np.bincount(np.concatenate([resident.train_labels, resident.test_labels]))
    assert np.all(abs(shares - 0.2) < 0.01)


THREE = idx(np.arange(3, dtype=np.uint8))
MANY = b"\0\0\x08\x03" + b"\xff" * 12  # announces 2^96 bytes
BROKEN_IDX = {
    "nothing": (b"", "not an IDX file of bytes"),
    "text": (b"text", "not an IDX file of bytes"),
    "three bytes": (b"\0\0\x08", "not an IDX file of bytes"),
    "floats": (b"\0\0\x0d" + THREE[3:], "not an IDX file of bytes"),
    "too little": (THREE[:-1], "announces 3 bytes, has 2"),
    "too much": (THREE + b"x", "announces 3 bytes, has more"),
    "half a size": (b"\0\0\x08\x02\0\0", "buffer size must be a multiple of element size"),
    "half of the sizes": (b"\0\0\x08\x02\0\0\0\0", "announces shape (0,)"),
    "more than all memory": (MANY, "announces shape (4294967295, 4294967295, 4294967295)"),
    "a byte too much": (b"\0\0\x08\x01\x10\0\0\x01", "announces shape (268435457,)"),
    "the largest": (b"\0\0\x08\x01\x10\0\0\0", "announces 268,435,456 bytes, has 0"),
}


@pytest.mark.parametrize("case", BROKEN_IDX)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_broken_idx_file_is_refused(tmp_path: Path, case: str, suffix: str) -> None:
    content, reason = BROKEN_IDX[case]
    path = tmp_path / f"labels{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        read_idx(path)


def test_a_broken_gzip_file_is_refused_and_a_bomb_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "labels.gz"
    bomb = gzip.compress(THREE + bytes(50 << 20))
    for content in (b"text", bomb[:-20], bomb[:40] + b"x" * 40 + bomb[80:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot be unpacked: |has more"):
            read_idx(path)
    path.write_bytes(bomb)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"^announces 3 bytes, has more$"):
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 5 << 20
    tracemalloc.stop()
    path.write_bytes(gzip.compress(THREE))
    assert read_idx(path).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("train-images-idx3-ubyte", np.zeros((40, 27, 28), np.uint8), "shape (40, 27, 28), should be ('N', 28, 28)"),
        ("train-images-idx3-ubyte", np.zeros((0, 28, 28), np.uint8), "shape (0, 28, 28), should be ('N', 28, 28)"),
        ("t10k-labels-idx1-ubyte", np.zeros((40, 1), np.uint8), "shape (40, 1), should be ('N',)"),
    ],
)
def test_unpacked_files_without_a_published_checksum_are_looked_at(
    small_fashion: Path, name: str, array: np.ndarray[Any, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = small_fashion / "FashionMNIST/raw" / name
    path.write_bytes(idx(array))
    config = DataConfig(name=DataName.fashion_mnist, val_fraction=0.25, root=str(small_fashion))
    with pytest.raises(DataError, match=f"Could not download {name}.gz"):
        prepare(config)
    assert f"{path} is damaged ({reason}), so it is not used." in caplog.text


def test_files_that_do_not_belong_together_are_refused(small_fashion: Path) -> None:
    config = DataConfig(name=DataName.fashion_mnist, val_fraction=0.25, root=str(small_fashion))
    labels = small_fashion / "FashionMNIST/raw/t10k-labels-idx1-ubyte"
    right = np.arange(20, dtype=np.uint8) % 10
    for wrong, counted in (
        (right[:-1], "20 images, 19 labels up to 9"),
        (right + np.uint8(1), "20 images, 20 labels up to 10"),
    ):
        labels.write_bytes(idx(wrong))
        with pytest.raises(DataError) as raised:
            prepare(config)
        assert str(raised.value).startswith(f"The files of FashionMNIST/raw in {small_fashion}, ")
        assert str(raised.value).endswith(
            f" do not belong together ({counted}): remove those without .gz, so that they are downloaded."
        )
    labels.write_bytes(idx(right))
    resident = prepare(config)
    assert resident.class_names[:2] == ("T-shirt/top", "Trouser")
    assert resident.test_labels.tolist() == right.tolist()


@pytest.mark.real_data
def test_real_mnist_is_used_where_it_lies_without_a_write(monkeypatch: pytest.MonkeyPatch, real_data_dir: Path) -> None:
    raw = real_data_dir / "MNIST/raw"
    before = {path.name: path.stat().st_mtime_ns for path in [raw, *raw.iterdir()]}
    monkeypatch.setenv("BNEXP_DATA_MIRROR", "http://127.0.0.1:9")  # whoever downloads fails
    resident = prepare(DataConfig(name=DataName.mnist))
    assert before == {path.name: path.stat().st_mtime_ns for path in [raw, *raw.iterdir()]}
    assert resident.train_images.shape == (60000, 1, 32, 32)
    assert np.bincount(resident.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    inner = hashlib.md5(resident.train_images[:, 0, 2:-2, 2:-2].tobytes()).hexdigest()
    assert inner == hashlib.md5((raw / "train-images-idx3-ubyte").read_bytes()[16:]).hexdigest()
    # The constants that everyone uses for 28 x 28 are .1307 and .3081; the margin changes them by the ratio of areas.
    area = (28 / 32) ** 2
    assert resident.mean[0] == pytest.approx(0.1307 * area, abs=2e-4)
    assert resident.std[0] == pytest.approx((area * (0.3081**2 + 0.1307**2) - (0.1307 * area) ** 2) ** 0.5, abs=2e-4)
