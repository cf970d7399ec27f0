"""Recorded runs with networks that can be used."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from bnexp.config.options import Statistics
from bnexp.config.schema import ConfigError, RunConfig
from bnexp.terminal import visible_line
from bnexp.tracking.reading import DamagedRecord, as_type
from bnexp.tracking.records import CONFIG, FAILURE, SUMMARY, WEIGHTS, RecordedRun
from bnexp.tracking.store import Store

if TYPE_CHECKING:
    from torch import nn

    from bnexp.run.predict import Images, Predicted, Predictor

NO_NETWORK = "it has metrics and settings, but no weights, so that it cannot predict"
OUTPUT = re.compile(r"fc(\d{1,3})\.weight")  # of linear layers; the last one is the output layer


class TrainedRun(RecordedRun):
    """A recorded run, with its network. A class of its own because comparing needs only the record, and no torch."""

    def model(self) -> nn.Sequential:
        """The network with its weights, made of torch's own layers, on the CPU and in evaluation mode.

        Returns:
            A module from images ``(N, C, S, S)`` to logits ``(N, K)``, with classes in the order of ``facts.class_names``. The
            images must be prepared as in the run: pixels scaled to 0..1, minus the mean, divided by the standard deviation that
            ``bnexp data NAME`` prints.
            The network predicts what the run recorded, up to rounding; except with ``norm.statistics=precise``, which evaluates
            with statistics of all training images. Those are not recorded: the network has the running ones, and warns of it.

        Raises:
            FileNotFoundError: the run has no weights.
            DamagedRecord: a file of the run cannot be used.
            ConfigError: the run was imported, so that it has neither weights nor a configuration of ours.
        """
        module = self._module()
        if self._typed_config.norm.statistics is Statistics.precise:
            warnings.warn(
                f"Run {self.run_id} was evaluated by precise statistics, which its weights do not hold.", stacklevel=2
            )
        return module

    def predict(self, images: Images) -> Predicted:
        """Classify images with the recorded network, in evaluation mode, on the CPU.

        Images are prepared as the run's own were: channels, size, margin and normalisation. So an image of the run's test set
        gets the probabilities that the run recorded, up to rounding. ``data/pictures.py`` says what becomes of an image of
        another size; transparency is dropped, and of an animation the first image is taken.

        Args:
            images: an image file, a folder of images, or several of both; or uint8 pixels, (N, H, W) for grey images and
                (N, H, W, 3) for colour. If an image lies in a folder, directly in the one that is named, whose name is that of
                a class, its true class is known.

        Returns:
            Probabilities, classes and names, one per image in the order given; images of a folder are ordered by path.

        Raises:
            ConfigError: the run has no weights or has diverged, or there is nothing to classify.
            DataError: an image cannot be read.
            DamagedRecord: a file of the run cannot be used.

        Example:
            >>> bnexp.load_run("3f2a").predict("drawings").names
        """
        from bnexp.run.predict import predict

        return predict(self.predictor(), images)

    def predictor(self) -> Predictor:
        """The network ready to be asked about images, many times. Raises as ``predict``."""
        from bnexp.run.predict import Predictor

        self._refuse_imported()
        if not (self.path / WEIGHTS).exists():
            raise ConfigError(f"the run {self.run_id} cannot predict: {self.path / WEIGHTS} is not there.")
        return Predictor(self, self._module(), self._typed_config)

    def _refuse_imported(self) -> None:
        """Raise ConfigError if another tool recorded the run: it has neither weights nor a configuration of ours."""
        if self.summary.source is not None:
            raise ConfigError(
                visible_line(f"the run {self.run_id} was imported from {self.summary.source.path}: {NO_NETWORK}.")
            )

    @property
    def _typed_config(self) -> RunConfig:
        config: RunConfig = as_type(RunConfig, self.config, self.path / CONFIG)
        return config

    def _module(self) -> nn.Sequential:
        import numpy as np
        import torch

        from bnexp.model.export import plain_module
        from bnexp.model.networks import build_network

        self._refuse_imported()
        config = self._typed_config
        weights = self.weights()
        outputs = {int(found[1]): value for name, value in weights.items() if (found := OUTPUT.fullmatch(name))}
        first = weights.get("conv1.weight", weights.get("fc1.weight"))
        if not outputs or first is None or first.ndim < 2:
            raise DamagedRecord(self.path / WEIGHTS, "it has no weights of an output layer")
        size = config.data.size
        in_channels = first.shape[1] if first.ndim == 4 else first.shape[1] // size**2
        dtype = torch.float64 if first.dtype == np.float64 else torch.float32
        try:
            network = build_network([config], in_channels, size, len(outputs[max(outputs)]), dtype=dtype)
            network.load(0, weights)
        except (ConfigError, TypeError, RuntimeError) as error:
            raise DamagedRecord(self.path / WEIGHTS, f"it does not fit the run's configuration: {error}") from error
        return plain_module(network, 0)


def load_run(run_id: str | Path, runs_dir: str | Path | None = None) -> TrainedRun:
    """Find a finished run.

    Args:
        run_id: its id, the beginning of it, or the path of its directory.
        runs_dir: the directory of the records. None: ``BNEXP_RUNS_DIR`` if the environment has it, else ``./runs``.

    Raises:
        ConfigError: no run has an id that begins so, several have, or the run has not finished.

    Example:
        >>> network = bnexp.load_run("3f2a").model()
    """
    store = Store(Path(runs_dir) if runs_dir is not None else None)
    path = Path(run_id).resolve() if is_run_directory(run_id) else store.named(str(run_id)).path
    run = TrainedRun(path)
    if not run.finished:
        stopped = run.stopped and f"it was {run.unfinished}"
        reason = str(run.damage or run.failure or stopped or "its training was interrupted").rstrip(".")
        raise ConfigError(f"the run {run.run_id} has not finished: {reason}.")
    return run


def is_run_directory(path: str | Path) -> bool:
    """Whether a run is recorded in this directory."""
    return any((Path(path) / name).is_file() for name in (SUMMARY, CONFIG, FAILURE))
