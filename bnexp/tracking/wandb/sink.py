"""Weights & Biases while runs train: curves go to the server as they come, everything else is published from the record.

Offline nothing is written while a run trains; its files are written from its record while the next runs train. W&B holds a copy
of the local record, so nothing here may stop or slow a training: calls are made on threads of their own, a server that is away
turns the sink offline, and what went wrong is said once, at the end, in ``messages`` and ``lost``.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

from bnexp.config.schema import TrackConfig
from bnexp.data.images import ImagesById
from bnexp.interrupt import was_stopped
from bnexp.metrics import EpochMetrics, EpochPredictions, Record, RunFailed, RunFinished, RunStarted, RunStopped, StepMetrics
from bnexp.plan.spec import RunSpec
from bnexp.tracking.records import DataFacts, RecordedRun
from bnexp.tracking.sink import Sink
from bnexp.tracking.store import Store
from bnexp.tracking.tables import prediction_frame, select_rows
from bnexp.tracking.wandb.content import Member, identity, run_config
from bnexp.tracking.wandb.media import wandb_table
from bnexp.tracking.wandb.publishing import Publisher
from bnexp.tracking.wandb.sending import define_metrics
from bnexp.tracking.wandb.server import meaning
from bnexp.tracking.wandb.session import WandbSession
from bnexp.tracking.wandb.tables import prediction_table

if TYPE_CHECKING:
    import wandb

NUM_LANES = 8  # opening an online run is mostly waiting for the server
MAX_UPLOADS = 16  # runs whose upload is waited for at once; each keeps a file open


class WandbSink(Sink):
    """Brings every run to W&B while it trains and when it ends.

    Calls to W&B are made on threads of the sink. All records of one run are handled by one thread, in order. An error never
    reaches the caller: it ends the recording of its run. After ``close``, ``lost`` has a line for each kind of error that did;
    who brings the runs to W&B once more, as a study does when it is concluded, needs it not. ``messages`` are for everyone;
    ``session.report`` adds where the runs are.

    Args:
        track: mode, project and more, and the number of predictions.
        store: where the runs are recorded. The record of a run must be complete before its last record comes here.
        images: test images by their ids, (N,) -> uint8 pixels (N, H, W, C).
        facts: about the data set.
        data: its name.
    """

    def __init__(self, track: TrackConfig, store: Store, images: ImagesById, facts: DataFacts, data: str) -> None:
        self.session = WandbSession(track.wandb)
        self.messages = self.session.messages
        self.lost: list[str] = []
        self._store = store
        self._publisher = Publisher(self.session, track, lambda _: images)
        self._shared = self._publisher.share(facts, data, images)
        self._class_names, self._num_predictions = facts.class_names, track.predictions
        self._alone = False
        self._lanes: list[_Lane] = []
        self._lane_of: dict[str, int] = {}
        self._broken: dict[str, str] = {}  # run id -> error
        self._open: dict[str, _OpenRun] = {}
        self._finishing: list[threading.Thread] = []
        self._uploads = threading.Semaphore(MAX_UPLOADS)
        self._looking = threading.Lock()  # the first look at W&B imports it
        self._first_look = threading.Thread(target=self._is_disabled, name="W&B", daemon=True)
        self._writing = threading.Lock()  # offline runs are one core's work at a time

    def begin(self, specs: Sequence[RunSpec]) -> None:
        self._alone = len(specs) == 1
        self._first_look.start()  # the first record is some time away, because torch is still loading

    def record(self, spec: RunSpec, record: Record) -> None:
        if isinstance(record, RunFinished):  # the store has what it holds
            record = RunFinished(record.run_id, {}, record.seconds, None, {})
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
            self.lost.append(f"W&B: recording stopped for {count} run{'s' * (count > 1)} ({reason}).")
        self._broken.clear()

    def _handle(self, spec: RunSpec, record: Record) -> None:
        """Log one record; an error ends the recording of its run. Called on a thread of the sink."""
        if spec.run_id in self._broken:
            return
        try:
            if not self._is_disabled():
                self._log(spec, record)
        except Exception as error:
            self._broken[spec.run_id] = meaning(error)

    def _is_disabled(self) -> bool:
        with self._looking:
            return self.session.disabled

    def _log(self, spec: RunSpec, record: Record) -> None:
        match record:
            case RunStarted():
                with self._looking:
                    online = self.session.online
                if online:
                    self._open[spec.run_id] = self._start(spec, record)
            case StepMetrics(values=values):
                if opened := self._open.get(spec.run_id):
                    for step, metrics in values.items():
                        opened.run.log({"epoch": step / opened.steps_per_epoch, **metrics}, step=step)
            case EpochMetrics(epoch=epoch, step=step, metrics=metrics):
                if opened := self._open.get(spec.run_id):
                    opened.run.log({"epoch": epoch, **metrics}, step=step)
            case EpochPredictions(step=step, predictions=predictions):
                if (opened := self._open.get(spec.run_id)) and self._num_predictions:
                    shown = select_rows(prediction_frame(predictions), self._num_predictions, spec.config.data.name)
                    pictures = None if opened.run.offline else self._shared
                    table = wandb_table(prediction_table(shown, self._class_names), pictures, opened.run)
                    opened.run.log({"predictions": table}, step=step)
            case RunFinished() | RunStopped() | RunFailed():
                self._publish(spec)

    def _start(self, spec: RunSpec, started: RunStarted) -> _OpenRun:
        config, member = spec.config, Member.of_spec(spec)
        filed = identity(spec.run_id, member, spec.seed, config.data.name.value, config.model.name.value, self.session.config)
        run = self.session.open(filed | {"config": run_config(spec, member)}, alone=self._alone)
        define_metrics(run)
        return _OpenRun(run, started.num_steps / config.train.epochs)

    def _publish(self, spec: RunSpec) -> None:
        """Publish the record of a run that has ended."""
        opened = self._open.pop(spec.run_id, None)
        if opened is None:
            with self._writing:
                self._publish_from_record(spec, None)
            return
        self._uploads.acquire()  # a thread of its own waits for the upload while the next run is logged
        thread = threading.Thread(target=self._upload, args=(spec, opened.run), daemon=True)
        self._finishing.append(thread)
        thread.start()

    def _publish_from_record(self, spec: RunSpec, run: wandb.Run | None) -> None:
        record = RecordedRun(self._store.run_path(spec))
        self._publisher.one(record, Member.of_spec(spec), run, alone=self._alone)

    def _upload(self, spec: RunSpec, run: wandb.Run) -> None:
        try:
            self._publish_from_record(spec, run)
        except Exception as error:
            self._broken[spec.run_id] = meaning(error)
        finally:
            self._uploads.release()

    def _end(self) -> None:
        """Finish what is still open, and wait for the uploads."""
        status, exit_code = ("stopped", 0) if was_stopped() else ("interrupted", 1)
        for opened in self._open.values():
            with suppress(Exception):  # W&B's process may be what ended the run
                opened.run.summary.update({"status": status})
                opened.run.tags = [*(opened.run.tags or ()), status]
            self.session.finish(opened.run, exit_code)
        self._open.clear()
        for thread in self._finishing:
            thread.join()
        self._finishing.clear()


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


@dataclass(frozen=True)
class _OpenRun:
    """A W&B run that is logged while it trains."""

    run: wandb.Run
    steps_per_epoch: float
