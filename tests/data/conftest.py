"""Fixtures of the data tests: a private cache, a loopback file server, and small data sets in the published formats."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from made_files import FileServer, idx, images_and_labels, md5

from bnexp.config.options import DataName
from bnexp.data import download
from bnexp.data.catalogue import CATALOGUE

REAL_DATA_DIR = os.environ.get("BNEXP_DATA_DIR")  # before any test hides it
REAL_PAUSES = download.BACKOFF_SECONDS


@pytest.fixture
def real_pauses(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses as long as for a user."""
    monkeypatch.setattr(download, "BACKOFF_SECONDS", REAL_PAUSES)


@pytest.fixture
def real_data_dir(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory with the real data sets, in force; skips where there is none."""
    if not REAL_DATA_DIR or not (Path(REAL_DATA_DIR) / "MNIST/raw").is_dir():
        pytest.skip("BNEXP_DATA_DIR does not hold MNIST/raw")
    monkeypatch.setenv("BNEXP_DATA_DIR", REAL_DATA_DIR)
    return Path(REAL_DATA_DIR)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of the test's own, no data directory, and downloads that are retried at once."""
    directory = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(directory))
    monkeypatch.delenv("BNEXP_DATA_DIR", raising=False)
    monkeypatch.delenv("BNEXP_DATA_MIRROR", raising=False)
    monkeypatch.setattr(download, "BACKOFF_SECONDS", (0.0, 0.0))
    return directory


@pytest.fixture
def server() -> Iterator[FileServer]:
    state = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.agents.add(self.headers["User-Agent"])
            content = state.files.get(self.path)
            state.requests[self.path] += 1
            status, body = (404, b"") if content is None else (200, content)
            if self.path in state.answers:
                status, body = state.answers[self.path](state.requests[self.path], content or b"")
            self.send_response(status)
            # The whole length, also where the body is cut off: that is how a broken connection looks.
            if state.says_length:
                self.send_header("Content-Length", str(len(content if status == 200 and content else body)))
            with suppress(ConnectionError):  # the client has gone
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """MNIST with 40 training and 20 test images: file name -> compressed content, as the catalogue then has it."""
    train, test = images_and_labels(40, 28, 28), images_and_labels(20, 28, 28, seed=1)
    known, files, content = CATALOGUE[DataName.mnist], [], {}
    for file, array in zip(known.files, [*train, *test], strict=True):
        name = Path(file.path).name
        content[name] = gzip.compress(idx(array), mtime=0)
        files.append(replace(file, md5=md5(content[name]), unpacked_md5=md5(idx(array))))
    monkeypatch.setitem(CATALOGUE, DataName.mnist, replace(known, files=tuple(files)))
    return content


@pytest.fixture
def mnist_server(server: FileServer, small_mnist: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """The small MNIST on the loopback, as the only address."""
    server.files = {f"/mnist/{name}": content for name, content in small_mnist.items()}
    monkeypatch.setenv("BNEXP_DATA_MIRROR", server.url)
    return server


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    """200 training and 20 test colour images of 4 classes in unequal numbers (80, 60, 40, 20)."""
    images, _ = images_and_labels(200, 16, 16, 3)
    labels = np.repeat(np.arange(4), [80, 60, 40, 20])[np.random.default_rng(1).permutation(200)]
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
    return tmp_path / "data.npz"
