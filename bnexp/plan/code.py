"""Code that the user names in a configuration: it is found, loaded and asked for its arguments before anything trains."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bnexp.config.factory import load_factory, name_code
from bnexp.config.keys import did_you_mean
from bnexp.config.options import DataName, ModelName
from bnexp.config.schema import ConfigError, RunConfig

NETWORK = ("norm", "in_channels", "num_classes", "size")  # what a network's function gets besides ``model.args``, in this order


def find_code(config: RunConfig, directory: Path | None = None) -> None:
    """Make the functions that a configuration names ready to be loaded, in any process, and set their fingerprints.

    Args:
        config: composed from overrides and files of the user; never one from a record.
        directory: where relative paths begin; None: the current directory.

    Raises:
        ConfigError: a function cannot be loaded, or does not take its arguments.
    """
    wanted = ((config.model, "model", ModelName.python, NETWORK), (config.data, "data", DataName.python, ()))
    for part, section, python, given in wanted:
        part.fingerprint = ""
        if part.name is python:
            key = f"{section}.factory"
            part.factory = name_code(part.factory or "", key, directory)
            function = load_factory(part.factory, key)
            part.factory = name_code(part.factory, key, directory)  # again: the code may have added to sys.path
            part.fingerprint = part.factory.fingerprint
            check_arguments(function, part.factory, given, part.args, section)


def check_arguments(
    function: Callable[..., Any], text: str, given: tuple[str, ...], args: Mapping[str, Any], section: str
) -> None:
    """Raise ConfigError unless a function can be called with the arguments ``given``, by position, and ``args``, by name."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a function that is not written in Python
        return
    try:
        signature.bind(*given, **args)
    except TypeError as error:
        shown, known = f"{text}{signature}", list(signature.parameters)[len(given) :]
        takes_any = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in signature.parameters.values())
        if unknown := [name for name in args if name not in known and not takes_any]:
            hint = did_you_mean(unknown[0], known)
            raise ConfigError(f"{section}.args.{unknown[0]} is no argument of {shown}.{hint}") from error
        call = ", ".join([*given, *(f"{name}={value}" for name, value in args.items())])
        try:
            signature.bind_partial(*given)
            how = f"arguments are given as {section}.args.NAME=VALUE"
        except TypeError:
            how = f"the first parameters of the function have to be ({', '.join(given)})"
        raise ConfigError(f"{section}.factory={shown} cannot be called with ({call}): {error}; {how}.") from error
