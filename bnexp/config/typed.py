"""Keeps values of environment variables, which may be secret, out of messages: the interpolation as typed is shown instead."""

from __future__ import annotations

import ast
import re
from contextlib import suppress

LONG = 8  # characters; so long a value is not part of another word by chance

_typed: dict[str, str] = {}  # value -> the interpolation that gave it


def remember(value: str, interpolation: str) -> None:
    """From now on messages show ``interpolation``, such as ``${oc.env:NAME}``, instead of ``value``."""
    forms = {value}
    with suppress(ValueError, SyntaxError):  # a number or a list, as messages write it
        literal = ast.literal_eval(value.strip())
        forms |= {str(literal)} | ({f"{literal:g}"} if isinstance(literal, int | float) else set())
    _typed.update(dict.fromkeys(forms - {""}, interpolation))


def as_typed(text: str) -> str:
    """The text without the remembered values. A short value is replaced only after ``=`` or a quotation mark."""
    for value in sorted(_typed, key=len, reverse=True):
        pattern = re.escape(value) if len(value) >= LONG else rf"(?<=[='\"]){re.escape(value)}(?![\w.])"
        text = re.sub(pattern, _typed[value].replace("\\", r"\\"), text)
    return text


class MessageError(Exception):
    """An error whose message is for the user and contains no value of an environment variable."""

    def __init__(self, message: str) -> None:
        super().__init__(as_typed(message))
