"""What comes from an environment variable may be secret: messages show it as it was typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnexp.config import typed
from bnexp.config.schema import ConfigError
from bnexp.plan import compose as c
from bnexp.plan import expand as e

VALUES = {"WORD": "hunter2-secret", "NUMBER": "-7725e-2", "LIST": "[77,77]"}
STUDY = "study=batchnorm"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed, "_typed", {})
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)


def check(message: str, shown: str) -> None:
    assert shown in message
    for value in ("hunter2", "7725", "77.25", "77,", "77]"):
        assert value not in message


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("optim.lr=${oc.env:WORD}", "optim.lr=${oc.env:WORD} is not possible"),
        ("optim.lr=${oc.env:NUMBER}", "optim.lr=${oc.env:NUMBER} is out of range"),
        ("optim.lr=${oc.env:ABSENT,-3}", "optim.lr=${oc.env:ABSENT,-3} is out of range"),
        ("norm.kind=${oc.env:WORD}", "norm.kind=${oc.env:WORD} is not possible"),
        ("norm=${oc.env:WORD}", "norm=${oc.env:WORD} does not exist"),
        ("optim.lr='${oc.env:${oc.env:WORD}}'", "variable '${oc.env:WORD}' not found"),
        ("optim.lr='${${oc.env:WORD}}'", "key '${oc.env:WORD}' not found"),
        ("optim.lr='${oc.decode:${oc.env:LIST}}'", "optim.lr=${oc.decode:${oc.env:LIST}} is not possible"),
        ("executor.address=${oc.env:WORD}", "executor.address=${oc.env:WORD} has no effect"),
    ],
)
def test_an_override_is_shown_as_it_was_typed(override: str, shown: str) -> None:
    with pytest.raises(ConfigError) as error:
        c.compose([override])
    check(str(error.value), shown)


@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("study.metric=${oc.env:WORD}", "study.metric=${oc.env:WORD} is not recorded"),
        ("study.baseline=${oc.env:WORD}", "study.baseline=${oc.env:WORD} is not an arm"),
        ("study.seeds='${oc.decode:${oc.env:LIST}}'", "study.seeds=${oc.env:LIST} is not possible"),
        ("optim.lr=${oc.env:WORD},0.1", "optim.lr=${oc.env:WORD} is not possible"),
        ("optim.lr=${oc.env:NUMBER},0.1", "optim.lr=${oc.env:NUMBER} is out of range"),
    ],
)
def test_so_is_what_a_study_is_given(override: str, shown: str) -> None:
    with pytest.raises(ConfigError) as error:
        e.expand_study([STUDY, override])
    check(str(error.value), shown)


def test_so_is_what_stands_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.yaml").write_text(
        "# @package _global_\nstudy:\n  name: mine\n  arms: {a: [norm=none], b: ['optim.lr=${oc.env:NUMBER}']}\n"
    )
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text("lr: ${oc.env:WORD}\n")
    (tmp_path / "optim" / "other.yaml").write_text("defaults:\n  - /norm: ${oc.env:WORD}\n")
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    for overrides, shown in (
        (["optim=mine"], "optim.lr=${oc.env:WORD} is not possible"),
        (["optim=other"], "norm=${oc.env:WORD} does not exist (optim/other.yaml): allowed are batch,"),
        (["study=mine"], "optim.lr=${oc.env:NUMBER} is out of range"),
    ):
        with pytest.raises(ConfigError) as error:
            e.expand_study(overrides) if "study=mine" in overrides else c.compose(overrides)
        check(str(error.value), shown)


def test_a_short_value_is_not_taken_for_a_part_of_another_word() -> None:
    typed.remember("1", "${oc.env:ONE}")
    text = "train.epochs=1 is not 10 or 1.5: allowed is 1"
    assert typed.as_typed(text) == "train.epochs=${oc.env:ONE} is not 10 or 1.5: allowed is 1"
