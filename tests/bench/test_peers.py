"""The rungs of other people's tools: their environment, the server of their sweep, and that they do the same work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars
import pytest
import yaml

from bnexp.bench import environment
from bnexp.bench.environment import Environment, prepare_environment
from bnexp.bench.measure import measure
from bnexp.bench.peer import SCRIPTS
from bnexp.bench.sweep_server import sweep_server
from bnexp.bench.work import BenchError, Work
from bnexp.config.options import DataName, Device
from tests.tracking.conftest import core_processes

WORK = Work(DataName.digits, 600, 2, 2, Device.cpu)
# That of the tests has W&B, and lightning where somebody installed it. BNEXP_TEST_PEERS names the python of another one.
HERE = Environment(Path(os.environ.get("BNEXP_TEST_PEERS", sys.executable)), {})


@pytest.mark.slow
@pytest.mark.parametrize(("rung", "needs"), [("P1", "import lightning"), ("P2", "import wandb")])
def test_a_peer_trains_the_same_work(rung: str, needs: str, tmp_path: Path, shared_cache: Path) -> None:
    if subprocess.run([HERE.python, "-c", needs], capture_output=True).returncode != 0:
        pytest.skip(f"{rung} cannot run here: {needs} fails with {HERE.python}")
    found = measure(rung, replace(WORK, num_runs=1), 1, tmp_path / "bench", HERE)
    (run,) = found.result.runs
    assert (run.arm, run.seed) == ("after_pool", 0)
    assert run.test_accuracy > 0.3  # guessing gives .1
    assert found.result.images == 600 * 2
    assert 0 < found.result.train_seconds < found.seconds
    assert not list((tmp_path / "bench").iterdir())


def test_a_peer_whose_runs_fail_says_so(tmp_path: Path, shared_cache: Path) -> None:
    nothing = tmp_path / "python"
    nothing.write_text("#!/bin/sh\necho no module named lightning >&2\n")
    nothing.chmod(0o755)
    with pytest.raises(BenchError, match=r"rung P1 finished 0 of 2 runs: no module named lightning"):
        measure("P1", WORK, 1, tmp_path / "bench", Environment(nothing, {}))


def ask(url: str, operation: str, **variables: Any) -> dict[str, Any]:
    body = json.dumps({"query": f"mutation {operation}($id: ID!) {{ any }}", "variables": variables}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/graphql", body), timeout=10) as answer:
        return dict(json.loads(answer.read())["data"])


def test_each_point_is_given_once_to_an_idle_agent_then_the_end() -> None:
    points = [{"norm": "none", "seed": 0}, {"norm": "batch", "seed": 0}]
    with sweep_server("train.py", "command: [python]", points) as url:
        assert ask(url, "SweepWithRuns")["project"]["sweep"]["config"] == "command: [python]"

        def told(alive: str) -> list[dict[str, Any]]:
            return list(json.loads(ask(url, "Heartbeat", runState=alive)["agentHeartbeat"]["commands"]))

        (first,) = told("{}")
        assert first["args"] == {"norm": {"value": "none"}, "seed": {"value": 0}}
        assert told(json.dumps({first["run_id"]: True})) == []
        (second,) = told(json.dumps({first["run_id"]: False}))
        assert second["args"]["norm"] == {"value": "batch"}
        assert [told("{}"), told("{}")] == [[{"type": "exit"}]] * 2


def test_the_sweep_file_is_one_that_w_and_b_takes() -> None:
    sweep = yaml.safe_load((SCRIPTS / "wandb_sweep.yaml").read_text())
    assert (SCRIPTS / sweep["program"]).exists()
    assert list(sweep["parameters"]) == ["norm", "seed"]


def test_interrupted_agents_end_with_their_runs(tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a run trains: nothing that the bench started lives on."""
    script = tmp_path / "peers" / "wandb_sweep.py"
    script.parent.mkdir()
    script.write_text(f"import os, time\nopen({str(tmp_path / 'started')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n")
    (script.parent / "wandb_sweep.yaml").write_text((SCRIPTS / "wandb_sweep.yaml").read_text())
    monkeypatch.setattr("bnexp.bench.peer.SCRIPTS", script.parent)

    def interrupt() -> None:
        while not (tmp_path / "started").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    polars.DataFrame({"a": [1]}).lazy().collect()  # now polars has its own handler of SIGINT
    with pytest.raises(KeyboardInterrupt):
        measure("P2", Work(DataName.digits, 600, 1, 1, Device.cpu), 1, tmp_path / "bench", HERE)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "started").read_text()), 0)
    assert core_processes() == []
    assert not list((tmp_path / "bench").iterdir())


def test_an_environment_of_the_user_is_used_and_never_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    with pytest.raises(BenchError, match=rf"{tmp_path} lacks lightning, .*: install that there"):
        prepare_environment(tmp_path, pytest.fail)
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(environment, "SHOWN", ("torch", "wandb"))
    found = prepare_environment(tmp_path, pytest.fail)
    assert set(found.versions) == {"torch", "wandb"}
    assert [path.name for path in tmp_path.rglob("*")] == ["bin", "python"]


def test_an_environment_that_could_not_be_made_is_completed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[str] = []
    versions = [{}, {"torch": "2.6", "lightning": "2.6.6"}]

    def run(command: list[str], problem: str) -> str:
        commands.append(" ".join(command))
        if "pip" in command and len(commands) < 4:
            raise BenchError(f"{problem}: no network")
        if "venv" in command:
            (tmp_path / "my" / "new" / "bin").mkdir(exist_ok=True)
            (tmp_path / "my" / "new" / "bin" / "python").touch()
            place = tmp_path / "my" / "new" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
            (place / "hydra_plugins").mkdir(parents=True, exist_ok=True)
        return json.dumps(versions.pop(0)) if "-c" in command else ""

    monkeypatch.setattr(environment, "_run", run)
    monkeypatch.setattr(environment, "SHOWN", ("torch", "lightning"))
    said: list[str] = []
    with pytest.raises(BenchError, match="pip failed: no network"):
        prepare_environment(tmp_path / "my" / "new", said.append)
    assert prepare_environment(tmp_path / "my" / "new", said.append).versions == {"torch": "2.6", "lightning": "2.6.6"}
    assert len(said) == 2
    assert "torch is used from" in said[0]
    (reused,) = tmp_path.rglob("reused.pth")
    assert Path(reused.read_text().splitlines()[0], "torch").is_dir()
    assert not any("torch" in command.split() for command in commands)
