"""Every command in the README works as it stands there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import bnexp
from bnexp.cli.commands import app
from bnexp.config.options import NormKind
from bnexp.plan.session import config_dirs, groups
from tests.cli.conftest import Cli, only

README = Path(__file__).parents[2] / "README.md"


def readme_commands() -> list[list[str]]:
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("bnexp ")]


def test_every_command_of_the_readme_works(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawings").mkdir()
    Image.new("L", (8, 8), 128).save(tmp_path / "drawings" / "grey.png")
    for name in ("cats", "dogs"):
        (tmp_path / "my" / "images" / name).mkdir(parents=True)
        for number in range(40):
            Image.new("L", (8, 8), number).save(tmp_path / "my" / "images" / name / f"{number}.png")
    (tmp_path / "results.csv").write_text("lr,seed,accuracy\n0.1,0,0.9\n0.2,0,0.8\n")
    (block,) = re.findall(r"```py\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "nets.py").write_text(block)
    cli("study", "batchnorm", "data=digits", "study.seeds=3", "train.epochs=2", "executor=inline")  # something to list
    commands = list(map(list, dict.fromkeys(map(tuple, readme_commands()))))
    assert len(commands) > 10
    monkeypatch.setattr("bnexp.run.health.examine.tried", lambda *_: {})  # importing every package is for test_doctor
    for arguments in commands:
        with pytest.MonkeyPatch.context() as patch:
            if "--all" in arguments:  # test_study_all goes through all studies
                only(patch, "batchnorm", "depth")
            _works(cli, arguments)


def _works(cli: Cli, arguments: list[str]) -> None:
    minutes = arguments[0] == "study" and len(arguments) > 1 and "--dry-run" not in arguments
    result = cli(*arguments, *(["--dry-run"] if minutes else []))
    assert result.code == 0, (arguments, result.err)
    assert result.out, arguments


def test_the_readme_names_every_command_study_and_norm_layer() -> None:
    text = README.read_text()
    commands = [command.name for command in app.registered_commands]
    assert not [name for name in commands if f"bnexp {name}" not in text.split("## From Python")[0]], "the table of commands"
    assert not [name for name in groups()["study"] if f"`{name}`" not in text], "the table of studies"
    (norms,) = re.findall(r"`norm=` is one of `([^`]*)`", text)
    assert set(norms.split()) == set(NormKind)


def test_the_python_of_the_readme_runs(shared_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    found: dict[str, Any] = {}
    exec(block, found)
    printed = capsys.readouterr().out
    assert printed.startswith(f"{found['result'].verdict} {found['result'].answer}\n")
    assert f"{found['run'].summary.metrics['test/accuracy']}" in printed
    assert len(found["runs"]) == 2 * 6 + 1
    assert "batch" in printed.splitlines()[-1]
    with torch.no_grad():
        assert found["network"](torch.zeros(2, 1, 32, 32)).shape == (2, 10)


def test_the_network_of_the_readme_trains(tmp_path: Path, shared_cache: Path) -> None:
    (block,) = re.findall(r"```py\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "nets.py").write_text(block)
    own = ["model=python", f"model.factory={tmp_path / 'nets.py'}:build", "data=digits", "data.train_size=100"]
    run = bnexp.train([*own, "norm=batch", "train.epochs=1", "executor=inline"])
    assert run.summary.status == "finished"
    assert {"1.running_mean", "6.running_mean"} <= run.weights().keys()


def test_every_study_file_opens_with_question_source_command_and_expectation() -> None:
    files = sorted((config_dirs()[0] / "study").glob("*.yaml"))
    assert files
    for file in files:
        head = file.read_text().split("\ndefaults:")[0]
        for word in ("# Question:", "Source:", "# Command:  bnexp study " + file.stem, "# Expected:"):
            assert word in head, (file.name, word)


def test_the_study_file_in_the_readme_expands(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "momentum.yaml").write_text(block)
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    result = cli("study", "momentum", "--dry-run", "--json")
    assert len(json.loads(result.out)) == 2 * 3 * 6
    (tmp_path / "study" / "momentum.yaml").write_text(block.replace("# @package _global_\n", ""))
    assert "its first line must be '# @package _global_'" in cli("study", "momentum").err
    (tmp_path / "study" / "momentum.yaml").write_text(block.replace("arms:", "arms: ["))
    broken = cli("study", "momentum")
    assert broken.code == 2
    assert "is not valid YAML" in broken.err
    only(monkeypatch, "momentum", "batchnorm")
    listed = cli("study")
    assert "study momentum cannot be read" in listed.err
    assert "batchnorm" in listed.out
