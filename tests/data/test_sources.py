"""The published formats, from small synthetic files served over the loopback, and the embedded digits."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from made_files import FileServer, idx, images_and_labels, md5

from bnexp.config import DataConfig
from bnexp.data.images import fit
from bnexp.data.resident import prepare
from bnexp.data.sources import DataError, read_idx
from bnexp.options import DataName


def cifar_archive(source: type, monkeypatch: pytest.MonkeyPatch, label_key: str, num_classes: int) -> bytes:
    """An archive in the published layout, 100 images a batch; torchvision is told its checksums."""
    names = [f"class{i}" for i in range(num_classes)]
    members = {source.meta["filename"]: pickle.dumps({source.meta["key"]: names})}
    for seed, (name, _) in enumerate(source.train_list + source.test_list):
        images, labels = images_and_labels(100, 3 * 32 * 32, num_classes=num_classes, seed=seed)
        members[name] = pickle.dumps({"data": images, label_key: labels.tolist()})
    for attribute in ("train_list", "test_list"):
        monkeypatch.setattr(source, attribute, [[name, md5(members[name])] for name, _ in getattr(source, attribute)])
    monkeypatch.setattr(source, "meta", source.meta | {"md5": md5(members[source.meta["filename"]])})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"{source.base_folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    monkeypatch.setattr(source, "tgz_md5", md5(buffer.getvalue()))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "label_key", "num_classes", "num_train"),
    [(DataName.cifar10, "labels", 10, 500), (DataName.cifar100, "fine_labels", 100, 100)],
)
def test_cifar_is_read_from_its_archive_and_from_its_folder(
    server: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: DataName,
    label_key: str,
    num_classes: int,
    num_train: int,
) -> None:
    from torchvision import datasets

    source = getattr(datasets, name.upper())
    archive = cifar_archive(source, monkeypatch, label_key, num_classes)
    server.files[f"/{name}/{source.filename}"] = archive
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


def test_svhn_calls_the_digit_zero_class_zero(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    split_list = {}
    for split in ("train", "test"):
        images, labels = images_and_labels(30, 32, 32, 3)
        buffer = io.BytesIO()
        savemat(buffer, {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[:, None]})
        url, filename, _ = SVHN.split_list[split]
        server.files[f"/svhn/{filename}"] = buffer.getvalue()
        split_list[split] = [url, filename, md5(buffer.getvalue())]
    monkeypatch.setattr(SVHN, "split_list", split_list)
    monkeypatch.setenv("BNEXP_DATA_MIRROR", server.url)
    resident = prepare(DataConfig(name=DataName.svhn, val_fraction=0.0))
    images, labels = images_and_labels(30, 32, 32, 3)
    np.testing.assert_array_equal(resident.train_images, images.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(resident.test_labels, labels)


def test_digits_need_no_file_and_fill_the_range() -> None:
    resident = prepare(DataConfig(name=DataName.digits))
    assert resident.train_images.shape[1:] == (1, 32, 32)
    assert len(resident.train_images) + len(resident.test_images) == 1797
    assert len(resident.test_images) == 359
    assert (resident.train_images.min(), resident.train_images.max()) == (0, 255)
    shares = np.bincount(resident.test_labels) / np.bincount(np.concatenate([resident.train_labels, resident.test_labels]))
    assert np.all(abs(shares - 0.2) < 0.01)


@pytest.mark.parametrize(("size", "margin"), [(28, 0), (30, 1), (32, 2)])
def test_mnist_images_get_a_black_margin(size: int, margin: int) -> None:
    images, _ = images_and_labels(3, 1, 28, 28)
    out = fit(images, size, lambda *_: None)
    np.testing.assert_array_equal(out[:, :, margin : margin + 28, margin : margin + 28], images)
    assert out.sum() == images.sum()


def test_other_images_are_cut_to_the_central_square_and_resized() -> None:
    images = np.zeros((2, 3, 20, 40), np.uint8)
    images[:, 0, :, :10] = 255  # left of the square
    images[:, 1, :, 10:30] = 100
    out = fit(images, 16, lambda *_: None)
    assert out.shape == (2, 3, 16, 16)
    assert not out[:, 0].any()
    assert (out[:, 1] == 100).all()


@pytest.mark.parametrize("content", [b"", b"text", idx(np.zeros((3, 2), np.uint8))[:-1], idx(np.zeros(3, np.uint8)) + b"x"])
def test_a_broken_idx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"not an IDX file|bytes, should be"):
        read_idx(path)


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


def test_all_addresses_are_those_of_torchvision_unless_a_mirror_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from bnexp.data import sources

    asked: list[tuple[str, ...]] = []

    def refuse(file: sources.RawFile, *_: object) -> Path:
        asked.append(file.urls)
        raise DataError("no")

    monkeypatch.setattr(sources, "obtain", refuse)
    for name in sources.TORCHVISION_CLASS:
        with pytest.raises(DataError):
            prepare(DataConfig(name=name))
    monkeypatch.setenv("BNEXP_DATA_MIRROR", "http://mirror/")
    with pytest.raises(DataError):
        prepare(DataConfig(name=DataName.mnist))
    assert len(asked) == 7
    assert asked[0][0] == "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz"
    assert all(url.startswith("http") for urls in asked for url in urls)
    assert asked[-1] == ("http://mirror/mnist/train-images-idx3-ubyte.gz",)
