"""What is wrong with a configuration, for the user."""

from __future__ import annotations

from collections.abc import Sequence

from bnexp.config.typed import MessageError


class ConfigError(MessageError):
    """A configuration that cannot run. The message is one sentence for the user: what, where, allowed, how to fix."""


class MachineError(ConfigError):
    """A configuration that this machine cannot train, whichever run it is: one message, not one for each run."""


def refuse_text(name: str, values: Sequence[str], example: str) -> None:
    """Raise ConfigError if an argument of the Python API is one text: its letters would be taken for a list of texts.

    Args:
        name: of the argument.
        values: its value.
        example: a text that could stand in the list.
    """
    if isinstance(values, str):
        raise ConfigError(f'{name} is one text: give a list of texts, like ["{example}"].')
