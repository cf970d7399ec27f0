"""Says what is wrong with an override or a configuration file, in one sentence: the key, what is allowed, the fix."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from decimal import Decimal
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import Node, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    ConfigTypeError,
    InterpolationResolutionError,
    OmegaConfBaseException,
    ValidationError,
)
from omegaconf.resolvers import oc
from yaml import YAMLError

from bnexp.config import schema
from bnexp.config.keys import alternatives, did_you_mean, in_args, schema_keys, with_plus
from bnexp.config.schema import ConfigError
from bnexp.config.sweeps import PARAMS, params_of, several_values
from bnexp.config.synonyms import meant_value
from bnexp.config.typed import remember
from bnexp.config.validate import MAX_RUNS

# Names of variables that hold secrets. PWD alone is the working directory.
SECRET = re.compile(r"PASSWORD|PASSWD|._PWD$|SECRET|CREDENTIAL|API_?KEY|(^|_)(KEY|TOKEN|PAT|PASS)(_|$)", re.IGNORECASE)

# Launchers and sweepers -> what installs them; empty for those that are always there.
PLUGINS: Mapping[str, Mapping[str, str]] = {
    "launcher": {
        "cohort": "",
        "basic": "",
        "joblib": "bnexp[joblib]",
        "submitit_local": "bnexp[submitit]",
        "submitit_slurm": "bnexp[submitit]",
        "ray": "hydra-ray-launcher",
        "ray_aws": "hydra-ray-launcher",
    },
    "sweeper": {
        "study": "",
        "basic": "",
        "optuna": "bnexp[optuna]",
    },
}

# Plugins of Hydra's that no Python runs that bnexp supports -> what to use instead. An installed one would break every command.
OUTDATED = {"ax": "optuna", "nevergrad": "optuna", "rq": "joblib or submitit_slurm"}


def _env(name: str, *default: Any, _node_: Node) -> str | None:
    """OmegaConf's resolver ``oc.env``, changed: messages show the interpolation instead of the value, and secrets are refused.

    The reason is that a configuration is recorded as it is, on disk and on W&B. Hydra's own keys, under ``hydra``, are not
    recorded.
    """
    value = oc.env(name, *default)
    own = _node_._get_full_key(None).startswith("hydra")
    typed = f"${{oc.env:{','.join(map(str, (name, *default)))}}}"
    if SECRET.search(name) and not own:
        raise ConfigError(
            f"{_node_._get_full_key(None)}={typed} would record a secret: a configuration is written to disk and to W&B as it "
            "is; give the value itself, or a variable whose name says that it may be seen."
        )
    if value is not None and not own:
        remember(value, typed)
    return value


OmegaConf.register_new_resolver("oc.env", _env, replace=True)
OmegaConf.register_new_resolver("times", operator.mul, replace=True)


def parse(
    overrides: Sequence[str], known_groups: Mapping[str, list[str]], loader: ConfigLoader | None = None
) -> list[Override]:
    """Parse the overrides of a command line and check that the keys and files they name exist.

    Args:
        overrides: ``KEY=VALUE``, as typed.
        known_groups: config group -> names of its files.
        loader: Hydra's configuration loader, which finds the files of a ``glob``; None if no glob is to be resolved.

    Returns:
        The overrides, parsed, in the same order.

    Raises:
        ConfigError: an override cannot be read, a key or group member does not exist, or there would be too many runs.
    """
    keys = {info.name: info for info in schema_keys()}
    choices = {name: info.choices for name, info in keys.items()} | dict(known_groups)
    nodes = {name.rsplit(".", depth)[0] for name in keys for depth in range(1, name.count(".") + 1)}
    parser = OverridesParser.create(loader)
    parsed = [_added(item, parser) for item in _with_params([_parse(parser, text) for text in overrides], parser)]
    for override in parsed:
        name, text = override.key_or_group, override.input_line
        if override.is_delete():
            raise ConfigError(f"{text} would remove a key, which the configuration needs; set a value instead: {name}=VALUE.")
        if name.startswith("hydra"):
            continue
        if name in ("study.arm", "study.id", "study.levels", "data.fingerprint", "model.fingerprint"):
            by = "the study itself" if name.startswith("study.") else "bnexp"
            raise ConfigError(f"{name} is set by {by}; leave it out.")
        if name in known_groups:
            _check_choice(override, known_groups[name])
        elif name not in keys and name not in nodes and not _inside_mapping(name, keys):
            known = [*keys, *known_groups, "hydra.sweeper.n_trials"]
            hint = _with_value(did_you_mean(name, known), text or "", choices)
            raise ConfigError(f"there is no key {name!r} in the configuration.{hint} See all with bnexp config --keys.")
        elif isinstance(override.value(), Glob):
            raise ConfigError(
                f"{text} finds no value: glob chooses among the files of a group, as norm=glob(*); list the values."
            )
    numbers = {str(override.input_line): _num_values(override) for override in parsed}
    if (number := math.prod(max(count, 1) for count in numbers.values())) > MAX_RUNS:  # an empty range must not hide the others
        several = " ".join(text for text, count in numbers.items() if count > 1)
        raise ConfigError(f"{several} makes {number:,} runs: allowed are at most {MAX_RUNS:,}; give fewer values.")
    return parsed


def _with_value(hint: str, text: str, choices: Mapping[str, Sequence[str]]) -> str:
    """A hint at a key with the value that was typed, so that it can be copied: `` Did you mean data=cifar10?``."""
    name, value = hint.removeprefix(" Did you mean ").removesuffix("?"), text.partition("=")[2]
    if not hint or not value:
        return hint
    return f" Did you mean {name}={meant_value(name, value, choices.get(name, [])) or value}?"


def _parse(parser: OverridesParser, text: str) -> Override:
    try:
        return parser.parse_overrides([text])[0]  # parse_override forgets the loader
    except (HydraException, RecursionError, ValueError):
        if home := re.fullmatch(r"([^=]+)=(~/[^,'\"()\[\]{}]*)", text):  # Hydra reads ~ only in quotes
            return _parse(parser, f"{home[1]}='{home[2]}'")
        shown = text if len(text) <= 200 else f"{text[:200]}..."
        if form := several_values(text):
            raise ConfigError(f"cannot read {shown!r}: {form}.") from None
        raise ConfigError(
            f"cannot read {shown!r}: an override is KEY=VALUE, like optim.lr=0.1 or norm=batch; "
            "quote values with spaces or brackets for the shell."
        ) from None


def _with_params(overrides: Sequence[Override], parser: OverridesParser) -> list[Override]:
    """The overrides, with those of ``hydra.sweeper.params`` as what they mean: overrides with several values.

    Hydra reads them from files only: OmegaConf cannot set a part of a mapping that is null. A key that is also given by itself
    has that value, as in Hydra's sweepers.
    """
    params: dict[str, str] = {}
    for override in overrides:
        if override.key_or_group == PARAMS or override.key_or_group.startswith(f"{PARAMS}."):
            params |= params_of(override)
    others = [item for item in overrides if item.key_or_group != PARAMS and not item.key_or_group.startswith(f"{PARAMS}.")]
    typed = {item.key_or_group for item in others}
    return [*(_parse(parser, f"{key}={value}") for key, value in params.items() if key not in typed), *others]


def _num_values(override: Override) -> int:
    """How many values an override stands for, found without listing them; 1 if a sweeper or the files decide."""
    value: Any = override.value()
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if not isinstance(value, RangeSweep):
        return 1
    start, stop, step = (Decimal(str(number)) for number in (value.start, value.stop, value.step))
    if not step or not all(number.is_finite() for number in (start, stop, step)):
        raise ConfigError(
            f"{override.input_line} is not possible: allowed is range(START,STOP,STEP) of finite numbers, STEP other than 0."
        )
    return max(0, math.ceil((stop - start) / step))


def _inside_mapping(name: str, keys: dict[str, Any]) -> bool:
    return any(name.startswith(key + ".") and info.is_mapping for key, info in keys.items())


def _added(override: Override, parser: OverridesParser) -> Override:
    """An override, with the plus signs that it needs to add a new argument of a function of the user's."""
    if not in_args(override.key_or_group) or override.is_delete():
        return override
    return _parse(parser, with_plus(str(override.input_line)))


def _check_choice(override: Override, names: list[str]) -> None:
    for value in _chosen(override, names):
        choice = unescaped(value).strip("'\"")
        if choice not in names and choice != "null":
            group = override.key_or_group
            hint = did_you_mean(choice, names, group)
            raise ConfigError(f"{group}={choice} does not exist{alternatives(hint, 'are ' + ', '.join(names))}")


def _chosen(override: Override, names: list[str]) -> list[str]:
    """The group members that an override names."""
    value = override.value()
    if isinstance(value, Glob | IntervalSweep | RangeSweep):
        found = value.filter(names) if isinstance(value, Glob) else []
        return found or [str(override.input_line).split("=", 1)[1]]
    return list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.get_value_element_as_str()]


def unescaped(value: str) -> str:
    """A value as it was typed. Hydra puts a backslash before characters that are special in its grammar."""
    return value if value[:1] in ("'", '"') else re.sub(r"\\(.)", r"\1", value)


@contextmanager
def translated() -> Iterator[None]:
    """Inside, errors of Hydra, OmegaConf and YAML become ConfigErrors."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error)) from error
    except YAMLError as error:
        raise ConfigError(f"a configuration file is not valid YAML: {' '.join(str(error).split())}.") from error
    except RecursionError as error:
        raise ConfigError("the configuration has too many lists and mappings inside each other; write fewer.") from error


def _explain(error: Exception) -> str:
    chain = _chain(error)
    if own := next((cause for cause in chain if isinstance(cause, ConfigError)), None):
        return str(own)
    cause = next((cause for cause in chain if isinstance(cause, OmegaConfBaseException)), None)
    name = str(getattr(cause, "full_key", None) or "")
    text = " ".join(str(error).split())
    place = re.match(r"In '([^']*)'", text)
    where = f" ({place.group(1)}.yaml)" if place else ""
    if name.startswith("study.study") or "@study." in text:
        return f"a study file{where} sets keys of the whole configuration: its first line must be '# @package _global_'."
    if name and isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.object_type is schema.Decides:
        known = [item.name for item in fields(schema.Decides)]
        return f"study.decides{where} has no key {name!r}: allowed are {', '.join(known)}.{did_you_mean(name, known)}"
    if name and isinstance(cause, ConfigKeyError | ConfigAttributeError):
        known = [item.name for item in schema_keys()]
        if place and name.startswith("hydra.sweeper."):
            chosen = place[1].replace("/", "=")
            return (
                f"{chosen} sets {name}, which the sweeper that the command line chooses does not have: leave out "
                f"hydra/sweeper=..., or {chosen}."
            )
        if name.startswith("hydra.") and isinstance(cause.parent_node, Mapping):
            known = [f"{name.rpartition('.')[0]}.{key}" for key in cause.parent_node]
        return f"there is no key {name!r} in the configuration{where}.{did_you_mean(name, known)}"
    if name and isinstance(cause, OmegaConfBaseException):
        return _impossible(name, cause)
    if missing := re.search(r"Could not find 'hydra/(launcher|sweeper)/([\w.-]+)'", text):
        return _no_plugin(missing[1], missing[2])
    if missing := re.search(r"Could not find '([\w/]+)/([\w.-]+)' Available options in '[\w/]+': (.*?) Config search", text):
        names = missing[3].split()
        hint = did_you_mean(missing[2], names)
        named = "" if missing[1].startswith("hydra/") else where  # Hydra's own files are no place to look
        return f"{missing[1]}={missing[2]} does not exist{named}{alternatives(hint, 'are ' + ', '.join(names))}"
    return f"the configuration cannot be composed: {text.rstrip('.')}."


def _no_plugin(kind: str, name: str) -> str:
    """A sentence on a launcher or sweeper of Hydra's that is not installed, or that nobody knows."""
    if name in OUTDATED:
        return f"hydra/{kind}={name} does not work: its plugin needs Python 3.10 or older; use hydra/{kind}={OUTDATED[name]}."
    known = PLUGINS[kind]
    if package := known.get(name):
        return f"hydra/{kind}={name} needs a plugin that is not installed: pip install '{package}'."
    hint = did_you_mean(name, list(known), f"hydra/{kind}")
    return f"hydra/{kind}={name} does not exist{alternatives(hint, 'are ' + ', '.join(known))}"


def _chain(error: BaseException) -> list[BaseException]:
    """An error, what caused it, and so on. Each appears once: under a debugger OmegaConf makes an error the cause of itself."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def _impossible(name: str, cause: OmegaConfBaseException) -> str:
    """A sentence on what is wrong with the value of ``name``, a key or a part of one."""
    reason = str(cause.msg).splitlines()[0].removeprefix("KeyError raised while resolving interpolation: ").strip("\"'.")
    if isinstance(cause, InterpolationResolutionError) and not isinstance(cause, ValidationError):
        return f"{name} refers to what is not there: {reason}; give a value."
    referring = re.search(r"dereferencing interpolation '(.*?)':", str(cause.msg))
    value = referring[1] if referring else "null" if cause.value is None else str(cause.value)
    given = name if isinstance(cause, ConfigTypeError) else f"{name}={value}"
    if name.startswith("hydra.") and " is not a subclass of " in reason:
        return f"{given} is not possible: choose a file of that group, {name.replace('.', '/')}={value}, or give its keys."
    if wanted := re.search(r" is not a subclass of (\w+)", reason):
        keys = ", ".join(item.name for item in fields(getattr(schema, wanted[1])))
        return f"{given} is not possible: allowed is a mapping with the keys {keys}."
    info = {info.name: info for info in schema_keys()}.get(name)
    if info is None:
        return f"{given} is not possible: {reason}."
    if not referring and isinstance(cause.value, list) and cause.value:
        values = ",".join(map(str, cause.value))
        return f"{given} is not possible: allowed is {info.allowed()}; several values have no brackets: {name}={values}."
    hint = did_you_mean(value, info.choices, name)
    return f"{given} is not possible{alternatives(hint, f'is {info.allowed()} ({info.help})')}"
