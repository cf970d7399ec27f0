"""What is printed shows every character and lets none of them steer the terminal."""

from __future__ import annotations

import io

import pytest
from rich.progress import Progress, TextColumn
from rich.text import Text

from bnexp.metrics import EpochMetrics, RunFailed, RunStarted
from bnexp.terminal import SafeConsole, visible, visible_line
from bnexp.tracking.outlook import Outlook
from bnexp.tracking.progress import ProgressSink, clock_text
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


def test_the_time_left_is_the_forecast_at_first_and_then_goes_by_what_runs_take(monkeypatch: pytest.MonkeyPatch) -> None:
    console, out = terminal()
    a, b = make_spec(0), make_spec(1)
    for spec in (a, b):
        spec.config.train.epochs = 2
    now = 1000.0
    monkeypatch.setattr("bnexp.tracking.progress.time.monotonic", lambda: now)
    monkeypatch.setattr("bnexp.tracking.progress._TimeLeft.max_refresh", None)  # Rich asks twice a second

    def shown() -> str:
        out.truncate(0)
        sink._progress.refresh()
        (line,) = [line for line in out.getvalue().splitlines() if "all runs" in line]
        return line.split()[-1]

    with ProgressSink(console) as sink:
        sink.expect(Outlook([([spec.run_id], 3600.0) for spec in (a, b)], workers=1))
        sink.begin([a, b])
        assert shown() == "2:00:00"
        now += 100  # torch is being loaded
        assert shown() == "2:00:00"
        sink.record(a, RunStarted(a.run_id, 1, 1, "cpu", "eager"))
        now += 600
        assert shown() == "1:50:00"
        sink.record(a, EpochMetrics(a.run_id, 1, 1, {"val/accuracy": 0.5, "time/images_per_second": 1.0}))
        left = 5400 * (720 + 600) / (720 + 1800)  # a tenth of the expectation counts, and the epoch took 10 instead of 30 min
        assert shown() == clock_text(left) == "47:09"
        sink.record(a, RunFailed(a.run_id, "no memory"))
        assert shown() == clock_text(left * 3600 / 5400)
        now += 4000
        assert shown() == "00:00"


def test_without_a_forecast_the_time_left_is_by_epochs() -> None:
    console, out = terminal()
    spec = make_spec()
    with ProgressSink(console) as sink:
        sink.begin([spec])
        sink._progress.refresh()
    assert "--:--" in out.getvalue()
