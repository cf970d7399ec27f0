"""What is meant by a command line that other tools would take, like ``--lr 0.1`` for ``optim.lr=0.1``."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from bnexp.config.schema import ConfigError
from bnexp.config.synonyms import COMMANDS, plain


def refuse_foreign(app: typer.Typer, arguments: Sequence[str]) -> None:
    """Raise ConfigError if a command or option does not exist here and what is meant by it is known.

    Args:
        app: the commands.
        arguments: those of the command line, without the name of the program.
    """
    if not arguments or arguments[0].startswith("-"):
        return
    commands = getattr(typer.main.get_command(app), "commands", {})
    name, rest = arguments[0], arguments[1:]
    meant = COMMANDS.get(plain(name))
    if name not in commands and meant in commands:
        raise ConfigError(f"there is no command {name}. Did you mean bnexp {meant}? See all with bnexp --help.")
    known = {option for parameter in commands[name].params for option in parameter.opts} if name in commands else None
    unknown = (
        [] if known is None else [a for a in rest if a.startswith("--") and a.partition("=")[0] not in (*known, "--", "--help")]
    )
    if unknown:
        _refuse_options(unknown, rest)


def _refuse_options(unknown: Sequence[str], rest: Sequence[str]) -> None:
    """Raise ConfigError for the first option that names a setting: those are written without dashes."""
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
        raise ConfigError(f"there is no option --{name}; settings are written without dashes: {meant}={value}.")
