"""The console that prints everything. Text from files, data and records is shown, but cannot control the terminal."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

LONG = 2_000  # characters of an error; of a longer one only so many are shown:
FIRST, LAST = 200, 600

# Control characters except tab and newline, marks that reverse the direction of text, line separators, surrogates.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""``text`` with every character that would control a terminal replaced by its escape: ``\x1b``, ``\r``, ``\u202e``."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def visible_line(text: str) -> str:
    """``visible`` for text that must stay on one line, like the cell of a table."""
    return visible(text).replace("\n", r"\n").replace("\t", r"\t")


def one_line(error: BaseException) -> str:
    """The message of an error as one line without a full stop, cut to 300 characters; its type if it has no message."""
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__


def shortened(text: str) -> str:
    """The text; of a very long one only the beginning and the end, because an error may repeat a value of any length."""
    if len(text) <= LONG:
        return text
    return f"{text[:FIRST]} ... [{len(text) - FIRST - LAST:,} characters left out] ... {text[-LAST:]}"


class SafeConsole(Console):
    """A Rich console that shows all text as ``visible`` does, so that only Rich itself sets colours and moves the cursor.

    Rich measures a ``Text`` before its characters are replaced, and may cut it too short. So make a ``Text`` from the result of
    ``visible_line``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, **options)

    def on_broken_pipe(self) -> None:
        """The reader, such as ``head``, has gone: nothing more is printed, but the work goes on. Rich itself would end it."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
