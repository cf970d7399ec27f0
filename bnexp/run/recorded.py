"""Recorded runs with networks that can be used."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from bnexp.config.factory import function_name, name_code
from bnexp.config.options import ModelName, Statistics
from bnexp.config.schema import ConfigError, RunConfig
from bnexp.terminal import visible_line
from bnexp.tracking.reading import DamagedRecord, as_type
from bnexp.tracking.records import CONFIG, FAILURE, SUMMARY, WEIGHTS, RecordedRun
from bnexp.tracking.store import Store

if TYPE_CHECKING:
    from torch import nn

    from bnexp.plan.spec import Weights
    from bnexp.run.predict import Images, Predicted, Predictor

NO_NETWORK = "it has metrics and settings, but no weights, so that it cannot predict"
FACTORY = "--factory"
OUTPUT = re.compile(r"fc(\d{1,3})\.weight")  # of linear layers; the last one is the output layer


class TrainedRun(RecordedRun):
    """A recorded run, with its network. A class of its own because comparing needs only the record, and no torch."""

    def model(self, factory: str | None = None) -> nn.Module:
        """The network with its weights, made of torch's own layers, on the CPU and in evaluation mode.

        Args:
            factory: of a run with ``model=python`` the function that makes its network, ``nets.py:build``. It runs, with the
                arguments that the record holds. Without it such a run has no network to give: code that a record names never
                runs.

        Returns:
            A module from images ``(N, C, S, S)`` to logits ``(N, K)``, with classes in the order of ``facts.class_names``. The
            images must be prepared as in the run: pixels scaled to 0..1, minus the mean, divided by the standard deviation that
            ``bnexp data NAME`` prints.
            The network predicts what the run recorded, up to rounding; except with ``norm.statistics=precise``, which evaluates
            with statistics of all training images. Those are not recorded: the network has the running ones, and warns of it.

        Raises:
            FileNotFoundError: the run has no weights.
            DamagedRecord: a file of the run cannot be used.
            ConfigError: the run was imported, so that it has neither weights nor a configuration of ours; or ``factory`` is
                missing, or cannot be loaded.
        """
        module = self._module(self._config_with(factory))
        for note in self._notes(factory):
            warnings.warn(note, stacklevel=2)
        if self._typed_config.norm.statistics is Statistics.precise:
            warnings.warn(
                f"Run {self.run_id} was evaluated by precise statistics, which its weights do not hold.", stacklevel=2
            )
        return module

    def predict(self, images: Images, factory: str | None = None) -> Predicted:
        """Classify images with the recorded network, in evaluation mode, on the CPU.

        Images are prepared as the run's own were: channels, size, margin and normalisation. So an image of the run's test set
        gets the probabilities that the run recorded, up to rounding. ``data/pictures.py`` says what becomes of an image of
        another size; transparency is dropped, and of an animation the first image is taken.

        Args:
            images: an image file, a folder of images, or several of both; or uint8 pixels, (N, H, W) for grey images and
                (N, H, W, 3) for colour. If an image lies in a folder, directly in the one that is named, whose name is that of
                a class, its true class is known.

            factory: as for ``model``.

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

        return predict(self.predictor(factory), images)

    def predictor(self, factory: str | None = None) -> Predictor:
        """The network ready to be asked about images, many times. Arguments and errors as for ``predict``."""
        from bnexp.run.predict import Predictor

        self._refuse_imported()
        if not (self.path / WEIGHTS).exists():
            raise ConfigError(f"the run {self.run_id} cannot predict: {self.path / WEIGHTS} is not there.")
        config = self._config_with(factory)
        return Predictor(self, self._module(config), config, self._notes(factory))

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

    def _config_with(self, factory: str | None) -> RunConfig:
        """The run's configuration, with the code that the user names in place of what the record says."""
        self._refuse_imported()
        config = self._typed_config
        if config.model.name is ModelName.python:
            if factory is None:
                raise ConfigError(
                    visible_line(
                        f"the network of the run {self.run_id} was made by {config.model.factory}, and bnexp never runs code "
                        "that a record names: name it yourself, with --factory FILE.py:FUNCTION or the argument factory."
                    )
                )
            config.model.factory = name_code(factory, FACTORY)
        return config

    def _notes(self, factory: str | None) -> list[str]:
        """A sentence if the code that the user names is another than that of the run; nothing if the run needs no code."""
        recorded = self._typed_config.model
        if recorded.name is not ModelName.python or factory is None:
            return []
        changed = name_code(factory, FACTORY).fingerprint != recorded.fingerprint
        other = function_name(factory) != function_name(recorded.factory or "")
        if not changed and not other:
            return []
        what = "has changed since the run" if changed else "is another function than that of the run"
        return [
            visible_line(
                f"{factory} {what} {self.run_id} (source {recorded.fingerprint}, {recorded.factory}): the weights fit, but it "
                "may predict something else."
            )
        ]

    def _module(self, config: RunConfig) -> nn.Module:
        import numpy as np
        import torch

        from bnexp.model.export import own_module, plain_module
        from bnexp.model.networks import TableNetwork, build_network
        from bnexp.model.own.network import OwnNetwork

        weights = self.weights()
        is_own = config.model.name is ModelName.python
        in_channels, num_classes = self._shape_by_facts(config) if is_own else self._shape_by_layers(config, weights)
        is_double = any(array.dtype == np.float64 for array in weights.values())
        try:
            dtype = torch.float64 if is_double else torch.float32
            network = build_network([config], in_channels, config.data.size, num_classes, dtype=dtype)
        except ConfigError as error:
            if is_own:
                raise
            raise DamagedRecord(self.path / WEIGHTS, f"it does not fit the run's configuration: {error}") from error
        try:
            network.load(0, weights)
        except (ConfigError, TypeError, RuntimeError) as error:
            if is_own:
                other = f"{config.model.factory} makes another network than that of the run {self.run_id}"
                raise ConfigError(visible_line(f"{other}: {error}")) from error
            raise DamagedRecord(self.path / WEIGHTS, f"it does not fit the run's configuration: {error}") from error
        if isinstance(network, OwnNetwork):
            return own_module(network, 0)
        assert isinstance(network, TableNetwork)
        return plain_module(network, 0)

    def _shape_by_layers(self, config: RunConfig, weights: Weights) -> tuple[int, int]:
        """Channels of the images and number of classes, by the first and the last layer of a network of bnexp's."""
        outputs = {int(found[1]): value for name, value in weights.items() if (found := OUTPUT.fullmatch(name))}
        first = weights.get("conv1.weight", weights.get("fc1.weight"))
        if not outputs or first is None or first.ndim < 2:
            raise DamagedRecord(self.path / WEIGHTS, "it has no weights of an output layer")
        in_channels = first.shape[1] if first.ndim == 4 else first.shape[1] // config.data.size**2
        return in_channels, len(outputs[max(outputs)])

    def _shape_by_facts(self, config: RunConfig) -> tuple[int, int]:
        """The same, by what is recorded of the data."""
        facts = self.facts
        if facts is None or not facts.class_names or not facts.pixel_mean:
            raise DamagedRecord(self.path / SUMMARY, "it has no class names, or no mean of the images")
        return config.data.channels or len(facts.pixel_mean), len(facts.class_names)


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
