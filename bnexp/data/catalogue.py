"""Every fact about every data set, once.

A new data set needs a member of ``DataName``, an entry here, and a file ``configs/data/NAME.yaml``; if its files have a format
of their own, also a reader in ``sources.py``. The margin is the one fact that a user may set: it stands in the YAML file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bnexp.config.options import DataName


class Format(StrEnum):
    """How raw files are read; ``sources.READERS`` has the reader of each."""

    digits = "digits"
    idx = "idx"
    cifar = "cifar"
    svhn = "svhn"
    image_folder = "image_folder"
    npz = "npz"
    python = "python"


@dataclass(frozen=True)
class RawFile:
    """A published file.

    Args:
        path: where it lies below a data directory, with ``/``.
        md5: its published checksum.
        urls: where it can be downloaded, in the order in which they are tried.
        unpacked_md5: checksum of its unpacked content; empty if nobody has published one.
    """

    path: str
    md5: str
    urls: tuple[str, ...]
    unpacked_md5: str = ""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What is known of a data set without its files. Of the user's own files that is their format alone: the rest is 0.

    Args:
        title: what the images show.
        format: how its raw files are read.
        source: who published it, and where.
        num_train: training images, those for validation included.
        num_test: test images.
        num_classes: classes.
        size: side of an image in its files, pixels.
        channels: 1 for grey images, 3 for colour.
        class_names: names of the classes in the order of the labels; empty if the files bring the names.
        files: raw files in the order in which the reader takes them; none if they need no download.
        torchvision: class of ``torchvision.datasets`` that reads the files; empty if bnexp reads them itself.
    """

    title: str
    format: Format
    source: str = ""
    num_train: int = 0
    num_test: int = 0
    num_classes: int = 0
    size: int = 0
    channels: int = 0
    class_names: tuple[str, ...] = ()
    files: tuple[RawFile, ...] = ()
    torchvision: str = ""


IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
NUMERALS = tuple(map(str, range(10)))


def _idx(
    folder: str, mirrors: tuple[str, ...], md5: tuple[str, ...], unpacked: tuple[str, ...] = ("",) * 4
) -> tuple[RawFile, ...]:
    """The four files of a data set in the format of MNIST, which lie in ``folder/raw``."""
    return tuple(
        RawFile(f"{folder}/raw/{name}.gz", packed, tuple(f"{mirror}{name}.gz" for mirror in mirrors), plain)
        for name, packed, plain in zip(IDX_FILES, md5, unpacked, strict=True)
    )


CATALOGUE = {
    DataName.digits: DataSet(
        title="handwritten digits; part of bnexp",
        format=Format.digits,
        source="E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, https://doi.org/10.24432/C50P49",
        num_train=1_438,
        num_test=359,
        num_classes=10,
        size=8,
        channels=1,
        class_names=NUMERALS,
    ),
    DataName.mnist: DataSet(
        title="handwritten digits",
        format=Format.idx,
        source="Y. LeCun, C. Cortes, C. Burges (1998), The MNIST database, http://yann.lecun.com/exdb/mnist/",
        num_train=60_000,
        num_test=10_000,
        num_classes=10,
        size=28,
        channels=1,
        class_names=NUMERALS,
        files=_idx(
            "MNIST",
            ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
            md5=(
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "d53e105ee54ea40749a09fcbcd1e9432",
                "9fb629c4189551a2d022fa330f9573f3",
                "ec29112dd5afa0611ce80d1b7f02629c",
            ),
            unpacked=(
                "6bbc9ace898e44ae57da46a324031adb",
                "a25bea736e30d166cdddb491f175f624",
                "2646ac647ad5339dbf082846283269ea",
                "27ae3e4e09519cfbb04c329615203637",
            ),
        ),
    ),
    DataName.fashion_mnist: DataSet(
        title="clothing",
        format=Format.idx,
        source="H. Xiao, K. Rasul, R. Vollgraf (2017), Fashion-MNIST, arXiv:1708.07747",
        num_train=60_000,
        num_test=10_000,
        num_classes=10,
        size=28,
        channels=1,
        class_names=FASHION,
        files=_idx(
            "FashionMNIST",
            ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
            md5=(
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "25c81989df183df01b3e8a0aad5dffbe",
                "bef4ecab320f06d8554ea6380940ec79",
                "bb300cfdad3c16e7a12a480ee83cd310",
            ),
        ),
    ),
    DataName.kmnist: DataSet(
        title="Japanese characters",
        format=Format.idx,
        source="T. Clanuwat et al. (2018), Deep Learning for Classical Japanese Literature, arXiv:1812.01718",
        num_train=60_000,
        num_test=10_000,
        num_classes=10,
        size=28,
        channels=1,
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        files=_idx(
            "KMNIST",
            ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
            md5=(
                "bdb82020997e1d708af4cf47b453dcf7",
                "e144d726b3acfaa3e44228e80efcd344",
                "5c965bf0a639b31b8f53240b1b52f4d7",
                "7320c461ea6c1c855c0b718fb2a4b134",
            ),
        ),
    ),
    DataName.cifar10: DataSet(
        title="10 kinds of objects",
        format=Format.cifar,
        source="A. Krizhevsky (2009), Learning Multiple Layers of Features, https://www.cs.toronto.edu/~kriz/cifar.html",
        num_train=50_000,
        num_test=10_000,
        num_classes=10,
        size=32,
        channels=3,
        files=(
            RawFile(
                "cifar-10-python.tar.gz",
                "c58f30108f718f92721af3b95e74349a",
                ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
            ),
        ),
        torchvision="CIFAR10",
    ),
    DataName.cifar100: DataSet(
        title="100 kinds of objects",
        format=Format.cifar,
        source="A. Krizhevsky (2009), Learning Multiple Layers of Features, https://www.cs.toronto.edu/~kriz/cifar.html",
        num_train=50_000,
        num_test=10_000,
        num_classes=100,
        size=32,
        channels=3,
        files=(
            RawFile(
                "cifar-100-python.tar.gz",
                "eb9058c3a382ffc7106e4002c42a8d85",
                ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
            ),
        ),
        torchvision="CIFAR100",
    ),
    DataName.svhn: DataSet(
        title="house numbers",
        format=Format.svhn,
        source="Y. Netzer et al. (2011), Reading Digits in Natural Images, http://ufldl.stanford.edu/housenumbers/",
        num_train=73_257,
        num_test=26_032,
        num_classes=10,
        size=32,
        channels=3,
        class_names=NUMERALS,
        files=(
            RawFile(
                "train_32x32.mat",
                "e26dedcc434d2e4c54c9b2d4a06d8373",
                ("http://ufldl.stanford.edu/housenumbers/train_32x32.mat",),
            ),
            RawFile(
                "test_32x32.mat",
                "eb5a983be6a315427106f1b164d9cef3",
                ("http://ufldl.stanford.edu/housenumbers/test_32x32.mat",),
            ),
        ),
    ),
    DataName.image_folder: DataSet(
        title="your images: data.root=FOLDER with train/ and test/, or one folder per class", format=Format.image_folder
    ),
    DataName.npz: DataSet(title="your arrays: data.root=FILE.npz with x_train y_train x_test y_test", format=Format.npz),
    DataName.python: DataSet(title="what your function returns: data.factory=FILE.py:FUNCTION", format=Format.python),
}
