"""Reads W&B sweep files. Every mistake in one raises a ConfigError with the place and the fix, before anything trains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnexp.config.keys import alternatives, did_you_mean
from bnexp.config.schema import ConfigError
from bnexp.config.validate import check_name
from bnexp.config.yaml_size import check_size
from bnexp.plan.session import SWEEPS, config_dirs
from bnexp.plan.sweep.distribution import Parameter, is_number, listed, parameter
from bnexp.plan.sweep.metric import GOALS, Metric

METHODS = ("grid", "random", "bayes")
LEAST_ETA = 1.1  # of hyperband; a smaller one makes more brackets than anybody trains epochs
COMMAND = ("bnexp", "train", "${args_no_hyphens}")

# Keys of W&B's schema. Those of the second line concern only W&B itself: it gets them, and a local sweep does not need them.
KNOWN = ("name", "description", "method", "metric", "parameters", "early_terminate", "run_cap", "command")
WANDB_ONLY = ("program", "project", "entity", "apiVersion", "kind", "controller", "job", "image_uri")


@dataclass(frozen=True)
class EarlyTerminate:
    """When a run is stopped. An iteration is an epoch.

    Args:
        kind: ``hyperband``, or ``median``, which W&B does not have.
        brackets: the epochs at whose end runs are compared; empty for ``median``, which compares after each.
        eta: hyperband lets about the best 1/eta of the runs go on.
        strict: hyperband lets no more than the best 1/eta go on.
        min_iter: median compares from this epoch on.
    """

    kind: str
    brackets: tuple[int, ...] = ()
    eta: float = 3.0
    strict: bool = False
    min_iter: int = 1


@dataclass(frozen=True)
class SweepFile:
    """A sweep file.

    Args:
        name: of the file, without its suffix: the folder of its records, and the study of its runs.
        method: ``grid``, ``random`` or ``bayes``.
        metric: what is optimised; None if the file does not say it.
        parameters: what is varied, in order.
        early_terminate: when runs are stopped; None: never.
        run_cap: largest number of points; None: no limit.
        description: one sentence; empty for none.
        raw: the file as it is, for W&B.
    """

    name: str
    method: str
    metric: Metric | None
    parameters: dict[str, Parameter]
    early_terminate: EarlyTerminate | None
    run_cap: int | None
    description: str
    raw: dict[str, Any] = field(repr=False)


def sweep_files() -> dict[str, Path]:
    """Name -> file, over all configuration directories; a later directory wins."""
    return {path.stem: path for root in config_dirs() for path in sorted(root.glob(f"{SWEEPS}/*.yaml"))}


def find_file(text: str) -> Path:
    """The sweep file of this name or path. Raises ConfigError if there is none."""
    path, known = Path(text).expanduser(), sweep_files()
    if path.suffix in (".yaml", ".yml") or "/" in text:
        if path.is_file():
            return path
        raise ConfigError(f"there is no sweep file {text}; give a file, or one of {', '.join(known)}.")
    if text in known:
        return known[text]
    hint, names = did_you_mean(text, list(known)), ", ".join(known)
    raise ConfigError(f"there is no sweep {text!r}{alternatives(hint, f'are the path of a file, and {names}')}")


def load_file(text: str) -> SweepFile:
    """The sweep file of this name or path, checked. Raises ConfigError."""
    path = find_file(text)
    content = _content(path)
    check_name(path.stem, "the name of the sweep file")
    place = path.name
    for key in content:
        if key not in (*KNOWN, *WANDB_ONLY):
            hint = did_you_mean(str(key), [*KNOWN, *WANDB_ONLY])
            raise ConfigError(f"{place} has no key {key!r}{alternatives(hint, f'are {listed(KNOWN)}')}")
    method = content.get("method")
    if method not in METHODS:
        hint = did_you_mean(str(method), METHODS)
        said = f"method: {method} is not possible" if method else "there is no method"
        raise ConfigError(f"{place}: {said}{alternatives(hint, f'are {listed(METHODS)}')}")
    given = content.get("parameters")
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"{place} has no parameters; write parameters: {{optim.lr: {{values: [0.01, 0.1]}}}}.")
    metric = _metric(content.get("metric"), place)
    if method == "bayes" and metric is None:
        raise ConfigError(f"{place}: method: bayes needs a metric: {{name: val/accuracy, goal: maximize}}.")
    _check_command(content.get("command"), place)
    return SweepFile(
        name=path.stem,
        method=str(method),
        metric=metric,
        parameters={str(name): parameter(str(name), value, place) for name, value in given.items()},
        early_terminate=_early_terminate(content.get("early_terminate"), metric, place),
        run_cap=_count(content.get("run_cap"), f"{place}: run_cap"),
        description=" ".join(str(content.get("description") or "").split()),
        raw=content,
    )


def _content(path: Path) -> dict[str, Any]:
    import yaml

    try:
        check_size(path)
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no sweep file: it has to be a mapping with method and parameters.")
    return content


def _check_command(given: Any, place: str) -> None:
    """Raise ConfigError unless W&B's agent can start the command of a sweep file."""
    if given is not None and not (isinstance(given, list) and given and all(isinstance(word, str | int) for word in given)):
        raise ConfigError(f"{place}: command is no list of words; write command: [{', '.join(COMMAND)}].")


def _metric(given: Any, place: str) -> Metric | None:
    if given is None:
        return None
    allowed = ("name", "goal", "target", "impute", "impute_while_running")
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise ConfigError(f"{place}: metric has no name; write metric: {{name: val/accuracy, goal: maximize}}.")
    for key in given:
        if key not in allowed:
            hint = did_you_mean(str(key), allowed)
            raise ConfigError(f"{place}: metric has no key {key!r}{alternatives(hint, f'are {listed(allowed)}')}")
    goal, target = given.get("goal", "minimize"), given.get("target")
    if goal not in GOALS:
        hint = did_you_mean(str(goal), GOALS)
        raise ConfigError(f"{place}: metric.goal: {goal} is not possible{alternatives(hint, f'are {listed(GOALS)}')}")
    if target is not None and not is_number(target):
        raise ConfigError(f"{place}: metric.target is {target!r}, not a number.")
    return Metric(given["name"], goal, target)


def _early_terminate(given: Any, metric: Metric | None, place: str) -> EarlyTerminate | None:
    if given is None:
        return None
    what = f"{place}: early_terminate"
    if not isinstance(given, dict) or given.get("type") not in ("hyperband", "median"):
        named = given.get("type") if isinstance(given, dict) else given
        raise ConfigError(f"{what}: type {named!r} is not possible: allowed are hyperband, median.")
    if metric is None:
        raise ConfigError(f"{what} needs a metric: {{name: val/accuracy, goal: maximize}}.")
    kind = given["type"]
    allowed = ("type", "min_iter", "max_iter", "s", "eta", "strict") if kind == "hyperband" else ("type", "min_iter")
    for key in given:
        if key not in allowed:
            hint = did_you_mean(str(key), allowed)
            raise ConfigError(f"{what} has no key {key!r}{alternatives(hint, f'are {listed(allowed)}')}")
    if kind == "median":
        return EarlyTerminate(kind, min_iter=_count(given.get("min_iter", 1), f"{what}: min_iter") or 1)
    return _hyperband(given, what)


def _hyperband(given: Mapping[str, Any], what: str) -> EarlyTerminate:
    eta, strict = given.get("eta", 3), given.get("strict", False)
    if isinstance(eta, bool) or not isinstance(eta, int | float) or not LEAST_ETA <= eta < math.inf:
        raise ConfigError(f"{what}: eta is {eta!r}: allowed is a number of at least {LEAST_ETA}.")
    if not isinstance(strict, bool):
        raise ConfigError(f"{what}: strict is {strict!r}: allowed are true, false.")
    low, high = _count(given.get("min_iter"), f"{what}: min_iter"), _count(given.get("max_iter"), f"{what}: max_iter")
    if (low is None) == (high is None):
        raise ConfigError(f"{what} needs min_iter, or max_iter with s (the number of brackets), and not both.")
    if high is None:
        assert low is not None
        brackets = [low * eta**k for k in range(math.ceil(math.log(1e6 / low, eta)) + 1)] if low < 1e6 else [low]
    else:
        s = _count(given.get("s"), f"{what}: s")
        if s is None:
            raise ConfigError(f"{what} with max_iter needs s, the number of brackets.")
        brackets = [high / eta**k for k in range(1, min(s, 100) + 1)]
    epochs = tuple(sorted({int(epoch) for epoch in brackets if epoch >= 1}))
    if not epochs:
        raise ConfigError(f"{what} has no bracket of at least 1 epoch; raise max_iter, or lower eta.")
    return EarlyTerminate("hyperband", epochs, float(eta), strict)


def _count(value: Any, what: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigError(f"{what} is {value!r}: allowed is a whole number of at least 1.")
    return value
