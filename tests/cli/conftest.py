"""The command line, driven in this process or in one of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Result:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shared_cache: Path) -> Cli:
    """``cli("study", "batchnorm")`` runs the command as its entry point does."""
    from bnexp.cli.app import main

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["bnexp", *arguments])
        with pytest.raises(SystemExit) as exit:
            main()
        captured = capsys.readouterr()
        return Result(int(exit.value.code or 0), captured.out, captured.err)

    return run
