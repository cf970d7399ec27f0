"""Runs that nobody trained: specs and the records that they would yield."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnexp.config.options import NormKind
from bnexp.config.schema import RunConfig, TrackConfig, WandbConfig
from bnexp.data.images import ImagesById
from bnexp.metrics import EpochMetrics, Int64, Predictions, Record, RunFailed, RunFinished, RunStarted
from bnexp.plan.spec import RunSpec
from bnexp.tracking.records import DataFacts
from bnexp.tracking.sink import Fanout, Sink
from bnexp.tracking.store import Store, StoreSink
from bnexp.tracking.wandb.content import Member
from bnexp.tracking.wandb.sink import WandbSink

CLASSES = ["cat", "T-shirt/top", "St. Bernard"]
NUM_TEST = 40
PIXELS: NDArray[np.uint8] = np.random.default_rng(7).integers(0, 256, (NUM_TEST, 6, 6, 1), dtype=np.uint8)


def images(ids: Int64) -> NDArray[np.uint8]:
    """Pixels of test images, (N, 6, 6, 1)."""
    return PIXELS[ids]


def make_spec(seed: int = 0, *, arm: str = "batch", study: str = "demo") -> RunSpec:
    config = RunConfig(seed=seed)
    config.norm.kind = NormKind(arm)
    config.study.name, config.study.arm = study, arm
    config.study.levels = {"optim.lr": 0.1}
    config.study.id = "0a1b2c"
    return RunSpec(config)


def make_predictions(seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(len(CLASSES)), NUM_TEST).astype(np.float32)
    labels = np.random.default_rng(99).integers(0, len(CLASSES), NUM_TEST)
    return Predictions(np.arange(NUM_TEST), labels, probabilities)


def make_records(spec: RunSpec, *, epochs: int = 3, diverged_at: int | None = None) -> list[Record]:
    """All records of a run. Training loss falls from 1.0 by 0.1 an epoch; validation accuracy peaks in epoch 2."""
    started = {"num_parameters": 123, "num_steps": 10 * epochs, "device": "cpu", "execution": "eager: no CUDA device"}
    records: list[Record] = [RunStarted(spec.run_id, **started)]  # type: ignore[arg-type]
    for epoch in range(1, epochs + 1):
        loss = float("nan") if diverged_at else 1.1 - 0.1 * epoch
        metrics = {"train/loss": loss, "val/accuracy": 0.9 if epoch == 2 else 0.5, "time/epoch_seconds": 0.25}
        records.append(EpochMetrics(spec.run_id, epoch, 10 * epoch, metrics))
    predictions = None if diverged_at else make_predictions(spec.seed)
    weights = {"conv1.weight": np.arange(4, dtype=np.float32)}
    last = {"train/loss": loss, "test/loss": 0.7, "test/accuracy": 0.8}
    records.append(RunFinished(spec.run_id, last, 1.5, predictions, weights, diverged_at))
    return records


def failure(spec: RunSpec) -> RunFailed:
    return RunFailed(spec.run_id, "the batch does not fit into memory", "Traceback ...")


def play(sink: Sink, specs: Sequence[RunSpec], **options: int | None) -> None:
    """Hand the records of all runs to a sink, taking turns as a cohort does, and close it."""
    sink.begin(specs)
    for records in zip(*(make_records(spec, **options) for spec in specs), strict=True):  # type: ignore[arg-type]
        for spec, record in zip(specs, records, strict=True):
            sink.record(spec, record)
    sink.close()


class Recording(Fanout):
    """What the runner records to: the store beside W&B's folder, then W&B; at the end it says where the runs are.

    Args:
        wandb: mode, project and more.
        num_predictions: as ``track.predictions``.
        pixels: the test images; None for ours.
    """

    def __init__(self, wandb: WandbConfig | None = None, num_predictions: int = 16, pixels: ImagesById | None = None) -> None:
        self.store = Store(Path(os.environ["WANDB_DIR"], "runs"))
        facts = DataFacts(CLASSES, NUM_TEST, "content")
        track = TrackConfig(num_predictions, wandb=wandb or WandbConfig())
        self.wandb = WandbSink(track, self.store, pixels or images, facts, "mnist")
        self.messages = self.wandb.messages
        super().__init__([StoreSink(self.store, "bnexp train", facts), self.wandb])

    def close(self) -> None:
        super().close()
        self.messages.extend(self.wandb.lost)
        self.wandb.session.report()


def wandb_id(spec: RunSpec) -> str:
    """Id of the W&B run of a spec."""
    return Member.of_spec(spec).wandb_id(spec.run_id)
