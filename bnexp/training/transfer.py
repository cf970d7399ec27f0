"""Training from the weights of another run: what is loaded, what is held fixed, and by which statistics norms normalise.

Yosinski et al., "How transferable are features in deep neural networks?", NIPS 2014 (arXiv:1411.1792). Freezing weights does
not freeze running statistics: ``train.norm_statistics`` decides about those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bnexp.config.options import NormStatistics, Trainable
from bnexp.config.schema import ConfigError, TrainConfig
from bnexp.model.network import Network
from bnexp.model.norms import running_norms
from bnexp.plan.spec import RunSpec
from bnexp.training.optim import Optimiser
from bnexp.training.statistics import precise_statistics, statistics_batches

if TYPE_CHECKING:
    from bnexp.data.batches import DeviceData


def prepare_start(network: Network, specs: Sequence[RunSpec], data: DeviceData) -> None:
    """Bring a new network to the point from which its runs start: initial weights, and running statistics that are kept.

    Args:
        network: a newly built network.
        specs: its runs.
        data: the training images, for ``train.norm_statistics=recomputed``.

    Raises:
        ConfigError: the weights of a run do not fit.
    """
    for run, spec in enumerate(specs):
        if spec.initial is not None:
            load_start(network, run, spec)
    train = specs[0].config.train
    if train.norm_statistics is NormStatistics.recomputed:
        precise_statistics(network, statistics_batches(data), train.precision)
    for layer in running_norms(network):
        layer.frozen = train.norm_statistics is not NormStatistics.live


def load_start(network: Network, run: int, spec: RunSpec) -> None:
    """Set one run to ``spec.initial``; an output layer of another shape keeps its new weights.

    Raises:
        ConfigError: anything else differs in name or shape.
    """
    assert spec.initial is not None
    weights, drawn = dict(spec.initial), network.export(run)
    head = {name: drawn[name] for name in drawn if name.rpartition(".")[0] == network.head}
    if any(name not in weights or weights[name].shape != value.shape for name, value in head.items()):
        weights |= head
    try:
        network.load(run, weights)
    except ConfigError as error:
        raise ConfigError(f"train.init_from={spec.config.train.init_from}: {_hint(weights, drawn) or error}") from error


def _hint(weights: Mapping[str, NDArray[np.generic]], drawn: Mapping[str, NDArray[np.generic]]) -> str | None:
    """What to do if the networks differ only in the channels of their images; None if they differ in more."""
    different = [name for name in drawn if name in weights and weights[name].shape != drawn[name].shape]
    if weights.keys() != drawn.keys() or different != ["conv1.weight"]:
        return None
    theirs, ours = weights["conv1.weight"].shape[1], drawn["conv1.weight"].shape[1]
    if weights["conv1.weight"].shape[2:] != drawn["conv1.weight"].shape[2:] or {theirs, ours} != {1, 3}:
        return None
    return f"it was trained on images of {theirs} channels, not {ours}; train both runs with data.channels=3."


def held_columns(network: Network, trainable: Trainable) -> Tensor:
    """The columns of ``network.flat`` that are not trained, in order.

    Args:
        network: R networks.
        trainable: which parameters are trained; not ``all``.

    Returns:
        (H,) int64, on the device of the network.
    """
    trained: set[str] = set()
    if trainable in (Trainable.norm, Trainable.norm_head):
        trained.update(network.norm_layers())
    if trainable in (Trainable.head, Trainable.norm_head):
        if network.head is None:
            raise ConfigError(
                f"train.trainable={trainable} trains the output layer, and the network has no layer with a weight of as many "
                "outputs as there are classes; use train.trainable=all or norm."
            )
        trained.add(network.head)
    held = torch.ones(network.num_parameters, dtype=torch.bool)
    for name, columns in network.columns().items():
        held[columns] = name.rpartition(".")[0] not in trained
    return held.nonzero().flatten().to(network.flat.device)


class HeldOptimiser:
    """An optimiser that leaves some columns of the parameters bit for bit as they are, whatever their gradient.

    Args:
        optimiser: what updates the others.
        parameters: (R, P), the parameters that ``optimiser`` updates.
        columns: those that are held, (H,).
    """

    def __init__(self, optimiser: Optimiser, parameters: Tensor, columns: Tensor) -> None:
        self.optimiser, self.parameters, self.columns = optimiser, parameters, columns
        self.held = parameters[:, columns]
        self.state = optimiser.state

    def step(self, gradient: Tensor, t: Tensor) -> None:
        self.optimiser.step(gradient, t)
        self.parameters.index_copy_(1, self.columns, self.held)


def hold(optimiser: Optimiser, network: Network, train: TrainConfig) -> Optimiser:
    """An optimiser that trains only what ``train.trainable`` names; ``optimiser`` itself if that is everything."""
    if train.trainable is Trainable.all:
        return optimiser
    return HeldOptimiser(optimiser, network.flat, held_columns(network, train.trainable))
