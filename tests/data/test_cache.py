"""The packed cache: made once, whole or not at all, and never used when damaged."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from made_files import FileServer, load, md5, obtain_and_prepare

from bnexp.config.options import DataName
from bnexp.config.schema import DataConfig
from bnexp.data import cache as cache_module
from bnexp.data import packed
from bnexp.data.cache import cache_key, packed_path
from bnexp.data.catalogue import RawFile
from bnexp.data.download import DataError
from bnexp.data.packed import find_packed
from bnexp.data.resident import prepare

Damage = Callable[[Path], None]


class Exploding:
    """Unpickling it would be a disaster."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


def flipped(name: str, position: int) -> Damage:
    """One bit of one file is another."""

    def damage(path: Path) -> None:
        content = bytearray((path / name).read_bytes())
        content[position] ^= 4
        (path / name).write_bytes(content)

    return damage


def written(name: str, content: str) -> Damage:
    return lambda path: (path / name).write_text(content) and None


def saved_as(name: str, change: Callable[[np.ndarray[Any, Any]], Any]) -> Damage:
    """A file holds another array."""
    return lambda path: np.save(path / name, change(np.load(path / name)), allow_pickle=True)


def truncated(path: Path) -> None:
    images = path / "train_images.npy"
    images.write_bytes(images.read_bytes()[:-1])


def removed(path: Path) -> None:
    (path / "test_labels.npy").unlink()


def a_directory_in_place_of_a_file(path: Path) -> None:
    removed(path)
    (path / "test_labels.npy").mkdir()


def a_file_in_place_of_the_directory(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


def a_link_that_leads_nowhere(path: Path) -> None:
    shutil.rmtree(path)
    path.symlink_to("nowhere")


def other_class_names(path: Path) -> None:
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps(meta | {"class_names": ["0", "1", "2", "4"]}))


DAMAGES = {
    "pixel of train": ("", flipped("train_images.npy", 5000)),
    "last pixel of test": ("", flipped("test_images.npy", -1)),
    "label of train": ("", flipped("train_labels.npy", 128)),
    "label of test": ("", flipped("test_labels.npy", -8)),
    "moment": ("moments.npy", flipped("moments.npy", -8)),
    "magic": ("train_images.npy", flipped("train_images.npy", 0)),
    "version": ("train_images.npy", flipped("train_images.npy", 6)),
    "length of header": ("train_images.npy", flipped("train_images.npy", 9)),
    "header": ("test_labels.npy", flipped("test_labels.npy", 12)),
    "truncated": ("train_images.npy", truncated),
    "removed": ("test_labels.npy", removed),
    "directory": ("test_labels.npy", a_directory_in_place_of_a_file),
    "pickle": ("train_labels.npy", saved_as("train_labels.npy", lambda array: np.array([Exploding()] * len(array)))),
    "bare pickle": (
        "train_labels.npy",
        lambda path: (path / "train_labels.npy").write_bytes(pickle.dumps(Exploding())) and None,
    ),
    "signed pixels": ("test_images.npy", saved_as("test_images.npy", lambda array: array.view(np.int8))),
    "byte order": ("test_labels.npy", saved_as("test_labels.npy", lambda array: array.view(">i8"))),
    "floats": ("moments.npy", saved_as("moments.npy", lambda array: array.astype(float))),
    "shape": ("", saved_as("train_images.npy", lambda array: array.reshape(200, 1, 48, 16))),
    "class names": ("", other_class_names),
    "cut off": ("meta.json", written("meta.json", '{"class_names": ')),
    "null": ("meta.json", written("meta.json", "null")),
    "list": ("meta.json", written("meta.json", "[1]")),
    "empty": ("meta.json", written("meta.json", "{}")),
    "names of null": ("meta.json", written("meta.json", '{"class_names": null, "fingerprint": "0"}')),
    "deep": ("meta.json", written("meta.json", "[" * 100_000)),
    "not text": ("meta.json", lambda path: (path / "meta.json").write_bytes(b"\xff") and None),
    "file": ("meta.json", a_file_in_place_of_the_directory),
    "link": ("meta.json", a_link_that_leads_nowhere),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_named_and_the_data_set_packed_again(npz: Path, case: str, caplog: pytest.LogCaptureFixture) -> None:
    named, damage = DAMAGES[case]
    before = load(npz)
    path, images, mean = before.packed.path, before.train_images.copy(), before.mean
    damage(path)
    after = load(npz)
    assert [record.message for record in caplog.records] == [f"{path / named} is damaged: npz is packed again."]
    np.testing.assert_array_equal(after.train_images, images)
    assert after.mean.tolist() == mean.tolist()
    assert after.fingerprint == before.fingerprint
    assert [entry.name for entry in path.parent.iterdir() if entry.suffix != ".lock"] == [path.name]


def test_whoever_reads_damaged_files_while_they_are_packed_again_keeps_them(npz: Path) -> None:
    reader = load(npz)
    images = reader.train_images
    expected = images.copy()
    flipped("test_labels.npy", -8)(reader.packed.path)
    assert load(npz).train_images.ctypes.data != images.ctypes.data
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).test_labels, load(npz).test_labels)


def test_fingerprints_and_names_are_those_of_earlier_versions(npz: Path) -> None:
    assert load(npz).fingerprint == "910a659a0d144c3d83e0"  # records hold it
    digits = prepare(DataConfig(name=DataName.digits))
    assert digits.fingerprint == "cb3b50d9ff13a2cb03af"
    assert digits.packed.path.name == "digits-32-v1"
    meta = digits.packed.path / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"bytes": {}}))  # an earlier version wrote it
    inode = digits.packed.path.stat().st_ino
    assert prepare(DataConfig(name=DataName.digits)).packed.path.stat().st_ino == inode


def test_a_process_compares_the_content_once_and_again_when_a_file_has_changed(
    npz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    damaged = packed._damaged
    monkeypatch.setattr(packed, "_damaged", lambda *arguments: compared.append(1) or damaged(*arguments))
    load(npz)
    path = load(npz).packed.path
    assert len(compared) == 1
    os.utime(path / "moments.npy", (1, 1))
    load(npz)
    assert len(compared) == 2


def test_comparing_many_bytes_shows_its_progress(npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = DataConfig(name=DataName.npz, root=str(npz), size=16)
    calls: list[tuple[str, int, int]] = []
    prepare(config, lambda *call: calls.append(call))
    assert {what for what, _, _ in calls} == {"packing npz"}
    assert calls[0][1:] == (0, 5)
    assert calls[-1][1:] == (5, 5)
    calls.clear()
    packed._checked.clear()
    monkeypatch.setattr(packed, "SLOW_BYTES", 20 * 3 * 16 * 16)  # as many as the test images have
    monkeypatch.setattr(packed, "CHUNK_IMAGES", 150)
    prepare(config, lambda *call: calls.append(call))
    assert calls == [("checking npz", 0, 200), ("checking npz", 150, 200), ("checking npz", 0, 20)]


def test_damage_that_cannot_be_mended_is_one_sentence(
    mnist_server: FileServer, npz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DataConfig(name=DataName.mnist, val_fraction=0.25)
    path = prepare(config).packed.path
    flipped("test_labels.npy", -8)(path)
    shutil.rmtree(path.parents[1] / "raw")
    mnist_server.files.clear()
    with pytest.raises(DataError) as raised:
        prepare(config)
    assert str(raised.value).startswith(
        f"{path} is damaged and mnist cannot be packed again: Could not download train-images-idx3-ubyte.gz: "
    )
    path = load(npz).packed.path
    truncated(path)
    lock = path.with_name(f".{path.name}.lock")
    lock.unlink(missing_ok=True)
    lock.mkdir()  # as good as a directory that may not be written, for root too
    with pytest.raises(DataError) as raised:
        load(npz)
    assert str(raised.value) == (
        f"{path / 'train_images.npy'} is damaged and npz cannot be packed again: The cache {path.parent} cannot be written "
        "(Is a directory): free some space, or set BNEXP_CACHE_DIR to another folder."
    )


def test_what_changes_the_pixels_changes_the_name(npz: Path, tmp_path: Path) -> None:
    def name(**keys: Any) -> str:
        return cache_key(DataConfig(**({"name": DataName.npz, "root": str(npz), "size": 16} | keys)))

    assert name() == name(val_fraction=0.5, train_size=3, channels=3) != name(size=17)
    assert len({name(), name(test_fraction=0.3), name(split_seed=1)}) == 3
    (tmp_path / "link.npz").symlink_to(npz)
    assert name(root=str(tmp_path / "link.npz")) == name()
    copy = shutil.copy2(npz, tmp_path / "copy.npz")
    where, content = name().rsplit("-", 1)
    other_where, same_content = name(root=copy).rsplit("-", 1)
    assert (where != other_where, content == same_content) == (True, True)
    with npz.open("ab") as file:
        file.write(b"x")
    os.utime(npz, ns=(os.stat(copy).st_mtime_ns,) * 2)
    assert name().rsplit("-", 1)[0] == where
    assert name().rsplit("-", 1)[1] != content


def test_what_a_killed_process_left_is_removed(npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = load(npz).packed.path
    shutil.rmtree(path)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(cache_module, "_write", interrupted)
        killed.setattr(cache_module.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            load(npz)
    (left_over,) = (entry for entry in path.parent.iterdir() if entry.is_dir())
    assert left_over.name.startswith(".")  # no data set for whoever lists them
    assert load(npz).packed.path == path
    assert not left_over.exists()


def test_what_the_disk_changes_while_it_is_packed_is_not_used(npz: Path) -> None:
    config = DataConfig(name=DataName.npz, root=str(npz), size=16)
    path = packed_path(config)

    def progress(what: str, done: int, total: int) -> None:
        if done == total:
            flipped("moments.npy", -8)(next(path.parent.glob(f".{path.name}.*.tmp")) / "new")

    with pytest.raises(DataError, match=f"^{re.escape(str(path))} changed while it was made: check the disk, then try again"):
        prepare(config, progress)
    assert prepare(config).packed.path == path


def test_who_waits_for_another_process_is_told(npz: Path) -> None:
    config = DataConfig(name=DataName.npz, root=str(npz), size=16)
    path = packed_path(config)
    path.parent.mkdir(parents=True)
    other = FileLock(path.with_name(f".{path.name}.lock"))
    other.acquire()
    calls: list[tuple[str, int, int]] = []
    prepare(config, lambda *call: calls.append(call) or other.release())
    assert calls[0] == ("waiting for another process that prepares npz", 0, 0)
    assert {what for what, _, _ in calls[1:]} == {"packing npz"}


def test_a_packed_data_set_is_found_by_its_fingerprint(npz: Path, cache: Path) -> None:
    assert find_packed("910a659a0d144c3d83e0") is None  # no folder yet
    made = load(npz).packed
    for name, content in (
        (".aa.tmp", json.dumps({"class_names": [], "fingerprint": made.fingerprint}).encode()),
        ("a", b"\xff"),
    ):
        folder = made.path.with_name(name)
        folder.mkdir()
        (folder / "meta.json").write_bytes(content)
    assert find_packed(made.fingerprint) == made
    assert find_packed("") is None
    assert find_packed(made.fingerprint[:-1]) is None  # which the file contains
    assert find_packed("0" * 20) is None
    truncated(made.path)
    assert find_packed(made.fingerprint) is None


def test_what_was_packed_of_files_that_have_changed_is_removed(npz: Path) -> None:
    outdated, other_split = load(npz).packed.path, load(npz, test_fraction=0.5).packed.path
    os.utime(npz, (1, 1))
    current = load(npz).packed.path
    assert current.is_dir()
    assert current != outdated
    assert not outdated.exists()
    assert other_split.is_dir()  # it goes when it is made anew


def test_what_another_version_packed_of_a_published_data_set_stays(cache: Path) -> None:
    other = cache / "packed" / "digits-32-v0"
    other.mkdir(parents=True)
    prepare(DataConfig(name=DataName.digits))
    assert other.is_dir()


def test_a_cache_that_cannot_be_written_is_explained(npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(tmp_path / "file/cache"))
    with pytest.raises(
        DataError, match=r"The cache .*file/cache/packed cannot be written \(Not a directory\): .*BNEXP_CACHE_DIR"
    ):
        load(npz)


def test_two_processes_download_and_make_a_data_set_once(npz: Path, server: FileServer, tmp_path: Path) -> None:
    content = b"x" * 1000
    server.files["/file.bin"] = content
    server.answers["/file.bin"] = lambda number, body: time.sleep(0.2) or (200, body)  # so that both would be at it
    file = RawFile("file.bin", md5(content), (server.url + "/file.bin",))
    config = DataConfig(name=DataName.npz, root=str(npz), size=64)  # resized, which takes a moment
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    arguments = (file, tmp_path / "data", config, barrier, results)
    processes = [context.Process(target=obtain_and_prepare, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    (first, first_packed), (second, second_packed) = results.get(timeout=90), results.get(timeout=90)
    for process in processes:
        process.join()
    assert first == second
    assert sorted([first_packed, second_packed]) == [False, True]
    assert server.requests["/file.bin"] == 1
