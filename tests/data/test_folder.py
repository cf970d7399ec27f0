"""The user's own image folders: layouts, kinds of images, and what each mistake is told."""

from __future__ import annotations

import os
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from bnexp.config.options import DataName
from bnexp.config.schema import ConfigError, DataConfig
from bnexp.data.download import DataError
from bnexp.data.resident import Resident, prepare


def save(path: Path, mode: str = "RGB", size: tuple[int, int] = (20, 20), value: int = 100, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (value, 10, 20, 128)[: len(Image.new(mode, (1, 1)).getbands())]
    Image.new(mode, size, colour if len(colour) > 1 else value).save(path, **options)


def make_classes(root: Path, per_class: int = 5, mode: str = "RGB") -> None:
    for label, name in enumerate(("cat", "dog")):
        for i in range(per_class):
            save(root / name / f"{i}.png", mode, value=50 * label + i)


def load(root: Path, **keys: object) -> Resident:
    return prepare(DataConfig(name=DataName.image_folder, root=str(root), size=16, val_fraction=0.0, **keys))  # type: ignore[arg-type]


def test_train_and_test_folders(tmp_path: Path) -> None:
    make_classes(tmp_path / "train")
    make_classes(tmp_path / "test", per_class=2)
    (tmp_path / "train/cat/notes.txt").write_text("not an image")
    (tmp_path / "train/.hidden").mkdir()
    calls: list[tuple[str, int, int]] = []
    resident = prepare(
        DataConfig(name=DataName.image_folder, root=str(tmp_path), size=16, val_fraction=0.0), lambda *call: calls.append(call)
    )
    assert resident.class_names == ("cat", "dog")
    assert resident.train_images.shape == (10, 3, 16, 16)
    assert resident.train_images[:, 0, 8, 8].tolist() == [0, 1, 2, 3, 4, 50, 51, 52, 53, 54]
    assert resident.test_labels.tolist() == [0, 0, 1, 1]
    assert ("reading images", 14, 14) in calls


def test_only_images_in_class_folders_count_and_those_in_folders_below_too(tmp_path: Path) -> None:
    make_classes(tmp_path / "train")
    make_classes(tmp_path / "test", per_class=1)
    for name in ("train/.9.png", "train/cat/.9.png", "train/cat/.thumbnails/9.png", "train/.cat/9.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"not an image")
    for name in (
        "9.png",
        "train/9.png",
        "other/9.png",
        "other/train/9.png",
        "train/cat/9.pnx",
        "train/cat/png",
        "train/cat/9.pdf",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"not an image")
    save(tmp_path / "train/dog/more/of/THEM.PNG", value=99)
    resident = load(tmp_path)
    assert resident.class_names == ("cat", "dog")
    assert resident.train_images[:, 0, 8, 8].tolist() == [0, 1, 2, 3, 4, 50, 51, 52, 53, 54, 99]
    assert resident.train_labels.tolist() == [0] * 5 + [1] * 6
    assert resident.test_images[:, 0, 8, 8].tolist() == [0, 50]
    before = {*resident.packed.path.parent.iterdir()}
    assert {*load(tmp_path, test_fraction=0.5).packed.path.parent.iterdir()} == before  # nothing is split off


def test_classes_may_have_folders_below_and_be_called_train(tmp_path: Path) -> None:
    make_classes(tmp_path)
    save(tmp_path / "dog/more/0.png")
    make_classes(tmp_path / "train")
    for name in ("cat", "dog"):
        for path in (tmp_path / "train" / name).iterdir():
            path.rename(tmp_path / "train" / f"{name}-{path.name}")
        (tmp_path / "train" / name).rmdir()
    for name in ("test", "test.png"):
        (tmp_path / name).write_text("not an image")
    resident = load(tmp_path, test_fraction=0.5)
    assert resident.class_names == ("cat", "dog", "train")
    assert len(resident.train_labels) + len(resident.test_labels) == 5 + 6 + 10


def test_a_test_set_may_lack_a_class_that_the_training_set_has(tmp_path: Path) -> None:
    make_classes(tmp_path / "train")
    save(tmp_path / "test/dog/0.png")
    assert load(tmp_path).test_labels.tolist() == [1]


def test_many_images_are_read_in_order_and_with_progress(tmp_path: Path) -> None:
    for label in range(2):
        for i in range(75):
            noise = np.random.default_rng(i).integers(0, 256, (90, 90, 3), np.uint8)  # no small files
            noise[40:50, 40:50] = 100 * label + i
            (tmp_path / str(label)).mkdir(exist_ok=True)
            Image.fromarray(noise).save(tmp_path / str(label) / f"{i:02d}.png")
    calls: list[tuple[str, int, int]] = []
    config = DataConfig(name=DataName.image_folder, root=str(tmp_path), size=90, val_fraction=0.0, test_fraction=0.04)
    resident = prepare(config, lambda *call: calls.append(call))
    assert calls[:3] == [("reading images", n, 150) for n in (64, 128, 150)]
    seen = [*resident.train_images[:, 1, 45, 45], *resident.test_images[:, 1, 45, 45]]
    assert sorted(seen) == sorted([*range(75), *range(100, 175)])
    assert [value >= 100 for value in seen] == [*(resident.train_labels == 1), *(resident.test_labels == 1)]


def test_the_decoder_may_skip_detail_down_to_twice_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_classes(tmp_path)
    save(tmp_path / "cat/0.jpg", size=(200, 200))
    asked = []
    draft = JpegImageFile.draft
    monkeypatch.setattr(JpegImageFile, "draft", lambda self, mode, size: asked.append((mode, size)) or draft(self, mode, size))
    load(tmp_path)
    assert asked == [(None, (32, 32))]


@pytest.mark.parametrize("mode", ["I", "I;16", "F"])
def test_more_than_8_bits_are_refused(tmp_path: Path, mode: str) -> None:
    make_classes(tmp_path)
    save(tmp_path / "dog/deep.tif", mode)
    assert error(tmp_path) == (
        f"{tmp_path / 'dog/deep.tif'} cannot be read as an image (more than 8 bits per channel, mode {mode}): "
        "repair, convert or remove it."
    )


def test_clear_pixels_of_a_palette_keep_their_colour(tmp_path: Path) -> None:
    make_classes(tmp_path / "train")
    make_classes(tmp_path / "test", per_class=1)
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "test/cat/0.png", transparency=bytes([0, 128]))
    assert load(tmp_path).test_images[0, :, 8, 8].tolist() == [10, 20, 30]


def test_class_folders_alone_are_split_by_fraction_and_seed(tmp_path: Path) -> None:
    make_classes(tmp_path, per_class=10)

    def values(resident: Resident) -> tuple[set[int], set[int]]:
        return set(resident.train_images[:, 0, 0, 0].tolist()), set(resident.test_images[:, 0, 0, 0].tolist())

    train, test = values(load(tmp_path, test_fraction=0.3))
    assert train | test == {*range(10), *range(50, 60)}
    assert not train & test
    assert sum(value < 50 for value in test) == 3 == sum(value >= 50 for value in test)
    assert values(load(tmp_path, test_fraction=0.3)) == (train, test)
    assert values(load(tmp_path, test_fraction=0.3, split_seed=1)) != (train, test)


@pytest.mark.parametrize(
    ("odd_mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("RGB", 3), ("P", 3), ("RGBA", 3), ("CMYK", 3)]
)
def test_images_stay_grey_only_if_all_are(tmp_path: Path, odd_mode: str, channels: int) -> None:
    make_classes(tmp_path, mode="L")
    save(tmp_path / ("dog/odd.tif" if odd_mode == "CMYK" else "dog/odd.png"), odd_mode)
    assert load(tmp_path).in_channels == channels


def test_transparent_palette_images_are_read_without_a_warning(tmp_path: Path) -> None:
    make_classes(tmp_path)
    save(tmp_path / "dog/odd.png", "P", transparency=bytes([0, 128]))
    assert load(tmp_path).in_channels == 3


def test_oblong_images_give_their_centre_and_photographs_stand_upright(tmp_path: Path) -> None:
    make_classes(tmp_path / "train")
    make_classes(tmp_path / "test", per_class=1)
    oblong = np.zeros((16, 48, 3), np.uint8)
    oblong[:, :16], oblong[:, 16:32] = 255, 7
    Image.fromarray(oblong).save(tmp_path / "test/cat/0.png")
    lying = np.zeros((64, 64, 3), np.uint8)
    lying[:, :32] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it as it was
    Image.fromarray(lying).save(tmp_path / "test/dog/0.jpg", exif=exif, quality=95)
    (tmp_path / "test/dog/0.png").unlink()
    cat, dog = load(tmp_path).test_images
    assert (cat == 7).all()
    assert dog[:, :7].min() > 240
    assert dog[:, 9:].max() < 15


def test_a_changed_folder_is_read_anew_and_an_unchanged_one_is_not_opened(tmp_path: Path) -> None:
    make_classes(tmp_path)
    first = load(tmp_path)
    changed = tmp_path / "cat/0.png"
    before = changed.stat()
    content = changed.read_bytes()
    changed.write_bytes(bytes(len(content)))  # unreadable, but of the same name, size and time: not looked at
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load(tmp_path).fingerprint == first.fingerprint
    save(changed, value=200)
    assert load(tmp_path).fingerprint != first.fingerprint


def test_the_folder_may_be_named_from_home_and_by_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_classes(tmp_path / "mine")
    (tmp_path / "link").symlink_to("mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert {load(Path("~/mine")).packed.path, load(tmp_path / "link").packed.path} == {load(tmp_path / "mine").packed.path}


def test_equal_folders_have_equal_fingerprints(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_classes(tmp_path / name)
    assert load(tmp_path / "a").fingerprint == load(tmp_path / "b").fingerprint


def error(root: Path, kind: type[Exception] = DataError, **keys: object) -> str:
    with pytest.raises(kind) as raised:
        load(root, **keys)
    return str(raised.value)


def test_mistakes_are_explained(tmp_path: Path) -> None:
    for root in (str(tmp_path / "no"), "", None):
        with pytest.raises(ConfigError) as raised:
            prepare(DataConfig(name=DataName.image_folder, root=root))
        assert str(raised.value) == (
            f"data.root={root} is not a directory: data=image_folder needs the one with one folder per class."
        )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert error(empty) == f"No images below {empty}: data=image_folder needs one folder per class with image files in it."
    save(empty / "cat/0.png")
    assert error(empty) == f"{empty} has 1 class folder: allowed are 2 to 1000, one for each class."
    (empty / "dog").mkdir()
    assert error(empty) == f"No images in {empty / 'dog'}: put some there or remove the folder."
    save(empty / "dog/0.png")
    assert error(empty, ConfigError).startswith("data.test_fraction=0.2 of 2 images leaves no test images: ")

    typo = tmp_path / "typo"
    make_classes(typo / "train")
    assert error(typo) == (
        f"{typo} has train/ but no test/: add test/ with the same class folders, or set data.root={typo / 'train'} to have "
        "data.test_fraction of its images split off."
    )
    save(typo / "test/dgo/0.png")
    assert error(typo) == (
        f"{typo / 'test/dgo'} is a class that {typo / 'train'} does not have: name it as there or remove it. Did you mean dog?"
    )

    broken = tmp_path / "broken"
    make_classes(broken)
    (broken / "cat/9.jpg").write_bytes(b"\xff\xd8\xff and no more")
    assert error(broken).startswith(f"{broken / 'cat/9.jpg'} cannot be read as an image (")
    (broken / "cat/9.jpg").unlink()
    truncated = broken / "dog/9.bmp"
    save(truncated, size=(64, 64))
    truncated.write_bytes(truncated.read_bytes()[:-3000])
    assert error(broken).startswith(f"{truncated} cannot be read as an image (")
    truncated.unlink()
    save(broken / "dog/deep.png", "I;16")
    assert "more than 8 bits per channel, mode I;16): repair, convert or remove it." in error(broken)
    (broken / "dog/deep.png").unlink()
    (broken / "dog/dangling.png").symlink_to(broken / "nowhere.png")
    assert (
        error(broken)
        == f"{broken / 'dog/dangling.png'} cannot be read (No such file or directory): make it readable or remove it."
    )


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A black-and-white PNG file that announces a size, with or without as many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    sizes = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", sizes) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


BROKEN = {
    "empty": (b"", "cannot identify image file"),
    "text": (b"text", "cannot identify image file"),
    "announced too large": (
        png(2**31 - 1, 2**31 - 1),
        "Image size (4611686014132420609 pixels) exceeds limit of 178956970 pixels",
    ),
    "bomb": (png(20_000, 20_000), "Image size (400000000 pixels) exceeds limit of 178956970 pixels"),
    "no pixels": (png(200, 200), "image file is truncated"),
    "a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n", "cannot identify image file"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_is_no_usable_image_is_named(tmp_path: Path, case: str) -> None:
    content, reason = BROKEN[case]
    make_classes(tmp_path)
    (tmp_path / "dog/odd.png").write_bytes(content)
    text = error(tmp_path)
    assert text.startswith(f"{tmp_path / 'dog/odd.png'} cannot be read as an image ({reason}")
    assert text.endswith("): repair, convert or remove it.")


def test_a_very_large_image_is_read_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_classes(tmp_path, mode="1")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # half of that is allowed, as of 90 million
    assert load(tmp_path).in_channels == 1


def test_links_that_lead_around_are_refused_and_others_followed(tmp_path: Path) -> None:
    make_classes(tmp_path / "elsewhere")
    root = tmp_path / "root"
    root.mkdir()
    for name in ("cat", "dog"):
        (root / name).symlink_to(tmp_path / "elsewhere" / name)
    assert len(load(root).train_images) == 8
    for name in ("a", "b"):
        (tmp_path / "elsewhere/dog" / name).symlink_to("..")
    assert error(root).startswith(f"{root / 'dog'}/")
    assert error(root).endswith(" is reached again and again through links: remove the links.")
    assert len(error(root)) < len(str(root)) + 200


def test_ten_links_to_one_folder_are_no_circle(tmp_path: Path) -> None:
    for i in range(2):
        save(tmp_path / f"images/{i}.png")
    root = tmp_path / "root"
    root.mkdir()
    for i in range(10):
        (root / f"{i}").symlink_to(tmp_path / "images")
    assert load(root, test_fraction=0.5).num_classes == 10
    (root / "more").symlink_to(tmp_path / "images")
    folders = [f"{root}/{name}" for name in (*range(10), "more")]
    assert error(root) in [f"{folder} is reached again and again through links: remove the links." for folder in folders]


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    make_classes(tmp_path)
    os.mkfifo(tmp_path / "dog/odd.png")  # whoever opens it waits for ever
    assert error(tmp_path) == f"{tmp_path / 'dog/odd.png'} is neither a file nor a folder: remove it."


def test_names_that_are_not_text_are_shown_as_far_as_they_are(tmp_path: Path) -> None:
    make_classes(tmp_path)
    odd = os.fsencode(tmp_path) + b"/dog/\xff.png"
    os.rename(tmp_path / "dog/0.png", odd)
    assert load(tmp_path).class_names == ("cat", "dog")
    with open(odd, "wb"):
        pass
    assert error(tmp_path).startswith(f"{tmp_path}/dog/\\xff.png cannot be read as an image (")
    os.rename(tmp_path / "dog", os.fsencode(tmp_path) + b"/d\xe9g")
    assert error(tmp_path) == f"The name of the folder {tmp_path}/d\\xe9g is not UTF-8: rename it."


def test_a_thousand_classes_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "images/0.png")
    for i in range(1001):
        folder = tmp_path / "root" / f"{i:04d}"
        folder.mkdir(parents=True)
        os.link(tmp_path / "images/0.png", folder / "0.png")
    root = tmp_path / "root"
    assert error(root) == f"{root} has 1,001 class folders: allowed are 2 to 1000, one for each class."
    (root / "1000/0.png").unlink()
    (root / "1000").rmdir()
    for i in range(1000):
        os.link(tmp_path / "images/0.png", root / f"{i:04d}/1.png")
    assert load(root, test_fraction=0.5).train_labels.tolist() == list(range(1000))


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    make_classes(tmp_path, per_class=60)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        text = error(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert text == (
        f"The cache {os.environ['BNEXP_CACHE_DIR']} cannot be written (File too large): free some space, "
        "or set BNEXP_CACHE_DIR to another folder."
    )
