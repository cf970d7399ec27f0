"""The runs of a study as far as their time depends on them, made without the time that composing takes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from bnexp.plan.session import config_dirs
from bnexp.plan.spec import RunSpec
from bnexp.plan.study import Job
from bnexp.tracking.reading import DamagedRecord, as_type

GROUPS = ("data", "model", "norm", "optim", "train", "probe")  # on which the time of a run depends


def outlined(spec: RunSpec, job: Job) -> RunSpec:
    """A run that takes about as long as ``spec`` with the overrides of ``job``.

    Keys and config groups are set as the overrides name them. A value that cannot be read without composing is left as it is.
    """
    config = spec.config
    for name, text in job.items():
        group, _, key = name.partition(".")
        if group in GROUPS:
            values = {key: _value(text)} if key else _of_files(group, text)
            config = replace(config, **{group: _with(getattr(config, group), values)})
    return RunSpec(config)


def _with(part: Any, values: Mapping[str, Any]) -> Any:
    """A part of a configuration with other values, those that fit its keys."""
    cls: Any = type(part)
    hints, fitting = _hints(cls), {}
    for key in hints.keys() & values.keys():
        with suppress(DamagedRecord):
            fitting[key] = as_type(hints[key], values[key], Path())
    return replace(part, **fitting)


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


@cache
def _value(text: str) -> Any:
    import yaml

    return yaml.safe_load(text)


def _of_files(group: str, name: str) -> dict[str, Any]:
    """The values that a file of a config group sets; none if there is no such file."""
    places = [root / group / f"{name}.yaml" for root in config_dirs()]
    return next((_read(path) for path in places if path.is_file()), {})


@cache
def _read(path: Path) -> dict[str, Any]:
    values = _value(path.read_text())
    return values if isinstance(values, dict) else {}
