"""Recorded runs with networks that can be used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bnexp.config.schema import ConfigError, RunConfig
from bnexp.tracking.reading import DamagedRecord, as_type
from bnexp.tracking.records import CONFIG, WEIGHTS, RecordedRun
from bnexp.tracking.store import Store

if TYPE_CHECKING:
    from torch import nn


class TrainedRun(RecordedRun):
    """A recorded run, with its network. A class of its own because comparing needs only the record, and no torch."""

    def model(self) -> nn.Sequential:
        """The network with its weights, made of torch's own layers, on the CPU and in evaluation mode.

        Returns:
            A module from images ``(N, C, S, S)`` to logits ``(N, K)``, with classes in the order of ``facts.class_names``. The
            images must be prepared as in the run: pixels scaled to 0..1, minus the mean, divided by the standard deviation that
            ``bnexp data NAME`` prints.

        Raises:
            FileNotFoundError: the run has no weights.
            DamagedRecord: a file of the run cannot be used.
        """
        from bnexp.model.export import plain_module
        from bnexp.model.networks import build_network

        config: RunConfig = as_type(RunConfig, self.config, self.path / CONFIG)
        weights = self.weights()
        outputs = [name for name in weights if name.startswith("fc") and name.endswith(".weight")]
        if not outputs:
            raise DamagedRecord(self.path / WEIGHTS, "it has no weights of an output layer")
        size = config.data.size
        first = weights.get("conv1.weight")
        in_channels = weights["fc1.weight"].shape[1] // size**2 if first is None else first.shape[1]
        num_classes = len(weights[max(outputs, key=lambda name: int(name[2:].removesuffix(".weight")))])
        network = build_network([config], in_channels, size, num_classes)
        network.load(0, weights)
        return plain_module(network, 0)


def load_run(run_id: str, runs_dir: str | Path | None = None) -> TrainedRun:
    """Find a finished run.

    Args:
        run_id: its id, or the beginning of it.
        runs_dir: the directory of the records. None: ``BNEXP_RUNS_DIR`` if the environment has it, else ``./runs``.

    Raises:
        ConfigError: no run has an id that begins so, several have, or the run has not finished.

    Example:
        >>> network = bnexp.load_run("3f2a").model()
    """
    run = TrainedRun(Store(Path(runs_dir) if runs_dir is not None else None).named(run_id).path)
    if not run.finished:
        reason = str(run.damage or run.failure or "its training was interrupted").rstrip(".")
        raise ConfigError(f"the run {run.run_id} has not finished: {reason}.")
    return run
