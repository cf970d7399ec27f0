"""What W&B's agent shows of itself when ``bnexp sweep agent`` runs it."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from bnexp.run.sweep import agent


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What W&B's agent is asked for, and everything that ``main`` changes put back."""
    import wandb

    calls: list[Any] = []
    log = logging.getLogger("wandb.wandb_agent")
    before, hook = list(log.filters), threading.excepthook
    monkeypatch.setattr(wandb, "agent", lambda *args, **more: calls.append((args, more)))
    handler = signal.getsignal(signal.SIGINT)
    yield calls
    signal.signal(signal.SIGINT, handler)
    log.filters[:], threading.excepthook = before, hook


def test_it_shows_each_point_as_overrides_and_of_the_rest_only_warnings(
    asked: list[Any], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    agent.main("somebody/bnexp/abc")
    log = logging.getLogger("wandb.wandb_agent")
    with caplog.at_level(logging.INFO, logger=log.name):
        log.info("Agent starting run with config:\n\tdata.name: a: b\n\tnorm: batch\n\toptim.lr: 0.1")
        log.info("Running runs: []")
        log.warning("the run has failed")
    assert capsys.readouterr().err == "next point: data.name=a: b norm=batch optim.lr=0.1\n"
    assert caplog.messages == ["the run has failed"]


def test_it_takes_as_many_points_as_it_is_told(asked: list[Any]) -> None:
    agent.main("somebody/bnexp/abc")
    agent.main("abc", "4")
    assert asked == [(("somebody/bnexp/abc",), {"forward_signals": True}), (("abc",), {"forward_signals": True, "count": 4})]


def test_it_ends_when_the_command_that_started_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = iter([7, 7, 1])
    ended: list[tuple[int, int]] = []
    monkeypatch.setattr(agent, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "kill", lambda pid, number: ended.append((pid, number)))
    agent._end_with(7)
    assert ended == [(os.getpid(), signal.SIGINT)]


def test_ctrl_c_ends_it_without_a_traceback_also_if_a_script_started_it_in_the_background(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    monkeypatch.setattr(wandb, "agent", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit, match="130"):
        agent.main("somebody/bnexp/abc")


def test_a_sweep_that_the_server_does_not_know_is_one_sentence(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    def unknown(*_: Any, **__: Any) -> None:
        raise ValueError("Sweep abc\nnot found")

    monkeypatch.setattr(wandb, "agent", unknown)
    with pytest.raises(SystemExit, match=r"^Error: W&B's agent cannot work on somebody/bnexp/abc: Sweep abc not found\.$"):
        agent.main("somebody/bnexp/abc")


@pytest.mark.parametrize(("name", "shown"), [("AlreadyJoinedError", False), ("ValueError", True)])
def test_errors_of_threads_are_shown_but_for_wandbs_farewell(
    name: str, shown: bool, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(threading, "__excepthook__", seen.append)
    agent.main("abc")
    event: Any = SimpleNamespace(exc_type=type(name, (Exception,), {}))
    threading.excepthook(event)
    assert seen == [event] * shown
