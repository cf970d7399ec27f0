"""Images that a network is asked about: which files are meant, and that they go the way of the training images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from bnexp.config.options import DataName
from bnexp.config.schema import ConfigError, DataConfig
from bnexp.data import pictures
from bnexp.data.decoding import decode
from bnexp.data.images import fit
from bnexp.data.pictures import Picture, as_input, find_pictures, read_picture, read_pictures
from bnexp.data.resident import prepare


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(("kind", "notes"), [("MPO", ()), ("BMP", ()), ("GIF", ("all images but the first",))])
def test_of_an_animation_the_first_image_is_taken_and_a_photograph_with_a_preview_is_none(
    tmp_path: Path, kind: str, notes: tuple[str, ...]
) -> None:
    first, second = (Image.fromarray(pixels) for pixels in noise(2, 20, 20))
    first.save(tmp_path / "image", format=kind, save_all=kind != "BMP", append_images=[second])
    assert decode(tmp_path / "image", 16).notes == notes


@pytest.mark.parametrize(("alpha", "notes"), [(255, ()), (254, ("the transparency",))])
def test_transparency_is_noted_where_there_is_some(tmp_path: Path, alpha: int, notes: tuple[str, ...]) -> None:
    image = Image.new("LA", (9, 9), (7, 255))
    image.putpixel((3, 3), (7, alpha))
    image.save(tmp_path / "a.png")
    found = decode(tmp_path / "a.png", 16)
    assert (found.grey, found.notes) == (True, notes)


def test_images_are_read_in_order_and_those_that_cannot_be_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_PIXELS", 32 * 32)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow warns from there on
    paths = [tmp_path / name for name in ("b.png", "fifo", "large.png", "a.png")]
    for path, shape in zip(paths, ((32, 32), None, (33, 32), (32, 20)), strict=True):
        if shape:
            Image.fromarray(noise(*shape)).save(path)
        else:
            os.mkfifo(path)  # whoever opens it waits for ever
    first, fifo, large, last = read_pictures(paths, DataConfig(name=DataName.npz), 1)
    assert isinstance(first, tuple)
    assert isinstance(last, tuple)
    assert np.array_equal(first[0], noise(32, 32)[None])
    assert np.array_equal(last[0], fit(noise(32, 20)[None, None], 32, lambda *_: None)[0])
    assert str(fifo) == f"{paths[1]} cannot be read as an image (no ordinary file): repair, convert or remove it."
    assert str(large).startswith(f"{paths[2]} cannot be read as an image (32 x 33 pixels, and at most 0 million are decoded)")


@pytest.mark.parametrize(("size", "asked"), [(16, 64), (40, 80)])
def test_a_photograph_is_decoded_as_finely_as_the_data_set_or_the_network_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, asked: int
) -> None:
    Image.fromarray(noise(300, 300, 3)).save(tmp_path / "a.jpg")
    calls = []
    draft = JpegImageFile.draft
    monkeypatch.setattr(JpegImageFile, "draft", lambda self, mode, size: calls.append(size) or draft(self, mode, size))
    assert read_picture(tmp_path / "a.jpg", DataConfig(name=DataName.cifar10, size=size), 3)[0].shape == (3, size, size)
    assert calls == [(asked, asked)]


def test_images_for_arrays_of_ones_own_go_their_way() -> None:
    pixels = noise(28, 28)
    found = as_input(Image.fromarray(pixels), DataConfig(name=DataName.npz), 1)
    assert np.array_equal(found, fit(pixels[None, None], 32, lambda *_: None)[0])


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/no.png does not exist: name an image file, or a folder of images\.$"):
        find_pictures(["~/no.png"])


def test_an_image_of_mnists_size_gets_its_margin() -> None:
    pixels = noise(28, 28)
    found = as_input(Image.fromarray(pixels), DataConfig(name=DataName.mnist), 1)
    assert found.shape == (1, 32, 32)
    assert np.array_equal(found[0, 2:30, 2:30], pixels)
    assert found.sum() == pixels.sum()  # black around
    assert np.array_equal(found, fit(pixels[None, None], 32, lambda *_: None)[0])


def test_a_larger_image_is_brought_to_the_size_of_the_data_set_first() -> None:
    large = Image.fromarray(np.full((300, 280), 200, np.uint8))
    found = as_input(large, DataConfig(name=DataName.mnist), 1)
    assert (found[0, 2:30, 2:30] == 200).all()
    assert found[0, :2].max() == 0
    own = as_input(large, DataConfig(name=DataName.image_folder, root="x"), 1)
    assert own.shape == (1, 32, 32)
    assert (own == 200).all()  # the user's own images have no margin


def test_colour_becomes_grey_and_grey_is_repeated_as_the_run_needs_it() -> None:
    pixels = noise(32, 32, 3)
    colour = Image.fromarray(pixels)
    assert np.array_equal(as_input(colour, DataConfig(name=DataName.cifar10), 3), pixels.transpose(2, 0, 1))
    assert np.array_equal(as_input(colour, DataConfig(name=DataName.mnist), 1)[0], np.asarray(colour.convert("L")))
    grey = as_input(Image.fromarray(pixels[..., 0]), DataConfig(name=DataName.cifar10), 3)
    assert np.array_equal(grey, np.repeat(pixels[None, ..., 0], 3, 0))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_folder_is_read_as_in_training(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(tmp_path / "cache"))
    turned = Image.Exif()
    turned[0x0112] = 6
    for part, name, shape in (
        ("train", "a", (20, 30)),
        ("train", "b", (9, 9)),
        ("test", "a", (40, 25)),
        ("test", "b", (16, 16)),
    ):
        (tmp_path / part / name).mkdir(parents=True)
        image = Image.fromarray(noise(*shape, 3)).convert(mode)
        image.save(tmp_path / part / name / ("x.jpg" if name == "a" else "x.png"), exif=turned)
    config = DataConfig(name=DataName.image_folder, root=str(tmp_path), size=16, val_fraction=0.0)
    resident = prepare(config)
    assert resident.channels == (3 if mode == "RGB" else 1)
    found = find_pictures([tmp_path / "test"])
    for picture, image, label in zip(found, resident.test_images, resident.test_labels, strict=True):
        assert np.array_equal(read_picture(picture.path, config, resident.channels)[0], image)
        assert picture.label(resident.class_names) == label


def test_each_image_counts_once_and_hidden_files_only_if_they_are_named(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", ".hidden.png", "notes.txt", "cat/2.png", "cat/deep/1.png", "odd name.dat"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    named = [tmp_path / "odd name.dat", tmp_path / "b.png", tmp_path, tmp_path / ".hidden.png"]
    found = [(str(picture.path.relative_to(tmp_path)), picture.folder) for picture in find_pictures(named)]
    assert found == [
        ("odd name.dat", None),
        ("b.png", None),
        ("a.JPG", None),
        ("cat/2.png", "cat"),
        ("cat/deep/1.png", "cat"),
        (".hidden.png", None),
    ]
    with pytest.raises(ConfigError, match="no images in "):
        find_pictures([tmp_path / "cat", _empty(tmp_path)])


def _empty(root: Path) -> Path:
    (root / "empty").mkdir()
    return root / "empty"


@pytest.mark.parametrize(
    ("folder", "label"),
    [("dog", 1), ("DOG", 1), ("T-shirt_top", 2), ("t shirt top", 2), ("do", None), ("x-y", None), (None, None)],
)
def test_a_folder_may_be_named_a_little_unlike_its_class(folder: str | None, label: int | None) -> None:
    assert Picture(Path("x.png"), folder).label(["cat", "dog", "T-shirt/top", "x y", "x.y"]) == label
