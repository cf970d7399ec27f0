"""Weights & Biases: one W&B run for each run; ``study.py`` adds one for the study.

W&B holds a copy of the local record, so nothing here may stop or slow a training: calls are made on threads of their own, a
server that is away turns the sink offline, and what went wrong is said once, at the end, in ``messages``.
"""

from __future__ import annotations

import math
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bnexp.config.keys import OF_TRAINING, SPLITS, of_split
from bnexp.config.schema import WandbConfig
from bnexp.data.images import ImagesById
from bnexp.metrics import EpochMetrics, Predictions, Record, RunFailed, RunFinished, RunStarted, StepMetrics
from bnexp.plan.spec import RunSpec
from bnexp.tracking.sink import Sink
from bnexp.tracking.store import pack_weights
from bnexp.tracking.tables import class_accuracy, confusion_matrix, prediction_frame, select_rows
from bnexp.tracking.wandb.media import ImageCache, confusion_plot, prediction_table
from bnexp.tracking.wandb.server import meaning
from bnexp.tracking.wandb.session import WandbSession, tags

if TYPE_CHECKING:
    import wandb

NUM_LANES = 8  # opening an online run is mostly waiting for the server
MAX_UPLOADS = 16  # runs whose upload is waited for at once; each keeps a file open


class WandbSink(Sink):
    """Logs every run to W&B while it trains.

    Calls to W&B are made on threads of the sink. All records of one run are handled by one thread, in order. An error never
    reaches the caller: it ends the recording of its run, and equal errors become one line of ``messages``, which is complete
    after ``close``.

    Args:
        config: mode, project, entity and tags.
        study_id: completes the name of the W&B group; empty for runs without a study.
        class_names: names of the K classes.
        images: test images by their ids, (N,) -> uint8 pixels (N, H, W, C).
        num_predictions: test images in the prediction table; 0: no table.
        directory: where the folder ``wandb`` goes; None: the working directory. WANDB_DIR wins over it.
    """

    def __init__(
        self,
        config: WandbConfig,
        *,
        study_id: str,
        class_names: Sequence[str],
        images: ImagesById,
        num_predictions: int,
        directory: Path | None = None,
    ) -> None:
        self.session = WandbSession(config, directory)
        self.messages = self.session.messages
        self._study_id = study_id
        self._class_names = list(class_names)
        self._images = ImageCache(images)
        self._num_predictions = num_predictions
        self._alone = False
        self._lanes: list[_Lane] = []
        self._lane_of: dict[str, int] = {}
        self._broken: dict[str, str] = {}  # run id -> error
        self._open: dict[str, _OpenRun] = {}
        self._finishing: list[threading.Thread] = []
        self._uploads = threading.Semaphore(MAX_UPLOADS)
        self._computing = threading.Lock()  # offline, tables are one core's work at a time

    def begin(self, specs: Sequence[RunSpec]) -> None:
        self._alone = len(specs) == 1

    def record(self, spec: RunSpec, record: Record) -> None:
        if isinstance(record, RunFinished) and not self.session.config.artifacts:
            record = replace(record, weights={})
        lane = self._lane_of.setdefault(spec.run_id, len(self._lane_of) % NUM_LANES)
        if lane == len(self._lanes):
            self._lanes.append(_Lane(self._handle))
        self._lanes[lane].queue.put((spec, record))

    def close(self) -> None:
        """Wait until every record has been handled; a second call does nothing."""
        lanes, self._lanes = self._lanes, []
        self._lane_of.clear()
        for lane in lanes:
            lane.queue.put(None)
        for lane in lanes:
            lane.join()
        if lanes:
            try:
                self._end()
            except Exception as error:
                self.messages.append(f"W&B: recording did not end well ({meaning(error)}).")
        for reason, count in Counter(self._broken.values()).items():
            self.messages.append(f"W&B: recording stopped for {count} run{'s' * (count > 1)} ({reason}).")
        self._broken.clear()

    def _handle(self, spec: RunSpec, record: Record) -> None:
        """Log one record; an error ends the recording of its run. Called on a thread of the sink."""
        if spec.run_id in self._broken:
            return
        try:
            with self._computing:
                disabled = self.session.disabled
            if not disabled:
                self._log(spec, record)
        except Exception as error:
            self._broken[spec.run_id] = meaning(error)

    def _log(self, spec: RunSpec, record: Record) -> None:
        match record:
            case RunStarted():
                facts = {"num_parameters": record.num_parameters, "num_steps": record.num_steps, "device": record.device}
                self._open[spec.run_id] = self._start(spec, facts)
                self._open[spec.run_id].steps_per_epoch = record.num_steps / spec.config.train.epochs
            case StepMetrics(values=values):
                opened = self._open[spec.run_id]
                for step, metrics in values.items():
                    opened.log({"epoch": step / opened.steps_per_epoch, **metrics}, step)
            case EpochMetrics(epoch=epoch, step=step, metrics=metrics):
                self._open[spec.run_id].log({"epoch": epoch, **metrics}, step)
            case RunFinished():
                opened = self._open.pop(spec.run_id)
                try:
                    self._log_result(spec, opened, record)
                finally:
                    self._finish(opened.run, 0)
            case RunFailed(error=error):
                opened = self._open.pop(spec.run_id) if spec.run_id in self._open else self._start(spec, {})
                opened.mark("failed", error=error)
                self._finish(opened.run, 1)

    def _end(self) -> None:
        """Finish what is still open, wait for the uploads, and say where the runs are."""
        for opened in self._open.values():
            with suppress(Exception):  # W&B's process may be what ended the run
                opened.mark("interrupted")
            self._finish(opened.run, 1)
        self._open.clear()
        for thread in self._finishing:
            thread.join()
        self._finishing.clear()
        self.session.report()

    def _finish(self, run: wandb.Run, exit_code: int) -> None:
        """Finish on a thread of its own, which waits for the upload while the next run is logged."""
        self._uploads.acquire()
        thread = threading.Thread(target=self._upload, args=(run, exit_code), daemon=True)
        self._finishing.append(thread)
        thread.start()

    def _upload(self, run: wandb.Run, exit_code: int) -> None:
        try:
            self.session.finish(run, exit_code)
        finally:
            self._uploads.release()

    def _start(self, spec: RunSpec, facts: dict[str, Any]) -> _OpenRun:
        config = spec.config
        run = self.session.open(
            {
                "id": spec.run_id,
                "name": spec.label,
                "group": f"{spec.study}-{self._study_id}" if self._study_id else spec.study,
                "job_type": spec.arm,
                "tags": tags([config.data.name.value, config.model.name.value, spec.study, *self.session.config.tags]),
                "config": run_config(spec) | {"study_id": self._study_id} | facts,
            },
            alone=self._alone,
        )
        _define_metrics(run)
        return _OpenRun(run)

    def _log_result(self, spec: RunSpec, opened: _OpenRun, record: RunFinished) -> None:
        """Log the last metrics and how the run ended, then the tables of predictions and the weights."""
        opened.log({"epoch": opened.epoch, **record.metrics}, opened.step)
        if record.diverged_at is None:
            opened.mark("finished", seconds=record.seconds)
        else:
            opened.mark("diverged", seconds=record.seconds, diverged_at=record.diverged_at)
        with nullcontext() if self.session.online else self._computing:
            if record.predictions is not None:
                self._log_predictions(spec, opened, record.predictions)
            if self.session.config.artifacts and record.weights:
                _log_weights(opened.run, spec, record.weights)

    def _log_predictions(self, spec: RunSpec, opened: _OpenRun, predictions: Predictions) -> None:
        """Log the accuracy of each class, the confusion matrix, and the table of images that are worth looking at."""
        frame = prediction_frame(predictions)
        confusion = confusion_matrix(frame, len(self._class_names))
        names = [name.replace(".", "_") for name in self._class_names]  # W&B reads a dot as nesting
        rates = zip(names, class_accuracy(confusion).tolist(), strict=True)
        opened.run.summary.update({"test/class_accuracy": {name: rate for name, rate in rates if not math.isnan(rate)}})
        media = {"confusion_matrix": confusion_plot(confusion, self._class_names)}
        if self._num_predictions:
            shown = select_rows(frame, self._num_predictions, spec.config.data.name)
            media["predictions"] = prediction_table(shown, self._class_names, self._images)
        opened.log(media, opened.step)


class _Lane:
    """A thread that calls ``handle`` with what is put into its ``queue``, in order, until that is None."""

    def __init__(self, handle: Callable[[RunSpec, Record], None]) -> None:
        self.queue: SimpleQueue[tuple[RunSpec, Record] | None] = SimpleQueue()
        self._handle = handle
        self._thread = threading.Thread(target=self._work, name="W&B", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.join()

    def _work(self) -> None:
        while (item := self.queue.get()) is not None:
            self._handle(*item)


@dataclass
class _OpenRun:
    """A W&B run that is being logged, and the last epoch and step that were logged."""

    run: wandb.Run
    epoch: int = 0
    step: int = 0
    steps_per_epoch: float = 1.0

    def log(self, row: dict[str, Any], step: int) -> None:
        """Add a row at a number of updates. W&B drops rows whose step is smaller than the last one."""
        self.run.log(row, step=step)
        self.epoch, self.step = row.get("epoch", self.epoch), step

    def mark(self, status: str, **facts: Any) -> None:
        """Put the status and more facts into the summary. A run that has not finished gets its status as a tag too."""
        self.run.summary.update({"status": status, **facts})
        if status != "finished":
            self.run.tags = [*(self.run.tags or ()), status]


def run_config(spec: RunSpec) -> dict[str, Any]:
    """The configuration of a run as W&B keeps it: nested, which W&B shows as columns like ``optim.lr``.

    Of the study only the part about this run is kept (``study arm levels``). The sections ``track`` and ``executor`` are left
    out.
    """
    config = {name: value for name, value in spec.to_dict().items() if name not in ("study", "track", "executor")}
    levels = {name.replace(".", "_"): level for name, level in spec.levels.items()}
    return config | {"run_id": spec.run_id, "study": spec.study, "arm": spec.arm, "levels": levels}


def _define_metrics(run: wandb.Run) -> None:
    """Make ``epoch`` the x-axis; the summary has the smallest loss and the greatest accuracy beside the last ones."""
    run.define_metric("epoch")
    for split in SPLITS:
        for name, better in of_split(split).items():
            run.define_metric(f"{split}/{name}", step_metric="epoch", summary=f"{better},last")
    for name in OF_TRAINING:
        run.define_metric(name, step_metric="epoch")


def _log_weights(run: wandb.Run, spec: RunSpec, weights: Mapping[str, NDArray[np.generic]]) -> None:
    import wandb

    artifact = wandb.Artifact(f"model-{spec.run_id}", type="model", metadata={"study": spec.study, "label": spec.label})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        path.write_bytes(pack_weights(weights))
        artifact.add_file(str(path))  # copied
    run.log_artifact(artifact)
