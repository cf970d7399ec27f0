"""Fixtures for every test: records, caches and W&B files go to the test's own directory."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("bnexp", deadline=None)  # a busy machine is no mistake
settings.load_profile("bnexp")


def pytest_configure() -> None:
    """Collect garbage seldom: among the objects of all imported packages and tests it took a sixth of the time.

    Ctrl-C, which is ignored in what a script starts in the background, counts.
    """
    gc.set_threshold(20_000, 20, 50)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_files() -> Iterator[None]:
    """What W&B, Ray and killed processes leave in the folder for temporary files ends with the session.

    It is no folder of pytest's, in whose long paths no socket can be made. This process removes its own files when it ends.
    """
    tempfile.gettempdir()  # stays where it is
    with (
        tempfile.TemporaryDirectory(prefix="bnexp-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        yield


@pytest.fixture(autouse=True)
def _own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.delenv("BNEXP_CONFIG_PATH", raising=False)
    for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / "wandb"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture(scope="session")
def digits_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One packed-data cache for all tests that train on digits."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def shared_cache(digits_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(digits_cache))
    return digits_cache
