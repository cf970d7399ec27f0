"""Sweeps at W&B: a file is registered with its overrides, and an agent trains, replays and stops its points."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bnexp.config.schema import ConfigError
from bnexp.plan.session import session
from bnexp.plan.sweep.file import load_file
from bnexp.plan.sweep.points import plan_sweep
from bnexp.run.sweep import remote
from bnexp.run.sweep.remote import RemoteError, register, work
from bnexp.run.train import train
from bnexp.tracking.store import Store
from tests.tracking.standin import Standin

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning"),
]

SMALL = ["data=digits", "data.train_size=70", "data.size=16", "data.val_fraction=0.3", "train.device=cpu"]


def test_a_sweep_is_registered_as_its_file_says_with_the_overrides(
    wandb_server: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = register("lr_norm", [*SMALL, "optim.lr=0.1,0.3", "track.wandb.project=mine"], count=3)
    (sweep,) = wandb_server.sweeps.values()
    assert found == {
        "sweep": f"somebody/mine/{sweep.name}",
        "url": f"{wandb_server.url}/somebody/mine/sweeps/{sweep.name}",
    }
    config = yaml.safe_load(sweep.text)
    assert config["parameters"] == {"norm": {"values": ["none", "batch"]}, "optim.lr": {"values": [0.1, 0.3]}}
    assert config["command"] == ["bnexp", "train", *SMALL, "track.wandb.project=mine", "${args_no_hyphens}"]
    assert (config["method"], config["run_cap"], config["name"]) == ("grid", 3, "lr_norm")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    assert register("lr_norm", [*SMALL, "seed=4"], seeds=2)["sweep"].startswith("somebody/theirs/")
    assert yaml.safe_load(list(wandb_server.sweeps.values())[-1].text)["parameters"]["seed"] == {"values": [4, 5]}
    register("lr_norm", [*SMALL, "seed=4"])
    assert yaml.safe_load(list(wandb_server.sweeps.values())[-1].text)["command"][-2:] == ["seed=4", "${args_no_hyphens}"]
    wandb_server.faults.fail(401)
    with pytest.raises(RemoteError, match=r"W&B did not take the sweep"):
        register("lr_norm", SMALL)


def test_nothing_is_registered_that_could_not_run_or_without_a_key(
    wandb_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="no API key"):
        register("lr_norm", SMALL)
    with pytest.raises(ConfigError, match="no API key"):
        work("somebody/bnexp/abc")
    for no_id in ("a/b/c/d", "https://wandb.ai/a/b/sweeps/c", "a b", ""):
        with pytest.raises(ConfigError, match="is no id of a sweep: allowed is ENTITY/PROJECT/ID"):
            work(no_id)
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(ConfigError, match="W&B is offline"):
        register("lr_norm", SMALL)
    with pytest.raises(ConfigError, match=r"there is no key 'optim\.lrr'"):
        register("lr_norm", ["optim.lrr=1"])
    content = {"method": "grid", "metric": {"name": "val/loss"}, "parameters": {"norm": {"values": ["none", "batch"]}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content | {"early_terminate": {"type": "median"}}))
    with pytest.raises(ConfigError, match="median exists only here"):
        register(str(tmp_path / "mine.yaml"), SMALL)


class Stubborn:
    """An agent that does not end when it is asked to."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def send_signal(self, number: int) -> None:
        self.calls.append(signal.Signals(number).name)

    def kill(self) -> None:
        self.calls.append("kill")

    def poll(self) -> int | None:
        raise KeyboardInterrupt

    def wait(self, seconds: float | None = None) -> int:
        if "kill" not in self.calls:
            raise subprocess.TimeoutExpired("agent", seconds or 0.0)
        return -9


def test_ctrl_c_ends_in_time_even_if_an_agent_does_not(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agents = [Stubborn(), Stubborn()]
    started = iter(agents)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setattr(remote, "_start", lambda *_: next(started))
    with pytest.raises(KeyboardInterrupt):
        work("somebody/bnexp/abc", parallel=2)
    assert [agent.calls for agent in agents] == [["SIGINT", "kill"]] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows restarts no system calls")
def test_ctrl_c_comes_at_once_while_agents_work(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if a system call goes on after a signal, as it does once polars is loaded."""
    agents: list[subprocess.Popen[bytes]] = []
    code = "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(3)"

    def start(*_: object) -> subprocess.Popen[bytes]:
        signal.siginterrupt(signal.SIGINT, False)
        agents.append(subprocess.Popen([sys.executable, "-c", code]))
        return agents[-1]

    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setattr(remote, "_start", start)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            work("somebody/bnexp/abc")
    finally:
        signal.signal(signal.SIGINT, before)
    assert agents[0].returncode == -signal.SIGINT  # ended by us, not by itself


def test_agents_share_the_points(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int | None] = []

    def start(sweep_id: str, count: int | None) -> subprocess.Popen[bytes]:
        counts.append(count)
        return subprocess.Popen([sys.executable, "-c", f"raise SystemExit({len(counts) % 2 * 3})"])

    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setattr(remote, "_start", start)
    assert work("somebody/bnexp/abc", 5, 3) == 3  # the largest exit code
    assert counts == [2, 2, 1]
    assert work("somebody/bnexp/abc", 1, 3) == 0
    assert counts == [2, 2, 1, 1]
    assert work("somebody/bnexp/abc", None, 2) == 3
    assert counts[-2:] == [None, None]
    work("somebody/bnexp/abc")
    assert len(counts) == 7  # one agent


def test_an_agent_that_was_killed_is_no_success(wandb_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = iter(["import os; os.kill(os.getpid(), 9)", "pass"])
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setattr(remote, "_start", lambda *_: subprocess.Popen([sys.executable, "-c", next(commands)]))
    with pytest.raises(RemoteError, match=r"1 of 2 agents died of signal 9; a run that it had started trains on"):
        work("somebody/bnexp/abc", parallel=2)


def test_an_agent_finds_bnexp_and_leaves_its_files_beside_the_runs(
    wandb_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **more: started.append({"command": command, **more}))
    monkeypatch.delenv("WANDB_DIR", raising=False)
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(tmp_path / "runs"))
    remote._start("abc", None)
    remote._start("abc", 3)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "mine"))
    remote._start("abc", 3)
    first, second, third = started
    assert first["command"][1:] == ["-m", "bnexp.run.sweep.agent", "abc"]
    assert second["command"][3:] == ["abc", "3"]
    assert first["env"]["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert first["env"]["WANDB_DIR"] == str(tmp_path / "runs")
    assert third["env"]["WANDB_DIR"] == str(tmp_path / "mine")
    assert (tmp_path / "runs").is_dir()
    assert first["start_new_session"]  # Ctrl-C ends its run, not the agent before it


def test_a_sweep_without_a_name_is_called_like_its_file_and_null_is_a_word(tmp_path: Path) -> None:
    parameters = {"norm.momentum": {"values": [None, 0.2]}, "norm.ghost_size": {"value": None}, "norm": {"value": "batch"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"method": "grid", "parameters": parameters}))
    file = load_file(str(tmp_path / "mine.yaml"))
    with session(SMALL) as hydra:
        found = remote.definition(file, plan_sweep(hydra, file, None, 0), None)
    assert found["name"] == "mine"
    assert "run_cap" not in found
    expected = {"norm.momentum": {"values": ["null", 0.2]}, "norm.ghost_size": {"value": "null"}, "norm": {"value": "batch"}}
    assert found["parameters"] == expected


def until(met: Callable[[], Any], agent: subprocess.Popen[str]) -> None:
    while not met():
        assert agent.poll() is None, agent.communicate()
        time.sleep(0.05)


@pytest.mark.slow
def test_an_agent_replays_what_is_recorded_ends_what_is_stopped_and_bayes_sees_its_objective(
    wandb_server: Standin, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    recorded = train([*SMALL, "norm=batch", "train.epochs=1"])
    monkeypatch.delenv("WANDB_MODE")
    command = ["bnexp", "train", *SMALL, "${args_no_hyphens}"]
    metric, parameters = {"name": "val/loss", "goal": "minimize"}, {"norm": {"values": ["none", "batch"]}}
    text = yaml.safe_dump({"method": "bayes", "metric": metric, "parameters": parameters, "command": command, "run_cap": 2})
    sweep = wandb_server.add_sweep(text)
    sweep.waiting = [{"norm": "batch", "train.epochs": 1}, {"norm": "none", "train.epochs": 1000, "train.batch_size": 1}]
    bnexp = [sys.executable, "-c", "from bnexp.cli.app import main; main()", "sweep", "agent"]
    agent = subprocess.Popen([*bnexp, f"somebody/bnexp/{sweep.name}"], stderr=subprocess.PIPE, text=True)
    until(lambda: len(sweep.points) == 2, agent)
    first, second = sweep.points
    replayed = wandb_server.runs[first]
    assert (replayed.summary["status"], replayed.exit_code) == ("finished", 0)
    assert replayed.summary["val/loss"] == pytest.approx(recorded.summary.metrics["val/loss"])
    assert [row["epoch"] for row in replayed.history] == [1]
    assert sweep.seen[second] == {first: replayed.summary["val/loss"]}
    until(lambda: second in wandb_server.runs, agent)
    sweep.stop(second)
    _, err = agent.communicate(timeout=60)
    assert agent.returncode == 0
    stopped = wandb_server.runs[second]
    assert (stopped.summary["status"], stopped.exit_code) == ("stopped", 0)
    assert "stopped" in stopped.tags
    assert "next point: norm=batch train.epochs=1\n" in err
    assert "is recorded already and goes to the sweep from its record" in err
    assert "Stopped by the sweep of W&B." in err
    assert "Traceback" not in err
    assert [run.run_id for run in Store().runs()] == [recorded.run_id]
