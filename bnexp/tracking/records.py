"""A recorded run: the one place that reads and checks the files of its directory.

The content of a file is checked before it is used (``reading.py``). So every property and method either gives typed values or
raises DamagedRecord. The place of a record is the path that it was read from, never something that it says.
"""

from __future__ import annotations

import hashlib
import math
import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bnexp.config.keys import metric_unit
from bnexp.plan.spec import flatten
from bnexp.plan.study import Level
from bnexp.tracking.parts import flat_settings
from bnexp.tracking.reading import (
    MIB,
    DamagedRecord,
    is_number,
    parse_json,
    read_as,
    read_bytes,
    read_text,
    read_yaml,
)

if TYPE_CHECKING:
    import polars as pl

# The largest files that are read, bytes. A thousand epochs, or a thousand classes, take a hundredth of that.
MOST_TEXT = 4 * MIB
MOST_METRICS = 256 * MIB
MOST_BINARY = 4096 * MIB

# The smallest values that are possible in a summary.
LEAST = {"seed": 0, "seconds": 0, "num_test": 0, "num_test_trained": 0, "num_parameters": 0, "num_steps": 0, "batch_size": 1}

SUMMARY, CONFIG, METRICS = "summary.json", "config.yaml", "metrics.jsonl"
FAILURE, STOPPED = "failure.json", "stopped.json"
LAST_PART = "study"  # of a configuration; one that was cut off may still be YAML, but lacks it
PREDICTIONS, WEIGHTS = "predictions.parquet", "model.safetensors"
OF_EPOCH = re.compile(r"predictions-([1-9][0-9]{0,8})\.parquet")


def epoch_predictions(epoch: int) -> str:
    """Name of the file with the predictions after an epoch that is not the last one."""
    return f"predictions-{epoch}.parquet"


@dataclass(frozen=True)
class DataFacts:
    """The facts about a run's data that reports and predictions need, so that they do not need the data.

    Args:
        class_names: the K classes in order of their labels.
        num_test: number of test images.
        fingerprint: hash of images, labels and class names; empty in a record that has none.
        pixel_mean: mean of each channel of the training images, pixel values scaled to 0..1; empty in a record that has none.
        pixel_std: their standard deviation, likewise.
        num_test_trained: number of test images that are also training images; None in a record that does not tell.
    """

    class_names: list[str]
    num_test: int
    fingerprint: str = ""
    pixel_mean: list[float] = field(default_factory=list)
    pixel_std: list[float] = field(default_factory=list)
    num_test_trained: int | None = None

    @property
    def chance(self) -> float:
        """Accuracy of guessing, a fraction."""
        return 1 / len(self.class_names)

    def like(self, other: DataFacts) -> bool:
        """Whether both can be the same data. Names of classes are not compared, nor is a fingerprint that one of them lacks."""
        known = all((self.fingerprint, other.fingerprint))
        sizes = [(facts.num_test, len(facts.class_names)) for facts in (self, other)]
        return sizes[0] == sizes[1] and (not known or self.fingerprint == other.fingerprint)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where an imported run comes from. Nothing here decides a path.

    Args:
        tool: what recorded the run.
        path: the file or folder that it was read from.
        id: what identifies it there.
        name: its name for people; empty if it has none.
        group: the group that it is in; empty for none.
        job_type: the kind of its work; empty for none.
        tags: its tags.
        state: how it ended, in the words of the tool; empty if the tool does not tell.
        digest: hash of everything that was imported; an import with the same digest changes nothing.
    """

    tool: Literal["wandb", "csv", "mlflow", "tensorboard"]
    path: str
    id: str
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    state: str = ""
    digest: str = ""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """``summary.json``: the result of a run. Not every version has recorded the fields with a default.

    An imported run has a ``source``. Its metrics may have any names, and nobody knows their units. Its ``data`` is empty.

    Args:
        data_fingerprint: hash of images, labels and class names; empty: not recorded.
        num_test: number of test images.
        num_test_trained: number of test images that are also training images.
        pixel_mean: mean of each channel of the training images, 1 value if they are grey, pixel values scaled to 0..1; with
            ``pixel_std`` it is what other images are normalised by.
        pixel_std: their standard deviation.
        levels: factor -> its level in this run.
        seed: None only if the run was imported, and its record does not tell.
        status: ``diverged`` if a loss was not finite; the run then counts at chance accuracy. ``failed``: an imported run that
            did not end well, or whose end was not recorded.
        metrics: metric -> value of the last epoch and of the test set; accuracies are fractions.
        diverged_at: the first step, counted from 1, with a loss that is not finite.
        seconds: wall time of the run; NaN only if it was imported, and its record does not tell.
        execution: as in ``metrics.RunStarted``.
        initial: likewise, of a run of the user's own network; empty: its arms start alike, or it is not recorded.
        environment: versions and machine.
        command: the command line that trained it.
        finished_at: date and time with time zone, ISO 8601; empty only if the run was imported, and its record does not tell.
        sha256: file name -> hash of the content, for the files that are not text.
        source: where the run was imported from; None for a run of our own.
    """

    run_id: str
    study: str
    data: str
    model: str | None = None
    batch_size: int | None = None
    data_fingerprint: str = ""
    class_names: list[str] = field(default_factory=list)
    num_test: int | None = None
    num_test_trained: int | None = None
    pixel_mean: list[float] = field(default_factory=list)
    pixel_std: list[float] = field(default_factory=list)
    arm: str
    levels: dict[str, Level]
    seed: int | None
    status: Literal["finished", "diverged", "failed"]
    diverged_at: int | None = None
    metrics: dict[str, float | None]
    seconds: float
    num_parameters: int | None = None
    num_steps: int | None = None
    device: str | None = None
    execution: str | None = None
    initial: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    command: str = ""
    finished_at: str
    sha256: dict[str, str] = field(default_factory=dict)
    source: Source | None = None

    def metric(self, name: str) -> float:
        """The value of a metric; NaN if it is null or was not recorded."""
        value = self.metrics.get(name)
        return math.nan if value is None else value


@dataclass(frozen=True)
class Failure:
    """``failure.json``: why a run has no summary.

    Args:
        error: one sentence.
        traceback: for developers.
    """

    error: str
    traceback: str = ""


@dataclass(frozen=True)
class Stopped:
    """``stopped.json``: a sweep stopped the run before its last epoch, so it has no summary.

    Args:
        by: id of the sweep.
        epoch: the last one that it trained.
        metrics: those of that epoch.
        seconds: wall time.
    """

    by: str
    epoch: int
    metrics: dict[str, float | None]
    seconds: float


@dataclass(frozen=True)
class RecordedRun:
    """A run on disk.

    Its properties and methods raise FileNotFoundError for a file that the run does not have, and DamagedRecord for one that
    cannot be used, unless they say otherwise.

    Args:
        path: the directory of the run; its name is the run id.
    """

    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def finished(self) -> bool:
        """Whether there is a whole ``summary.json``."""
        return isinstance(self._ending, Summary)

    @property
    def damage(self) -> DamagedRecord | None:
        """What is wrong with ``summary.json``; None if there is none, or nothing is wrong."""
        return self._ending if isinstance(self._ending, DamagedRecord) else None

    @property
    def summary(self) -> Summary:
        if self._ending is None:
            raise FileNotFoundError(self.path / SUMMARY)
        if isinstance(self._ending, DamagedRecord):
            raise self._ending
        return self._ending

    @cached_property
    def _ending(self) -> Summary | DamagedRecord | None:
        path = self.path / SUMMARY
        try:
            summary = read_as(Summary, path, MOST_TEXT)
        except FileNotFoundError:
            return None
        except DamagedRecord as damage:
            return damage
        if summary.source is None and (problem := _impossible(summary)):
            return DamagedRecord(path, problem)
        for name, least in LEAST.items():
            number = getattr(summary, name)
            if number is not None and (number < least or number == math.inf):
                return DamagedRecord(path, f"{name} is {number}, and at least {least} is possible")
        if len(summary.class_names) == 1:
            return DamagedRecord(path, "class_names has a single class")
        return summary

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration as nested plain values."""
        found = read_yaml(self.path / CONFIG, MOST_TEXT)
        if LAST_PART not in found:
            raise DamagedRecord(self.path / CONFIG, f"it ends before {LAST_PART}, the last part of every configuration")
        return found

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved configuration as ``{dotted key: value}``. Lists in it are shared by runs: only read them."""
        found = flat_settings(read_text(self.path / CONFIG, MOST_TEXT))
        return flatten(self.config) if found is None or LAST_PART not in found[0] else found[1]

    @property
    def failure(self) -> str | None:
        """Why the run failed; None if it did not."""
        try:
            return read_as(Failure, self.path / FAILURE, MOST_TEXT).error
        except FileNotFoundError:
            return None
        except DamagedRecord as damage:
            return f"the reason cannot be read: {damage}"

    @property
    def stopped(self) -> Stopped | None:
        """When and by what the run was stopped early; None if it was not, or if that cannot be read."""
        with suppress(FileNotFoundError, DamagedRecord):
            return read_as(Stopped, self.path / STOPPED, MOST_TEXT)
        return None

    @property
    def ended(self) -> bool:
        """Whether the run has finished, has failed or was stopped early; a damaged summary is no ending."""
        return self.finished or (self.damage is None and (self.failure is not None or self.stopped is not None))

    @property
    def unfinished(self) -> str:
        """How far a run came that has not finished, in words."""
        return f"stopped after epoch {self.stopped.epoch} by a sweep" if self.stopped else "not finished"

    def metrics(self, step_losses: bool = True) -> list[dict[str, float]]:
        """The lines of ``metrics.jsonl``: ``epoch``, ``step`` and metric values, with NaN for null; none without the file.

        In a run of our own, epochs and steps count from 1. In an imported run, steps count from 0, and an epoch is any number;
        often no line has one.
        A last line that is cut off is left out if the run has not finished. In a finished run it is damage.

        Args:
            step_losses: whether the lines that hold nothing but the loss of one step are wanted. There can be very many.
        """
        path = self.path / METRICS
        try:
            text = read_text(path, MOST_METRICS)
        except FileNotFoundError:
            return []
        *lines, rest = text.split("\n")
        imported = self.finished and self.summary.source is not None
        rows = [
            _row(path, line, f"line {number} is", imported)
            for number, line in enumerate(lines, 1)
            if step_losses or not _is_step_loss(line)
        ]
        if not self.finished:
            with suppress(DamagedRecord):
                rows.append(_row(path, rest, "the last line is", imported))
        elif rest or not rows:
            rows.append(_row(path, rest, "the last line is", imported))
        return rows

    @cached_property
    def facts(self) -> DataFacts | None:
        """The data that the run was tested on; None if neither its records nor the packed data on this machine tell.

        Records of older versions lack these facts. Then they are taken from packed data of the same content, or from the
        predictions.
        """
        from bnexp.data.packed import find_packed

        summary = self.summary
        if summary.source is not None:
            return None
        if summary.class_names and summary.num_test:
            told = summary.data_fingerprint, summary.pixel_mean, summary.pixel_std, summary.num_test_trained
            return DataFacts(summary.class_names, summary.num_test, *told)
        if packed := find_packed(summary.data_fingerprint):
            return DataFacts(list(packed.class_names), len(packed.array("test_labels")), packed.fingerprint)
        try:
            frame, num_classes = self._predictions()
        except (FileNotFoundError, DamagedRecord):
            return None
        return DataFacts([str(k) for k in range(num_classes)], len(frame), summary.data_fingerprint)

    def predictions(self) -> pl.DataFrame | None:
        """One row per test image, in order of ``image_id``, with ``tables.prediction_columns``; None without the file."""
        try:
            return self._predictions()[0]
        except FileNotFoundError:
            return None

    @property
    def predicted_epochs(self) -> list[int]:
        """The epochs before the last one after which predictions were recorded."""
        found = (OF_EPOCH.fullmatch(path.name) for path in self.path.glob("predictions-*.parquet"))
        return sorted(int(name[1]) for name in found if name)

    def outputs(self, epoch: int | None = None) -> pl.DataFrame | None:
        """As ``predictions``, with the probabilities ``p0 .. p<K-1>`` of the K classes.

        Args:
            epoch: one of ``predicted_epochs``; None for the trained network.
        """
        try:
            return self._predictions(PREDICTIONS if epoch is None else epoch_predictions(epoch), probabilities=True)[0]
        except FileNotFoundError:
            return None

    def _predictions(self, name: str = PREDICTIONS, *, probabilities: bool = False) -> tuple[pl.DataFrame, int]:
        from bnexp.tracking.tables import parse_predictions

        path = self.path / name
        frame, num_classes = parse_predictions(path, self._binary(path), probabilities=probabilities)
        known = self.summary.num_test, len(self.summary.class_names)
        if all(known) and known != (len(frame), num_classes):
            raise DamagedRecord(
                path, f"it has {len(frame):,} images of {num_classes} classes, and the run had {known[0]:,} of {known[1]}"
            )
        return frame, num_classes

    def weights(self) -> dict[str, NDArray[np.generic]]:
        """Parameter and buffer name -> array."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        path = self.path / WEIGHTS
        try:
            return dict(load(self._binary(path)))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise DamagedRecord(path, "it is no file of weights") from error

    def _binary(self, path: Path) -> bytes:
        """The content of a file of the run. If its hash was recorded, it is compared."""
        content = read_bytes(path, MOST_BINARY)
        recorded = self.summary.sha256.get(path.name)
        if recorded not in (None, hashlib.sha256(content).hexdigest()):
            raise DamagedRecord(path, "its content is not what the run recorded")
        return content


def _impossible(summary: Summary) -> str:
    """What is wrong with a run of our own that may be so in an imported one; empty if nothing is."""
    if summary.seed is None or math.isnan(summary.seconds):
        return "seed is null, not a whole number" if summary.seed is None else "seconds is nan, and at least 0 is possible"
    if summary.status == "failed":
        return "status is 'failed', not one of finished, diverged"
    for name, value in summary.metrics.items():
        if metric_unit(name) == "pp" and value is not None and 1 < abs(value) < math.inf:
            return f"metrics.{name} is {value:g}, and an accuracy is a fraction"
    return ""


def _is_step_loss(line: str) -> bool:
    """Whether a line of ``metrics.jsonl`` holds nothing but ``train/step_loss``, told without parsing it."""
    return '"train/step_loss"' in line and line.count('":') == 2  # "step" is the other name


def _row(path: Path, line: str, what: str, imported: bool) -> dict[str, float]:
    """One line of ``metrics.jsonl``. ``what`` begins the sentence about a wrong one: ``line 3 is``."""
    row = parse_json(path, line, what)
    if not isinstance(row, dict):
        raise DamagedRecord(path, f"{what} no mapping")
    found = {name: math.nan if value is None else value for name, value in row.items()}
    wrong = [name for name, value in found.items() if not is_number(value)]
    least = 0 if imported else 1
    if not _is_count(found.get("step"), least):
        wrong.append("step")
    if "epoch" in found and not imported and not _is_count(found["epoch"], least):
        wrong.append("epoch")
    if wrong:
        raise DamagedRecord(path, f"{what} wrong in {wrong[0]}: metrics are numbers, step and epoch count from {least}")
    return found


def _is_count(value: Any, least: int) -> bool:
    return type(value) is int and least <= value < 2**40
