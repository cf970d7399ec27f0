"""Raw files of the published data sets: looked for, verified, downloaded.

A raw file counts only if its MD5 is the published one. A download goes to a temporary file beside its place and is renamed
after it has been verified, so an interrupted download is never trusted. A lock file lets one process of many download.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import bnexp
from bnexp.config.schema import ConfigError, DataConfig
from bnexp.config.typed import MessageError
from bnexp.data.catalogue import RawFile

Progress = Callable[[str, int, int], None]
"""``(what is done, units done, units in all)``; the last is 0 if it is not known."""

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30.0
BACKOFF_SECONDS = (1.0, 4.0)  # pauses between the rounds over all addresses: three rounds

log = logging.getLogger(__name__)


class DataError(MessageError):
    """Data that cannot be had or used. The message names the file or address, what is wrong, and the remedy."""


class WrongData(DataError):
    """The user's own images or labels have a form that bnexp does not take: wrong input, not data out of reach."""


class _FetchError(Exception):
    """Why one address failed.

    Args:
        reason: in words.
        final: whether another attempt would be pointless.
    """

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


def cache_dir() -> Path:
    """Where bnexp keeps what it can make again: ``BNEXP_CACHE_DIR``, else the platform's user cache directory."""
    import platformdirs

    return Path(os.environ.get("BNEXP_CACHE_DIR") or platformdirs.user_cache_dir("bnexp"))


@contextmanager
def cache_errors(directory: Path) -> Iterator[None]:
    """Turn an OSError into a DataError that says how to make the cache writable."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"The cache {directory} cannot be written ({error.strerror or error}): free some space, "
            "or set BNEXP_CACHE_DIR to another folder."
        ) from error


def raw_roots(root: str | None) -> list[Path]:
    """The directories where raw files are looked for, in this order: ``data.root``, ``BNEXP_DATA_DIR``, the user cache."""
    named = [root, os.environ.get("BNEXP_DATA_DIR")]
    return [Path(place).expanduser() for place in named if place] + [cache_dir() / "raw"]


def published_roots(config: DataConfig) -> list[Path]:
    """``raw_roots`` for a published data set. Raises ConfigError if ``data.root`` is not a directory."""
    roots = raw_roots(config.root)
    if config.root and not roots[0].is_dir():
        raise ConfigError(
            f"data.root={config.root} is not a directory: name the one that holds the raw files of {config.name}, or leave "
            "data.root away to look in BNEXP_DATA_DIR and then download."
        )
    return roots


def mirrored(data_set: str, file: RawFile) -> RawFile:
    """The file with the addresses to use.

    They are the published ones, or their file names below ``$BNEXP_DATA_MIRROR/<data set>/`` if that is set.
    """
    mirror = os.environ.get("BNEXP_DATA_MIRROR")
    if not mirror:
        return file
    urls = dict.fromkeys(f"{mirror.rstrip('/')}/{data_set}/{url.rsplit('/', 1)[-1]}" for url in file.urls)
    return replace(file, urls=tuple(urls))


def obtain(file: RawFile, roots: Sequence[Path], progress: Progress) -> Path:
    """Find a raw file, or download it.

    Args:
        file: which file, and where it can be downloaded.
        roots: directories in which it is looked for, in this order. A download goes to the first writable one.
        progress: told of the download.

    Returns:
        The path of the verified file.

    Raises:
        DataError: if no address yields the file, or no directory can be written.
    """
    found = _find(file, roots)
    if found:
        return found
    from filelock import FileLock

    root = _writable_root(roots)
    path = root / file.path
    try:
        with FileLock(root / f".{file.path.replace('/', '-')}.lock"):
            # Another process may have downloaded it while this one waited for the lock.
            return _find(file, [root], quiet=True) or _download(file, path, progress)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}): free some space, or set BNEXP_DATA_DIR to another folder."
        ) from error
    finally:
        _remove_empty(path.parent, root)


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove ``folder`` and its parents below ``root``, as far as they are empty."""
    with suppress(OSError):
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def md5_of(path: Path) -> str:
    """The MD5 of a file, in hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _find(file: RawFile, roots: Sequence[Path], quiet: bool = False) -> Path | None:
    for root in roots:
        path = root / file.path
        if path.is_file():
            actual = md5_of(path)
            if actual == file.md5:
                return path
            if not quiet:
                log.warning("%s is damaged (MD5 %s, should be %s), so it is not used.", path, actual, file.md5)
    return None


def _writable_root(roots: Sequence[Path]) -> Path:
    for root in roots:
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=root):
                return root
        except OSError:
            continue
    raise DataError(
        f"None of {', '.join(map(str, roots))} can be written, so nothing can be downloaded: set BNEXP_DATA_DIR to a writable "
        "folder, or use data=digits, which needs no download."
    )


def _download(file: RawFile, path: Path, progress: Progress) -> Path:
    """Try every address in turn, in rounds with growing pauses. An address that refuses for good is not tried again."""
    reasons: dict[str, _FetchError] = {}
    for pause in (0.0, *BACKOFF_SECONDS):
        waiting = [url for url in file.urls if url not in reasons or not reasons[url].final]
        if waiting:
            time.sleep(pause)
        for url in waiting:
            try:
                _fetch(url, file.md5, path, progress)
                return path
            except _FetchError as error:
                reasons[url] = error
                log.info("%s failed: %s", url, error)
    failed = "; ".join(f"{url} failed ({reason})" for url, reason in reasons.items())
    raise DataError(
        f"Could not download {path.name}: {failed}. Put the file by hand at {path} (MD5 {file.md5}), "
        "or use data=digits, which needs no download."
    )


def _fetch(url: str, md5: str, path: Path, progress: Progress) -> None:
    """Stream one address to a temporary file, verify it, rename it to ``path``."""
    temporary = path.with_name(f".{path.name}.part")
    digest = hashlib.md5(usedforsecurity=False)
    done = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as handle:
            for chunk, total in _stream(url):
                handle.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                progress(f"downloading {path.name}", done, total)
        if done < total:
            raise _FetchError(f"cut off after {done:,} of {total:,} bytes")
        if digest.hexdigest() != md5:
            raise _FetchError(f"wrong checksum: MD5 {digest.hexdigest()}, should be {md5}")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _stream(url: str) -> Iterator[tuple[bytes, int]]:
    """The body in chunks, each with the announced total length (0 if none). Raises _FetchError if the network fails."""
    request = Request(url, headers={"User-Agent": f"bnexp/{bnexp.__version__}"})
    try:
        with urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            total = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(CHUNK_BYTES):
                yield chunk, total
    except HTTPError as error:
        error.close()
        again = error.code >= 500 or error.code in (408, 429)
        raise _FetchError(f"HTTP {error.code} {error.reason}", final=not again) from error
    except (URLError, HTTPException, OSError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise _FetchError(str(reason) or type(reason).__name__) from error
