"""Tests of tracking never touch the user's W&B: every place and every variable that wandb looks at points into tmp_path."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracking.standin import Standin, wandb_standin


@pytest.fixture
def wandb_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder ``wandb`` that runs are written to; afterwards W&B's service process has ended.

    W&B reads its settings once per process, so what an earlier test left of it ends first.
    """
    _end_wandb()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("CACHE_DIR", "CONFIG_DIR", "DATA_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield tmp_path / "wandb"
    _end_wandb()
    assert core_processes() == []


@pytest.fixture
def wandb_server(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standin]:
    """A strict stand-in of W&B that this process has a key for. It fails the test that sends what no client should send."""
    with wandb_standin() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", server.key)
        for client in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER"):  # seconds between trials, whole ones; else 2 to 60
            monkeypatch.setenv(f"WANDB__{client}_RETRY_WAIT_MIN_SECONDS", "1")
            monkeypatch.setenv(f"WANDB__{client}_RETRY_WAIT_MAX_SECONDS", "1")
        monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked for a key"))
        yield server
        _end_wandb()


def _end_wandb() -> None:
    if "wandb" in sys.modules:
        import wandb

        wandb.teardown()
        with (
            warnings.catch_warnings()
        ):  # wandb leaves the temporary folder of an artifact that it could not log to the collector
            warnings.filterwarnings("ignore", "Implicitly cleaning up <TemporaryDirectory", ResourceWarning)
            gc.collect()


def core_processes() -> list[int]:
    """Ids of living wandb-core processes that this process started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            state, parent = rest.split()[:2]
        except OSError:
            continue  # ended while we looked
        if int(parent) == os.getpid() and "wandb-core" in name and state != "Z":
            found.append(int(stat.parent.name))
    return found
