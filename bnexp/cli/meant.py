"""What is meant by a command line that other tools would take, like ``--lr 0.1`` for ``optim.lr=0.1``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from typer.core import TyperGroup

from bnexp.cli.hydra_options import refuse_before_command, refuse_hydra_options
from bnexp.config.schema import ConfigError
from bnexp.config.synonyms import COMMANDS, plain


def refuse_foreign(group: TyperGroup, arguments: Sequence[str]) -> None:
    """Raise ConfigError if a command or option does not exist here and what is meant by it is known.

    Args:
        group: the commands.
        arguments: those of the command line, without the name of the program.
    """
    if not arguments:
        return
    commands, name, rest = group.commands, arguments[0], arguments[1:]
    if name in ("-h", "--help", *_options(group)):
        return
    if name.startswith("-") or "=" in name:
        command = next((word for word in rest if word in commands), "train")
        return refuse_before_command(name, command, _options(commands[command]))
    meant = COMMANDS.get(plain(name))
    if name not in commands and meant in commands:
        raise ConfigError(f"there is no command {name}. Did you mean bnexp {meant}? See all with bnexp --help.")
    if name not in commands:
        return
    known = _options(commands[name])
    if any(parameter.name == "overrides" for parameter in commands[name].params):
        refuse_hydra_options(name, rest, known)
    unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in (*known, "--", "--help")]
    if unknown and "--where" in known:
        _refuse_options(unknown, rest, _condition)
    elif unknown and any(parameter.name == "overrides" for parameter in commands[name].params):
        _refuse_options(unknown, rest, _setting)


def _options(command: Any) -> set[str]:
    """The options of a command of Typer's, or of the group of them."""
    return {option for parameter in command.params for option in parameter.opts}


def _refuse_options(unknown: Sequence[str], rest: Sequence[str], say: Callable[[str, str], str]) -> None:
    """Raise ConfigError for the first option that names a setting, with what to write instead.

    Args:
        unknown: the options that the command does not have.
        rest: what is typed behind the command.
        say: what to write for a setting and a value; empty if it is of no use here.
    """
    from bnexp.config.keys import schema_keys
    from bnexp.config.synonyms import meant_key, meant_value
    from bnexp.plan.session import groups

    choices = {info.name: info.choices for info in schema_keys()} | groups()
    for option in unknown:
        name, _, value = option.removeprefix("--").partition("=")
        if (meant := name if name in choices else meant_key(name, list(choices))) is None:
            continue
        following = [*rest[rest.index(option) + 1 :], ""][0]
        value = value or ("VALUE" if not following or following.startswith("-") or "=" in following else following)
        value = meant_value(meant, value, choices[meant]) or value
        if instead := say(meant, value):
            raise ConfigError(f"there is no option --{name}; {instead}.")


def _setting(key: str, value: str) -> str:
    return f"settings are written without dashes: {key}={value}"


def _condition(key: str, value: str) -> str:
    """How recorded runs of a setting are chosen. A study's own keys are not among the columns of runs."""
    from bnexp.comparison.varying import SAID_OTHERWISE

    if key.startswith("study."):
        return ""
    is_number = value.replace(".", "", 1).removeprefix("-").isdigit()
    text = value if is_number else f"'{value}'"
    return f'runs are chosen by a condition: --where "{SAID_OTHERWISE.get(key, key)} = {text}"'
