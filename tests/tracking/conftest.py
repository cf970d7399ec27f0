"""Tests of tracking never touch the user's W&B: every place and every variable that wandb looks at points into tmp_path."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest


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
    assert _wandb_processes() == []


def _end_wandb() -> None:
    if "wandb" in sys.modules:
        import wandb

        wandb.teardown()
        with (
            warnings.catch_warnings()
        ):  # wandb leaves the temporary folder of an artifact that it could not log to the collector
            warnings.filterwarnings("ignore", "Implicitly cleaning up <TemporaryDirectory", ResourceWarning)
            gc.collect()


def _wandb_processes() -> list[str]:
    """Command lines of living wandb-core processes that this process started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            state, parent = rest.split()[:2]
        except OSError:
            continue  # ended while we looked
        if int(parent) == os.getpid() and "wandb-core" in name and state != "Z":
            found.append(name)
    return found
