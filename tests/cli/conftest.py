"""The command line, driven in this process or in one of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
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


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let commands that go through all studies know of these alone."""
    from bnexp.plan import session

    known = session.groups() | {"study": list(names)}
    monkeypatch.setattr(session, "groups", lambda: known)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shared_cache: Path) -> Iterator[Cli]:
    """``cli("study", "batchnorm")`` runs the command as its entry point does, but for the handling of Ctrl-C."""
    from bnexp.cli.commands import run

    def typed(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["bnexp", *arguments])
        code = run()
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    yield typed
    if "joblib.externals.loky" in sys.modules:  # its idle processes would train for the next test, in this one's directories
        sys.modules["joblib.externals.loky"].get_reusable_executor().shutdown()
