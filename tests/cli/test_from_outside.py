"""What a user adds from outside runs like bnexp's own: files in a configuration directory, and Hydra plugins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Cli

FILES = {
    "data/mine.yaml": "name: npz\nroot: {root}\nmargin: 2.5\n",
    "norm/mine.yaml": "kind: group\ngroups: 2\nplacement: before_activation\n",
    "optim/mine.yaml": "name: sgd\nlr: 0.125\nmomentum: 0.5\n",
    "model/mine.yaml": "name: plain\ndepth: 2\nwidth: 4\nactivation: tanh\n",
    "train/mine.yaml": "epochs: 1\nbatch_size: 16\nlog_every: 1\n",
    "track/mine.yaml": "predictions: 0\nwandb: {{mode: disabled}}\n",
    "executor/mine.yaml": "name: inline\n",
    "budget/mine.yaml": "# @package _global_\nstudy:\n  seeds: 2\n",
    "study/mine.yaml": """# @package _global_
defaults:
  - override /hydra/sweeper: study
study:
  name: mine
  question: Is mine better?
  arms:
    theirs: [norm=none]
    mine: [norm=mine]
  metric: test/accuracy
  baseline: theirs
  direction: different
""",
}

LAUNCHER = """
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore

ConfigStore.instance().store(group="hydra/launcher", name="mine", node={"_target_": "hydra_plugins.mine.launcher.Mine"})

class Mine(BasicLauncher):
    def launch(self, job_overrides, initial_job_idx):
        print("my launcher has", len(job_overrides), "jobs")
        return super().launch(job_overrides, initial_job_idx)
"""

SWEEPER = """
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore

ConfigStore.instance().store(
    group="hydra/sweeper", name="mine", node={"_target_": "hydra_plugins.mine.sweeper.Mine", "max_batch_size": None}
)

class Mine(BasicSweeper):
    def sweep(self, arguments):
        return super().sweep([*arguments, "optim.lr=0.1,0.2"])
"""

CHOICES = [f"{group}=mine" for group in ("data", "optim", "model", "train", "track", "executor", "budget")]


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration directory and a plugin package of a user's; the working directory is somewhere else."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = (rng.integers(0, 60, (120, 16, 16)) + 80 * labels[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "mine.npz", x_train=images[:90], y_train=labels[:90], x_test=images[90:], y_test=labels[90:])
    for name, text in FILES.items():
        path = tmp_path / "configs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(root=tmp_path / "mine.npz") if "{" in text else text)
    plugins = tmp_path / "plugins" / "hydra_plugins" / "mine"
    plugins.mkdir(parents=True)
    (plugins / "__init__.py").write_text("")
    (plugins / "launcher.py").write_text(LAUNCHER)
    (plugins / "sweeper.py").write_text(SWEEPER)
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path / "configs"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), str(tmp_path / "plugins")]))
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def bnexp(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bnexp", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def test_a_study_of_ones_own_data_norm_network_optimiser_and_budget(outside: Path, cli: Cli) -> None:
    done = bnexp(outside, "study", "mine", *CHOICES, "hydra/launcher=mine", "--json")
    assert "my launcher has 4 jobs" in done.stdout
    result = json.loads(done.stdout[done.stdout.index("\n{") :])
    assert [(arm["arm"], arm["n"]) for arm in result["arms"]] == [("theirs", 2), ("mine", 2)]
    assert (result["question"], result["margin"]) == ("Is mine better?", 2.5)
    runs = json.loads(cli("runs", "--json").out)
    own = next(run for run in runs if run["arm"] == "mine")
    shown = json.loads(cli("show", own["run"], "--json").out)["config"]
    assert (shown["norm"]["groups"], shown["optim"]["lr"], shown["model"]["activation"]) == (2, 0.125, "tanh")
    assert (shown["train"]["batch_size"], shown["data"]["name"]) == (16, "npz")


def test_a_sweeper_of_ones_own(outside: Path) -> None:
    chosen = [choice for choice in CHOICES if not choice.startswith("budget")]
    done = bnexp(outside, "train", "-m", "norm=mine", *chosen, "seed=5", "hydra/sweeper=mine", "--json")
    assert [(row["lr"], row["seed"], row["status"]) for row in json.loads(done.stdout)] == [
        (0.1, 5, "finished"),
        (0.2, 5, "finished"),
    ]


def test_a_plugin_that_cannot_be_imported_is_named(outside: Path) -> None:
    (outside.parent / "plugins" / "hydra_plugins" / "mine" / "launcher.py").write_text("raise ValueError('mutable default')")
    command = [sys.executable, "-m", "bnexp", "train", "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=outside, timeout=120)
    assert done.returncode == 2
    assert done.stderr == (
        "Error: the installed Hydra plugin mine cannot be imported (mutable default); it may be too old for this Python: "
        "pip uninstall mine\n"
    )
