"""Files that the tools themselves have written, see ``samples/make_samples.py``; each test gets a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """A copy of the samples: ``wandb``, ``mlruns``, ``tensorboard``."""
    return Path(shutil.copytree(Path(__file__).with_name("samples"), tmp_path / "samples"))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store that is imported into."""
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"
