"""The progress display, always on stderr: on a terminal one live line per run and a total, elsewhere plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from bnexp.metrics import EpochMetrics, Record, RunFailed, RunFinished, RunStarted, RunStopped
from bnexp.plan.spec import RunSpec
from bnexp.terminal import SafeConsole, visible_line
from bnexp.tracking.outlook import Outlook
from bnexp.tracking.sink import Sink

WIDE = 100  # columns that a complete line takes
PLAIN_SECONDS = 15.0  # between two plain lines of one run that is still training


class ProgressSink(Sink):
    """Shows what is training.

    Args:
        console: where it is shown. Lines are live if it is a terminal that can move its cursor.
    """

    def __init__(self, console: SafeConsole) -> None:
        self.console = console
        self.live = console.is_terminal and not console.is_dumb_terminal
        roomy = console.width >= WIDE
        label = None if roomy else console.width // 3
        text = None if roomy else max(12, console.width - console.width // 3 - 16)  # what label, count and time leave
        self._progress = Progress(
            TextColumn("{task.description}", table_column=_cut(label)),
            *([BarColumn(bar_width=24)] if roomy else []),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}", table_column=_cut(text)),
            _TimeLeft(self._seconds_left),
            console=console,
            disable=not self.live,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._total: TaskID | None = None
        self._num_runs = 0
        self._num_done = 0
        self._last_line: dict[str, float] = {}
        self._outlook: Outlook | None = None
        self._began: dict[str, float] = {}  # run id -> when it began to train
        self._told_at: float | None = None  # when the outlook was last told of a run

    def expect(self, outlook: Outlook) -> None:
        """Show the time left by what the runs are expected to take. Without it, epochs of all runs count alike."""
        self._outlook = outlook

    def _seconds_left(self, task: Task) -> float | None:
        """What a task will still take; None if only its own speed tells."""
        left = self._outlook.seconds if self._outlook and task.id == self._total else None
        waited = 0.0 if self._told_at is None else time.monotonic() - self._told_at
        return None if left is None else max(0.0, left - waited)

    def begin(self, specs: Sequence[RunSpec]) -> None:
        self._num_runs += len(specs)
        if self._total is None:
            self._total = self._progress.add_task("[bold]all runs", total=0, text="epochs")
            self._progress.start()
        epochs = sum(spec.config.train.epochs for spec in specs)
        self._progress.update(self._total, total=(self._progress.tasks[0].total or 0) + epochs)

    def record(self, spec: RunSpec, record: Record) -> None:
        match record:
            case RunStarted():
                self._forget(spec)  # a run that is tried again starts over
                task = self._progress.add_task(_label(spec), total=spec.config.train.epochs, text="epochs")
                self._tasks[spec.run_id] = task
                self._began[spec.run_id] = self._last_line[spec.run_id] = time.monotonic()
                self._tell(spec, 0)
            case EpochMetrics():
                self._epoch(spec, record)
            case RunFinished():
                self._done(spec, outcome_text(record))
            case RunStopped():
                self._done(spec, f"[yellow]stopped[/] after epoch {record.epoch}  {escape(epoch_text(record.metrics))}")
            case RunFailed():
                self._done(spec, f"[red]failed:[/] {escape(record.error)}")

    def close(self) -> None:
        self._progress.stop()

    def _tell(self, spec: RunSpec, epochs: int, *, ended: bool = False) -> None:
        """Tell the outlook how far a run has come."""
        if self._outlook is not None:
            self._told_at = time.monotonic()
            took = self._told_at - self._began.get(spec.run_id, self._told_at)
            self._outlook.advance(spec.run_id, epochs / spec.config.train.epochs, took, ended=ended)

    def _epoch(self, spec: RunSpec, record: EpochMetrics) -> None:
        assert self._total is not None
        self._tell(spec, record.epoch)
        text = escape(epoch_text(record.metrics))
        self._progress.update(self._tasks[spec.run_id], completed=record.epoch, text=text)
        self._progress.advance(self._total)
        now = time.monotonic()
        if not self.live and now - self._last_line[spec.run_id] >= PLAIN_SECONDS:
            self._last_line[spec.run_id] = now
            self.console.print(f"{_label(spec)}: epoch {record.epoch}/{spec.config.train.epochs}, {text}", soft_wrap=True)

    def _done(self, spec: RunSpec, text: str) -> None:
        self._num_done += 1
        epochs = self._forget(spec)
        self._tell(spec, epochs, ended=True)
        if self._total is not None:
            self._progress.advance(self._total, spec.config.train.epochs - epochs)
        width = len(str(self._num_runs))
        line = f"[dim]{self._num_done:>{width}}/{self._num_runs}[/]  {_label(spec)}  {text}"
        self.console.print(line, soft_wrap=True)

    def _forget(self, spec: RunSpec) -> int:
        """Remove a run's line. Returns how many of its epochs were done."""
        task = self._tasks.pop(spec.run_id, None)
        if task is None:
            return 0
        done = next((int(item.completed) for item in self._progress.tasks if item.id == task), 0)
        self._progress.remove_task(task)
        return done


class _TimeLeft(TimeRemainingColumn):
    """The time left, by an expectation if there is one, else by the speed so far.

    Args:
        expected: seconds that a task will still take; None if nothing is expected.
    """

    def __init__(self, expected: Callable[[Task], float | None]) -> None:
        super().__init__(compact=True)
        self._expected = expected

    def render(self, task: Task) -> Text:
        seconds = self._expected(task)
        return super().render(task) if seconds is None else Text(clock_text(seconds), style="progress.remaining")


def clock_text(seconds: float) -> str:
    """A duration as a clock shows it: ``02:05``, ``1:02:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def _label(spec: RunSpec) -> str:
    """The run's name, escaped so that it is not read as markup."""
    return escape(visible_line(spec.label))


def _cut(width: int | None) -> Column:
    """A column of one line, cut at ``width``."""
    return Column(no_wrap=True, overflow="ellipsis", max_width=width)


def epoch_text(metrics: dict[str, float]) -> str:
    """Loss, accuracy and speed of an epoch in a few words. The accuracy is that of validation, or of training without it.

    Args:
        metrics: of the epoch.
    """
    split = "val" if "val/accuracy" in metrics else "train"
    loss = f"loss {metrics['train/loss']:.3f}" if "train/loss" in metrics else "diverged"
    return f"{loss}  {split} {100 * metrics[f'{split}/accuracy']:.2f} %  {metrics['time/images_per_second']:,.0f} images/s"


def outcome_text(record: RunFinished) -> str:
    """How a run ended, in a few words with markup."""
    if record.diverged_at is not None:
        return f"[yellow]diverged[/] at step {record.diverged_at}, counts at chance"
    return f"test accuracy [bold]{100 * record.metrics['test/accuracy']:.2f} %[/]  [dim]{record.seconds:.1f} s[/]"
