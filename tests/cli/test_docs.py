"""Every command in the README works as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from bnexp.compose import config_dirs
from tests.cli.conftest import Cli

README = Path(__file__).parents[2] / "README.md"


def readme_commands() -> list[list[str]]:
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("bnexp ")]


def test_every_command_of_the_readme_works(cli: Cli) -> None:
    cli("study", "batchnorm", "budget=smoke", "study.seeds=1", "train.epochs=1")  # something to list and report
    commands = readme_commands()
    assert len(commands) > 10
    for arguments in commands:
        minutes = arguments[0] == "study" and len(arguments) > 1 and "--dry-run" not in arguments
        result = cli(*arguments, *(["--dry-run"] if minutes else []))
        assert result.code == 0, (arguments, result.err)
        assert result.out, arguments


def test_every_study_file_opens_with_question_source_command_and_expectation() -> None:
    files = sorted((config_dirs()[0] / "study").glob("*.yaml"))
    assert files
    for file in files:
        head = file.read_text().split("\ndefaults:")[0]
        for word in ("# Question:", "Source:", "# Command:  bnexp study " + file.stem, "# Expected:"):
            assert word in head, (file.name, word)
