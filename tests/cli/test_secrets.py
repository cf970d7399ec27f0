"""What a command takes from an environment variable is not printed unasked, and nothing secret is recorded."""

from __future__ import annotations

import pytest

from bnexp.config import typed
from bnexp.tracking.store import Store
from tests.cli.conftest import Cli


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed, "_typed", {})


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "my_password", "GH_PAT", "PGPASSWORD"])
def test_a_variable_that_is_named_as_a_secret_is_not_read(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "hunter2")
    override = f"track.wandb.entity=${{oc.env:{name}}}"
    for command in (("train", "data=digits"), ("config",), ("study", "batchnorm"), ("train", "-m", "data=digits", "seed=0,1")):
        result = cli(*command, override)
        assert result.code == 2
        assert f"{override} would record a secret" in result.err
        assert "hunter2" not in result.out + result.err
    assert not any("hunter2" in path.read_text() for path in Store().root.rglob("*") if path.is_file())
    assert not list(Store().root.rglob("config.yaml"))


@pytest.mark.parametrize("value", ["hunter2-secret", "-77.25"])
def test_neither_message_nor_traceback_shows_a_value(cli: Cli, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("VALUE", value)
    for command in (("train",), ("train", "-m", "seed=0,1"), ("study", "batchnorm")):
        result = cli(*command, "optim.lr=${oc.env:VALUE}", "--debug")
        assert result.code == 2
        assert "Error: optim.lr=${oc.env:VALUE} is " in result.err
        assert "Traceback" in result.err
        assert value not in result.err
    missing = cli("train", "data=npz", "data.root=${oc.env:VALUE}")
    assert "data.root=${oc.env:VALUE} is not a file" in missing.err


def test_a_value_that_can_be_used_is_part_of_the_configuration(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE", "0.125")
    assert "lr: 0.125" in cli("config", "optim.lr=${oc.env:RATE}").out
    rows = cli("study", "batchnorm", "optim.lr=${oc.env:RATE},0.5", "study.seeds=1", "--dry-run", "--md").out
    assert rows.count("| 0.125 |") == rows.count("| 0.5 |") == 2


def test_what_only_sounds_like_a_secret_is_read(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MONKEY", "PWD", "TOKENS_SEEN", "PATH_OF_DATA", "COMPASS"):
        monkeypatch.setenv(name, "team")
        assert cli("config", f"track.wandb.entity=${{oc.env:{name}}}").code == 0
