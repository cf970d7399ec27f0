"""What W&B holds, and what the user reads, when the server or wandb's own process fails in the middle of something."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb

from bnexp.config.options import WandbMode
from bnexp.config.schema import ConfigError, WandbConfig
from bnexp.tracking.wandb import service
from bnexp.tracking.wandb.access import requested_mode
from bnexp.tracking.wandb.server import meaning
from bnexp.tracking.wandb.session import WandbSession
from tests.tracking.conftest import core_processes
from tests.tracking.standin import Standin
from tests.tracking.wandb_file import read, read_all

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning"),  # of wandb's artifacts
]


def opened(session: WandbSession, run_id: str = "one") -> wandb.Run:
    return session.open({"id": run_id, "name": run_id, "config": {"optim": {"lr": 0.1}}}, alone=False)


def log_rows(run: wandb.Run, first: int, last: int) -> None:
    for step in range(first, last):
        run.log({"loss": 1 / (1 + step)}, step=step)


def log_table(run: wandb.Run, step: int) -> None:
    image = wandb.Image(np.full((4, 4, 3), step, dtype=np.uint8))
    run.log({"predictions": wandb.Table(columns=["image"], data=[[image]])}, step=step)


def test_a_run_that_was_deleted_comes_back_under_another_id_at_once(wandb_server: Standin) -> None:
    wandb_server.deleted.add("one")
    session = WandbSession(WandbConfig())
    run = opened(session)
    log_rows(run, 0, 3)
    session.finish(run, 0)
    session.report()
    (name,) = wandb_server.runs
    assert name.startswith("one-")
    assert len(wandb_server.runs[name].history) == 3
    assert wandb_server.requests["UpsertBucket"] <= 4  # wandb itself would ask for minutes
    assert session.messages == [f"W&B: {wandb_server.url}/somebody/bnexp"]


def test_a_run_that_is_there_goes_on(wandb_server: Standin) -> None:
    for first in (0, 2):
        session = WandbSession(WandbConfig())
        run = opened(session)
        log_rows(run, first, first + 2)
        session.finish(run, 0)
        wandb.teardown()
    assert [row["_step"] for row in wandb_server.runs["one"].history] == [0, 1, 2, 3]


@pytest.mark.parametrize("trouble", ["drop", "lose_answers", "hang", "away", 429, 500])
def test_a_server_that_comes_back_has_missed_nothing(
    wandb_server: Standin, monkeypatch: pytest.MonkeyPatch, trouble: str | int
) -> None:
    for client in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER"):
        monkeypatch.setenv(f"WANDB__{client}_TIMEOUT_SECONDS", "1")
    session = WandbSession(WandbConfig())
    run = opened(session)
    log_rows(run, 0, 2)
    if trouble == "away":
        wandb_server.go_away()
    elif isinstance(trouble, int):
        wandb_server.faults.fail(trouble, times=8, retry_after=0)
    else:
        getattr(wandb_server.faults, trouble)(on=["stream", "upload", "UpsertBucket", "CommitArtifact"], times=3)
    log_rows(run, 2, 5)
    if trouble == "away":
        wandb_server.come_back()
    log_table(run, 5)
    session.finish(run, 0)
    session.report()
    held = wandb_server.runs["one"]
    assert [row["_step"] for row in held.history] == [0, 1, 2, 3, 4, 5]
    assert (held.state, held.config) == ("finished", {"optim": {"lr": 0.1}})
    assert len(wandb_server.artifact("run-one-predictions").files) == 2
    assert session.messages == [f"W&B: {wandb_server.url}/somebody/bnexp"]


@pytest.mark.parametrize("part", ["upload", "CreateArtifact"])
def test_a_table_that_the_server_refuses_is_named_with_the_command_that_sends_it(wandb_server: Standin, part: str) -> None:
    """wandb-core gives up without a word and calls the run finished."""
    session = WandbSession(WandbConfig())
    run = opened(session)
    wandb_server.faults.fail(403, on=[part])
    log_table(run, 0)
    session.finish(run, 0)
    session.report()
    assert session.messages[-1] == "W&B: the server lacks part of 1 run; send it with: bnexp publish"
    assert wandb_server.runs["one"].tags == ["incomplete"]


def test_a_key_that_is_withdrawn_leaves_no_run_unnamed(wandb_server: Standin, wandb_home: Path) -> None:
    session = WandbSession(WandbConfig())
    run = opened(session)
    wandb_server.key = "x" * 40
    log_rows(run, 0, 2)
    session.finish(run, 0)
    later = opened(session, "two")
    session.finish(later, 0)
    session.report()
    refused, _, lacking, offline = session.messages
    assert refused == (
        "W&B: a run could not be sent (the server refuses the API key: log in with `wandb login --relogin`), "
        "so the rest is recorded offline."
    )
    assert lacking == "W&B: the server lacks part of 1 run; send it with: bnexp publish"
    assert offline.startswith("W&B: 1 run is recorded offline; upload with: wandb sync ")
    assert set(read_all(wandb_home)) == {"two"}


def test_a_run_that_the_server_drops_while_it_is_opened_goes_offline(wandb_server: Standin, wandb_home: Path) -> None:
    """wandb keeps the id of a run that it could not open, so this one gets a suffix."""
    session = WandbSession(WandbConfig())
    assert session.online
    wandb_server.faults.fail(401, on=["RunResumeStatus"])
    run = opened(session)
    log_rows(run, 0, 2)
    session.finish(run, 0)
    ((name, written),) = read_all(wandb_home).items()
    assert name.startswith("one-")
    assert len(written.history) == 2


def test_a_server_lost_for_good_ends_in_bounded_time(
    wandb_server: Standin, wandb_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "1")
    session = WandbSession(WandbConfig())
    run = opened(session)
    wandb_server.go_away()
    log_rows(run, 0, 2)
    session.finish(run, 0)
    later = opened(session, "two")
    session.finish(later, 0)
    session.report()
    assert (
        session.messages[0]
        == "W&B: a run could not be sent (the server did not answer in time), so the rest is recorded offline."
    )
    assert "the server lacks part of 1 run" in session.messages[2]
    assert set(read_all(wandb_home)) == {"two"}
    (folder,) = wandb_home.glob("run-*-one")
    wandb.teardown()
    assert len(read(folder).history) == 2


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGQUIT])
def test_a_wandb_core_that_dies_is_replaced_and_leaves_no_trace_on_the_screen(
    wandb_server: Standin, capfd: pytest.CaptureFixture[str], by: signal.Signals
) -> None:
    session = WandbSession(WandbConfig())
    run = opened(session)
    (core,) = core_processes()
    os.kill(core, by)
    while core_processes():
        time.sleep(0.01)
    with pytest.raises(Exception) as caught:  # noqa: PT011  # its class depends on what wandb was doing
        run.status()
    assert meaning(caught.value) == "wandb-core, a process of W&B, has ended"
    session.finish(run, 1)
    later = opened(session, "two")
    log_rows(later, 0, 2)
    session.finish(later, 0)
    session.report()
    assert wandb_server.runs["two"].state == "finished"
    assert session.messages == [
        "W&B: wandb-core, a process of W&B, has ended; a new one is started.",
        f"W&B: {wandb_server.url}/somebody/bnexp",
        "W&B: the server lacks part of 1 run; send it with: bnexp publish",
    ]
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert "goroutine" not in out + err


PROGRAM = """
import os, signal, sys, time
from bnexp.config.options import WandbMode
from bnexp.config.schema import WandbConfig
from bnexp.tracking.wandb.session import WandbSession
from tests.tracking.conftest import core_processes
session = WandbSession(WandbConfig(mode=WandbMode.offline))
run = session.open({"id": "one"}, alone=False)
run.log({"loss": 1.0})
if sys.argv[1] == "die":
    (core,) = core_processes()
    os.kill(core, signal.SIGABRT)
    while core_processes():
        time.sleep(0.01)
session.finish(run, 0)
print(*session.messages)
"""


@pytest.mark.parametrize(("fate", "home"), [("die", "/tmp"), ("live", "/proc/nothing"), ("live", "")])
def test_a_program_ends_without_a_trace_on_the_screen(wandb_home: Path, fate: str, home: str) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")}
    command = [sys.executable, "-c", PROGRAM, fate]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=kept | ({"HOME": home} if home else {}))
    said = "W&B: wandb-core, a process of W&B, has ended; a new one is started." if fate == "die" else ""
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, said, "")
    if fate == "live":
        assert len(read_all(wandb_home)["one"].history) == 1


def test_a_wandb_core_that_does_not_end_holds_up_nobody(wandb_server: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SECONDS_TO_END", 0.1)
    session = WandbSession(WandbConfig())
    assert session.online
    (core,) = core_processes()
    os.kill(core, signal.SIGSTOP)
    wandb.teardown()
    assert core_processes() == []


def test_a_full_disk_does_not_fill_the_screen(wandb_server: Standin, capfd: pytest.CaptureFixture[str]) -> None:
    session = WandbSession(WandbConfig(mode=WandbMode.offline))
    run = opened(session)
    full = logging.FileHandler("/dev/full")
    logging.getLogger("wandb").addHandler(full)
    try:
        log_rows(run, 0, 2)
        session.finish(run, 0)
    finally:
        logging.getLogger("wandb").removeHandler(full)
        with pytest.raises(OSError, match="No space left"):
            full.close()
    assert capfd.readouterr() == ("", "")
    error = OSError(28, "No space left on device")
    assert meaning(error) == "the disk is full"


def test_other_errors_neither_end_wandb_core_nor_are_hidden(
    wandb_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service, "end", lambda: pytest.fail("ended a sound process"))
    answers = iter([ConnectionResetError(), ValueError("a bad name")])

    def call() -> None:
        raise next(answers)

    with pytest.raises(ValueError, match="a bad name"):
        service.with_core(call)
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    service.prepare(wandb_home)
    thread = threading.Thread(target=lambda: [][1])
    thread.start()
    thread.join()
    assert "IndexError" in capsys.readouterr().err


def test_images_are_staged_beside_the_runs_unless_the_user_says_where(
    wandb_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_DATA_DIR")
    session = WandbSession(WandbConfig(mode=WandbMode.offline))
    run = opened(session)
    log_table(run, 0)
    session.finish(run, 0)
    artifact = read_all(wandb_home)["one"].artifacts["run-one-predictions"]
    staged = {Path(file.local_path).parent for file in artifact.manifest.contents}
    assert staged == {wandb_home / "artifacts" / "staging"}


def test_wandb_sync_brings_all_of_an_offline_run(wandb_server: Standin, wandb_home: Path) -> None:
    session = WandbSession(WandbConfig(mode=WandbMode.offline))
    run = opened(session)
    log_rows(run, 0, 3)
    log_table(run, 3)
    run.summary["answer"] = 42
    session.finish(run, 0)
    session.report()
    wandb.teardown()
    command = session.messages[-1].partition("upload with: ")[2].split()
    synced = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=60)
    assert synced.returncode == 0, synced.stderr
    held = wandb_server.runs["one"]
    assert [row["_step"] for row in held.history] == [0, 1, 2, 3]
    assert (held.summary["answer"], held.config, held.state) == (42, {"optim": {"lr": 0.1}}, "finished")
    files: Any = wandb_server.artifact("run-one-predictions").files
    assert sorted(Path(name).suffix for name in files) == [".json", ".png"]


def test_wandb_leet_opens_an_offline_run(wandb_home: Path) -> None:
    session = WandbSession(WandbConfig(mode=WandbMode.offline))
    run = opened(session)
    log_rows(run, 0, 3)
    session.finish(run, 0)
    (folder,) = wandb_home.glob("offline-run-*")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(folder)]
    shown = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
    assert (shown["run_id"], shown["state"]) == ("one", "finished")


@pytest.mark.parametrize(
    ("mode", "variable", "expected"),
    [
        ("auto", "", "auto"),
        ("auto", "offline", "offline"),
        ("auto", "run", "online"),
        ("auto", "dryrun", "offline"),
        ("online", "offline", "online"),
        ("offline", "online", "offline"),
        ("disabled", "online", "disabled"),
        ("online", "disabled", "disabled"),
    ],
)
def test_a_mode_that_is_configured_wins_over_the_variable_and_disabled_always_wins(
    monkeypatch: pytest.MonkeyPatch, mode: str, variable: str, expected: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", variable)
    assert requested_mode(WandbConfig(mode=WandbMode(mode))) == expected


def test_an_unknown_mode_is_refused_whatever_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "onlyne")
    with pytest.raises(ConfigError, match="WANDB_MODE=onlyne is not possible"):
        requested_mode(WandbConfig(mode=WandbMode.offline))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("returned error 401: user is not logged in", "the server refuses the API key: log in with `wandb login --relogin`"),
        ("while retrying: HTTP 429: slow down", "the server has had too many requests (HTTP 429)"),
        ("context deadline exceeded while retrying: HTTP 503: oops", "the server fails (HTTP 503)"),
        ("dial tcp 127.0.0.1:1: connect: connection refused", "the server cannot be reached: connection refused"),
        ("lookup wandb.nowhere: no such host", "the server cannot be reached: no host of this name"),
        ("giving up after 1 attempt(s): context deadline exceeded", "the server did not answer in time"),
        ("[Errno 30] Read-only file system: 'wandb'", "wandb cannot be written: WANDB_DIR=FOLDER names another place"),
        (
            "Unable to write staging files to /a/wandb/staging. To fix this problem, please set WANDB_DATA_DIR to a directory.",
            "/a/wandb/staging cannot be written: WANDB_DIR=FOLDER names another place",
        ),
        ("something\n  new.", "something new"),
    ],
)
def test_errors_are_said_in_the_users_words(text: str, said: str) -> None:
    assert meaning(Exception(text)) == said


def test_a_lost_process_is_recognised_behind_other_errors() -> None:
    error = RuntimeError("credentials cannot be verified")
    error.__context__ = ConnectionResetError()
    assert meaning(error) == "wandb-core, a process of W&B, has ended"
