"""Values that a configuration takes from environment variables may be secret: messages show them as they were typed."""

from __future__ import annotations

import ast
import re
from contextlib import suppress

LONG = 8  # characters of a value that is no part of another word by chance

_typed: dict[str, str] = {}  # value -> the interpolation that gave it


def remember(value: str, interpolation: str) -> None:
    """From now on messages show ``interpolation``, like ``${oc.env:NAME}``, instead of ``value``."""
    forms = {value}
    with suppress(ValueError, SyntaxError):  # a number or a list, as messages write it
        literal = ast.literal_eval(value.strip())
        forms |= {str(literal)} | ({f"{literal:g}"} if isinstance(literal, int | float) else set())
    _typed.update(dict.fromkeys(forms - {""}, interpolation))


def as_typed(text: str) -> str:
    """The text without the values; a short one is looked for only behind ``=`` or a quotation mark."""
    for value in sorted(_typed, key=len, reverse=True):
        pattern = re.escape(value) if len(value) >= LONG else rf"(?<=[='\"]){re.escape(value)}(?![\w.])"
        text = re.sub(pattern, _typed[value].replace("\\", r"\\"), text)
    return text


class MessageError(Exception):
    """An error whose message is for the user, and holds no value of an environment variable."""

    def __init__(self, message: str) -> None:
        super().__init__(as_typed(message))
