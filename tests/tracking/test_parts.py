"""Configurations that are read part by part say what reading them as a whole says."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bnexp.config.schema import RunConfig
from bnexp.plan.spec import RunSpec, flatten
from bnexp.tracking.parts import flat_settings

CONFIG: dict[str, Any] = RunSpec(RunConfig()).to_dict()
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_subnormal=False)
    | st.text(max_size=200)
    | st.lists(st.text())
)


@given(st.dictionaries(st.sampled_from(sorted(flatten(CONFIG))), VALUES), st.text(), VALUES)
def test_the_parts_together_are_the_whole(changes: dict[str, Any], other: str, value: Any) -> None:
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    for name, changed in changes.items():
        *sections, key = name.split(".")
        inner = config
        for section in sections:
            inner = inner[section]
        inner[key] = changed
    config["optim"][other] = value
    text = yaml.safe_dump(config, sort_keys=False)
    found = flat_settings(text)
    assert found is None or found == (set(config), flatten(yaml.safe_load(text)))


def test_what_runs_write_is_divided() -> None:
    found = flat_settings(yaml.safe_dump(CONFIG, sort_keys=False))
    assert found is not None
    assert found[1]["optim.lr"] == 0.01
    assert found[1]["study.arms"] == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: 1\na: 2\n",
        "a: &x 1\nb: *x\n",
        "a: 'x\nb: y'\n",
        "- 1\n",
        "a: 1\n...\nb: 2\n",
        "a: 1\nb: {c: 2",
        "a: [1,\nb: 2]\n",
        "# note\na: 1\n",
        "a: !!python/object:os.system {}\n",
        "a: " + "[" * 30 + "]" * 30 + "\n",
        "a: |\n  " + "x" * 30_000 + "\n",
    ],
)
def test_everything_else_is_left_to_the_whole_file(text: str) -> None:
    assert flat_settings(text) is None
