"""Downloads over the loopback: what is broken is never kept, what can be repeated is, and the error helps."""

from __future__ import annotations

import gzip
import os
import sys
import time
from pathlib import Path

import pytest
from made_files import FileServer, md5

import bnexp
from bnexp.config.options import DataName
from bnexp.config.schema import ConfigError, DataConfig
from bnexp.data import download
from bnexp.data.catalogue import RawFile
from bnexp.data.download import DataError, cache_dir, mirrored, obtain, raw_roots
from bnexp.data.resident import prepare

CONTENT = bytes(range(256)) * 64
IMAGES = "/mnist/train-images-idx3-ubyte.gz"
MNIST = DataConfig(name=DataName.mnist, val_fraction=0.25)


def silent(what: str, done: int, total: int) -> None:
    pass


def raw_file(*urls: str) -> RawFile:
    return RawFile("Some/raw/file.bin", md5(CONTENT), urls)


def visible(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file() and not path.name.endswith(".lock"))


def test_download_reports_progress_and_is_found_the_next_time(server: FileServer, tmp_path: Path) -> None:
    server.files["/file.bin"] = CONTENT
    seen: list[tuple[str, int, int]] = []
    for _ in range(2):
        path = obtain(raw_file(server.url + "/file.bin"), [tmp_path], lambda *call: seen.append(call))
    assert path == tmp_path / "Some/raw/file.bin"
    assert path.read_bytes() == CONTENT
    assert seen[-1] == ("downloading file.bin", len(CONTENT), len(CONTENT))
    assert server.requests["/file.bin"] == 1


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, CONTENT[:5000], f"cut off after 5,000 of {len(CONTENT):,} bytes"),
        (200, CONTENT[:-1] + b"x", f"wrong checksum: MD5 {md5(CONTENT[:-1] + b'x')}, should be {md5(CONTENT)}"),
        (503, b"busy", "HTTP 503 Service Unavailable"),
    ],
)
def test_a_broken_answer_is_retried_and_if_it_stays_broken_nothing_is_left(
    server: FileServer, tmp_path: Path, status: int, body: bytes, reason: str
) -> None:
    url = server.url + "/file.bin"
    server.files["/file.bin"] = CONTENT
    server.answers["/file.bin"] = lambda number, content: (status, body)
    with pytest.raises(DataError) as raised:
        obtain(raw_file(url), [tmp_path], silent)
    assert str(raised.value) == (
        f"Could not download file.bin: {url} failed ({reason}). Put the file by hand at {tmp_path / 'Some/raw/file.bin'} "
        f"(MD5 {md5(CONTENT)}), or use data=digits, which needs no download."
    )
    assert server.requests["/file.bin"] == 3
    assert visible(tmp_path) == []
    assert not (tmp_path / "Some").exists()

    server.answers["/file.bin"] = lambda number, content: (status, body) if number == 4 else (200, content)
    assert obtain(raw_file(url), [tmp_path], silent).read_bytes() == CONTENT
    assert server.requests["/file.bin"] == 5


@pytest.mark.usefixtures("real_pauses")
@pytest.mark.parametrize(("status", "attempts"), [(403, 1), (404, 1), (408, 3), (429, 3), (499, 1), (500, 3), (502, 3)])
def test_what_may_pass_is_asked_again_after_growing_pauses(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, attempts: int
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    server.answers["/file.bin"] = lambda number, content: (status, b"")
    with pytest.raises(DataError, match=rf"failed \(HTTP {status} "):
        obtain(raw_file(server.url + "/file.bin"), [tmp_path], silent)
    assert server.requests["/file.bin"] == attempts
    assert pauses == [0.0, 1.0, 4.0][:attempts]


def test_every_address_is_named_with_its_own_reason_and_asked_in_rounds(server: FileServer, tmp_path: Path) -> None:
    server.answers["/b"] = lambda number, content: (503, b"")
    a, b = server.url + "/a", server.url + "/b"
    with pytest.raises(DataError) as raised:
        obtain(raw_file(a, b), [tmp_path], silent)
    assert f"file.bin: {a} failed (HTTP 404 Not Found); {b} failed (HTTP 503 Service Unavailable). Put" in str(raised.value)
    assert dict(server.requests) == {"/a": 1, "/b": 3}
    assert server.agents == {f"bnexp/{bnexp.__version__}"}


def test_a_server_that_does_not_answer_is_given_up(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(download, "BACKOFF_SECONDS", ())
    server.answers["/file.bin"] = lambda number, content: time.sleep(0.3) or (200, CONTENT)
    with pytest.raises(DataError, match=r"failed \(timed out\)"):
        obtain(raw_file(server.url + "/file.bin"), [tmp_path], silent)


def test_large_files_come_in_parts_and_those_of_unknown_length_too(server: FileServer, tmp_path: Path) -> None:
    content = bytes((1 << 20) + 5)
    server.files["/file.bin"] = content
    file = RawFile("file.bin", md5(content), (server.url + "/file.bin",))
    seen: list[tuple[str, int, int]] = []
    for says_length, total in ((True, len(content)), (False, 0)):
        server.says_length = says_length
        path = obtain(file, [tmp_path / str(total)], lambda *call: seen.append(call))
        assert seen == [("downloading file.bin", done, total) for done in (1 << 20, len(content))]
        assert path.read_bytes() == content
        seen.clear()


def test_raw_files_are_looked_for_in_this_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cached = Path(os.environ["BNEXP_CACHE_DIR"]) / "raw"
    monkeypatch.setenv("HOME", "/home/of/someone")
    assert raw_roots(None) == [cached]
    monkeypatch.setenv("BNEXP_DATA_DIR", "~/data")
    assert raw_roots("~/mine") == [Path("/home/of/someone/mine"), Path("/home/of/someone/data"), cached]
    monkeypatch.setenv("BNEXP_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert cache_dir() == tmp_path / "bnexp"


def test_a_mirror_has_a_folder_for_each_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    file = raw_file("http://a/b/c.gz", "http://d/c.gz", "http://d/e.gz")
    assert mirrored("mnist", file) == file
    monkeypatch.setenv("BNEXP_DATA_MIRROR", "file:///mirror/")
    assert mirrored("mnist", file) == raw_file("file:///mirror/mnist/c.gz", "file:///mirror/mnist/e.gz")


def test_a_whole_file_in_a_later_place_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wrong = CONTENT[1:]
    for name, content in (("damaged", wrong), ("whole", CONTENT)):
        path = tmp_path / name / "Some/raw/file.bin"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    found = obtain(raw_file(), [tmp_path / "none", tmp_path / "damaged", tmp_path / "whole"], silent)
    assert found == tmp_path / "whole/Some/raw/file.bin"
    damaged = tmp_path / "damaged/Some/raw/file.bin"
    reason = f"MD5 {md5(wrong)}, should be {md5(CONTENT)}"
    assert [record.message for record in caplog.records] == [f"{damaged} is damaged ({reason}), so it is not used."]


def test_a_place_that_fills_up_is_named(server: FileServer, tmp_path: Path) -> None:
    server.files["/file.bin"] = CONTENT
    (tmp_path / "Some").write_text("a file, so nothing can be made below it")
    with pytest.raises(DataError) as raised:
        obtain(raw_file(server.url + "/file.bin"), [tmp_path], silent)
    assert str(raised.value) == (
        f"{tmp_path / 'Some/raw/file.bin'} cannot be written (Not a directory): free some space, or set BNEXP_DATA_DIR to "
        "another folder."
    )


def test_a_missing_file_is_asked_for_once_and_the_next_mirror_is_taken(server: FileServer, tmp_path: Path) -> None:
    server.files["/good/file.bin"] = CONTENT
    urls = [server.url + "/bad/file.bin", server.url + "/good/file.bin"]
    assert obtain(raw_file(*urls), [tmp_path], silent).read_bytes() == CONTENT
    with pytest.raises(DataError, match=r"bad/file\.bin failed \(HTTP 404 Not Found\)"):
        obtain(raw_file(urls[0]), [tmp_path / "other"], silent)
    assert server.requests["/bad/file.bin"] == 2


def test_an_unreachable_server_is_named(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/file.bin"
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/file\.bin failed \(.*refused.*data=digits"):
        obtain(raw_file(url), [tmp_path], silent)


def test_a_wrong_address_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:x/a failed \(nonnumeric port: 'x'\)\. Put the file"):
        obtain(raw_file("http://127.0.0.1:x/a"), [tmp_path], silent)


def test_a_killed_download_is_not_trusted(server: FileServer, tmp_path: Path) -> None:
    server.files["/file.bin"] = CONTENT
    folder = tmp_path / "Some/raw"
    folder.mkdir(parents=True)
    (folder / ".file.bin.part").write_bytes(CONTENT[:100])
    assert obtain(raw_file(server.url + "/file.bin"), [tmp_path], silent).read_bytes() == CONTENT
    assert visible(tmp_path) == ["file.bin"]


def test_a_damaged_file_is_named_and_fetched_anew(server: FileServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server.files["/file.bin"] = CONTENT
    path = tmp_path / "Some/raw/file.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-3])
    assert obtain(raw_file(server.url + "/file.bin"), [tmp_path], silent).read_bytes() == CONTENT
    assert caplog.text.count(f"{path} is damaged") == 1


def test_downloads_go_to_the_first_writable_place(server: FileServer, tmp_path: Path) -> None:
    server.files["/file.bin"] = CONTENT
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, so nothing can be made below it")
    path = obtain(raw_file(server.url + "/file.bin"), [blocked / "data", tmp_path / "second"], silent)
    assert path == tmp_path / "second/Some/raw/file.bin"
    with pytest.raises(DataError) as raised:
        obtain(raw_file(server.url + "/file.bin"), [blocked / "data", blocked / "more"], silent)
    assert str(raised.value) == (
        f"None of {blocked / 'data'}, {blocked / 'more'} can be written, so nothing can be downloaded: set BNEXP_DATA_DIR to a "
        "writable folder, or use data=digits, which needs no download."
    )


def test_mnist_is_downloaded_once_and_packed(mnist_server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNEXP_DATA_DIR", str(tmp_path / "data"))
    resident = prepare(MNIST)
    assert resident.train_images.shape == (40, 1, 32, 32)
    assert resident.test_images.shape == (20, 1, 32, 32)
    assert resident.class_names == tuple("0123456789")
    assert not resident.train_images[:, :, :2].any()
    assert not resident.train_images[:, :, :, -2:].any()
    assert visible(tmp_path / "data") == sorted(path.rsplit("/", 1)[-1] for path in mnist_server.files)
    prepare(MNIST)
    prepare(DataConfig(name=DataName.mnist, val_fraction=0.25, size=28))
    assert set(mnist_server.requests.values()) == {1}


def test_a_failed_data_set_leaves_no_cache_and_works_the_next_time(mnist_server: FileServer, cache: Path) -> None:
    mnist_server.answers[IMAGES] = lambda number, content: (200, content[: len(content) // 2])
    with pytest.raises(DataError, match="cut off after"):
        prepare(MNIST)
    assert visible(cache) == []
    del mnist_server.answers[IMAGES]
    assert prepare(MNIST).num_classes == 10


def test_unpacked_files_suffice_unless_damaged(
    mnist_server: FileServer, small_mnist: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw = tmp_path / "given/MNIST/raw"
    raw.mkdir(parents=True)
    for name, content in small_mnist.items():
        (raw / name.removesuffix(".gz")).write_bytes(gzip.decompress(content))
    config = DataConfig(name=DataName.mnist, val_fraction=0.25, root=str(tmp_path / "given"))
    first = prepare(config)
    assert not mnist_server.requests

    labels = raw / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x03")
    config.size = 28
    assert prepare(config).train_labels.tolist() == first.train_labels.tolist()
    assert f"{labels} is damaged (wrong checksum)" in caplog.text
    assert dict(mnist_server.requests) == {"/mnist/train-labels-idx1-ubyte.gz": 1}


def test_a_root_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"data\.root=/no/such is not a directory: .* or leave data\.root away"):
        prepare(DataConfig(name=DataName.mnist, root="/no/such"))
