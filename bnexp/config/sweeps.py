"""Several values of a key: how they are written, what other tools call that, and what a sweeper is given to vary."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bnexp.config.schema import ConfigError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

PARAMS = "hydra.sweeper.params"  # what a sweeper varies: key -> values, or for a searching one a distribution

# Function that gives an override several values -> how it is written.
SWEEPS = {
    "choice": "choice(A,B)",
    "glob": "glob(b*) or glob(*,exclude=batch*)",
    "interval": "interval(LOW,HIGH)",
    "range": "range(STOP) or range(START,STOP,STEP)",
    "shuffle": "shuffle(A,B) or shuffle(range(STOP))",
    "sort": "sort(A,B) or sort(A,B,reverse=true)",
    "tag": "tag(log,interval(LOW,HIGH))",
}

# What other tools call them.
_LOG = "tag(log,interval(LOW,HIGH))"
DRAWS = dict.fromkeys(("uniform", "suggest_float", "float", "quniform", "q_uniform"), "interval(LOW,HIGH)")
DRAWS |= dict.fromkeys(("loguniform", "log_uniform", "log_uniform_values", "logspace", "log"), _LOG)
DRAWS |= dict.fromkeys(("categorical", "grid_search", "list", "values"), SWEEPS["choice"])
DRAWS |= dict.fromkeys(("linspace", "arange", "randint", "int_uniform"), SWEEPS["range"])


def several_values(text: str) -> str:
    """How several values are written, for an override that cannot be read; empty if it does not look like several."""
    called = re.match(r"[^=]+=(\w+)\(", text)
    if called and (form := SWEEPS.get(called[1]) or DRAWS.get(called[1])):
        return f"allowed is {form}, in quotes for the shell"
    if re.fullmatch(r"[^=]+=.*,|[-+.\de]+,?|[^=]+=\([^()]*\)", text):
        return "several values stand without blanks or brackets: optim.lr=0.1,0.2"
    return ""


def params_of(override: Override) -> dict[str, str]:
    """Key -> its values, as text, of one override of ``hydra.sweeper.params`` or of one key in it."""
    text, value = str(override.input_line), override.value()
    if override.key_or_group != PARAMS:
        values = value if isinstance(value, str) else text.partition("=")[2]
        return {override.key_or_group.removeprefix(f"{PARAMS}."): values}
    if not isinstance(value, dict):
        raise ConfigError(
            f"{text} is not possible: allowed is a mapping of keys to values, as {PARAMS}={{optim.lr: '0.01,0.1'}}."
        )
    return _dotted(value)


def _dotted(values: Mapping[Any, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as dotted key -> values as text; a list stands for several values."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _dotted(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return found


def refuse_interval(override: Override) -> None:
    """Raise ConfigError for an interval: it has no list of values, so only a sweeper that searches can take some of it."""
    if override.is_interval_sweep():
        raise ConfigError(
            f"{override.input_line} is for a searching sweeper; add hydra/sweeper=optuna to bnexp train -m, or list "
            f"the values: {override.key_or_group}=A,B."
        )
