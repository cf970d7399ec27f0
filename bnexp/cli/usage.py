"""What is said of a command line that cannot be read: one sentence with an example, instead of Typer's box."""

from __future__ import annotations

import re
from typing import Any

from typer.exceptions import TyperException

from bnexp.config.keys import did_you_mean


def usage_sentence(error: TyperException) -> str:
    """What is wrong with a command line, an example of how the command is typed, and where to read more."""
    context: Any = getattr(error, "ctx", None)
    if context is None:
        return _fault(error, "", None)
    name, command = context.command_path, context.command
    example = re.search(r"Examples?: (bnexp .+?)(?= {2,}|\n|$)", command.help or "")
    such = f" Example: {example[1]}" if example else ""
    return f"{_fault(error, name, command)}{such} (see {name} --help)"


def _fault(error: Any, name: str, command: Any) -> str:
    """What is wrong, as a sentence.

    Args:
        error: what Typer raised.
        name: how the command is called.
        command: Typer's command; None if the error does not tell.
    """
    said: str = error.format_message()
    parameters = command.params if command else []
    if said.startswith("No such option"):
        known = [option for parameter in parameters for option in parameter.opts if option.startswith("--")]
        return f"there is no option {error.option_name}.{did_you_mean(error.option_name, known)}"
    if found := re.match(r"No such command '([^']*)'", said):
        return f"there is no command {found[1]}.{did_you_mean(found[1], list(command.commands))}"
    if found := re.fullmatch(r"Option '(.*)' requires an argument\.", said):
        return f"{found[1]} needs a value."
    if said.startswith("Missing argument"):
        needed = [parameter.metavar or parameter.name.upper() for parameter in parameters if parameter.required]
        return f"{name} needs {' and '.join(needed)}."
    if found := re.match(r"Invalid value for '?([^':]*)'?: Input (.*?)(, unable to parse.*)?$", said):
        reason = found[2].replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
        return f"{found[1]} {reason.rstrip('.')}."
    return f"{said[:1].lower()}{said[1:].rstrip('.')}."
