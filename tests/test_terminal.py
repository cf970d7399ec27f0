"""What is printed shows every character and lets none of them steer the terminal."""

from __future__ import annotations

import io

import pytest
from rich.progress import Progress, TextColumn
from rich.text import Text

from bnexp.metrics import EpochMetrics, RunStarted
from bnexp.terminal import SafeConsole, visible, visible_line
from bnexp.tracking.progress import ProgressSink
from tests.tracking.records import make_spec


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x1b]0;title\a", r"\x1b]0;title\x07"),
        ("100 %\r  0 %\b", r"100 %\r  0 %\x08"),
        ("\x9b2J\x7f\x00", r"\x9b2J\x7f\x00"),
        ("a\u202eb\u2066c\u200f\u2028", r"a\u202eb\u2066c\u200f\u2028"),
        ("folder\udcff", r"folder\udcff"),  # a name that is no text, as Python reads it
        ("größer 数字 ماء − 95 %\n\tb", "größer 数字 ماء − 95 %\n\tb"),
    ],
)
def test_characters_that_steer_are_shown_as_their_escapes(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_cell_stays_on_its_line() -> None:
    assert visible_line("a\nb\tc\x1b") == r"a\nb\tc\x1b"


def terminal(width: int = 120) -> tuple[SafeConsole, io.StringIO]:
    out = io.StringIO()
    return SafeConsole(file=out, force_terminal=True, width=width, color_system=None), out


def test_a_console_shows_whatever_it_is_given() -> None:
    console, out = terminal()
    console.print("a\x1b[2J\r", Text("b\x1b]0;"), ":cat:", markup=False)
    with Progress(TextColumn("{task.description}"), console=console, auto_refresh=False) as progress:
        progress.add_task("c\x9b31m")
    assert r"a\x1b[2J\r b\x1b]0; :cat:" in out.getvalue()
    assert r"c\x9" in out.getvalue()  # cut to the room that Rich measured
    assert not [code for code in ("\x1b[2J", "\x1b]", "\x9b") if code in out.getvalue()]


def test_a_long_line_is_broken_after_what_it_shows() -> None:
    console, out = terminal(width=40)
    console.print("\x1b[31m" * 3 + " six words that must all be shown")
    assert out.getvalue().split() == [r"\x1b[31m" * 3, "six", "words", "that", "must", "all", "be", "shown"]


def test_a_run_in_progress_is_named_by_what_can_be_read() -> None:
    console, out = terminal()
    spec = make_spec()
    spec.config.study.levels = {"rate": "evil\x1b[31m\r[bold]"}
    with ProgressSink(console) as sink:
        sink.begin([spec])
        sink.record(spec, RunStarted(spec.run_id, 1, 1, "cpu", "eager"))
        sink.record(spec, EpochMetrics(spec.run_id, 1, 1, {"val/accuracy": 0.5, "time/images_per_second": 1.0}))
        sink._progress.refresh()
    assert r"evil\x1b[31m\r[bold]" in out.getvalue()
    assert "\x1b[31m" not in out.getvalue()
