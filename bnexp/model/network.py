"""What the engine needs of a network, however it is made: from a table of layers, or of a user's own modules.

Shape letters: R runs, N batch, C channels, S side of the image, K classes, P parameters of a run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from bnexp.config.schema import ConfigError
from bnexp.model.norms import RunNorm

Weights = Mapping[str, NDArray[np.generic]]
Visit = Callable[[str, nn.Module, Tensor], None]


def check_fit(shapes: Mapping[str, tuple[int, ...]], weights: Weights) -> None:
    """Raise ConfigError if weights do not have the names and shapes of a network's parameters and buffers.

    Args:
        shapes: those of one run of the network, by name.
        weights: what it is to be loaded with.
    """
    if wrong := sorted(shapes.keys() ^ weights.keys()):
        raise ConfigError(
            f"The weights do not fit this network: {', '.join(wrong)} is only in one of them; use its own config."
        )
    for name, shape in shapes.items():
        if shape != weights[name].shape:
            shapes_text = f"{tuple(weights[name].shape)} instead of {shape}"
            raise ConfigError(f"The weights do not fit this network: {name} is {shapes_text}; use its own config.")


class Network(nn.Module, ABC):
    """R networks of one shape: images ``(N, R*C, S, S)`` -> logits ``(N, R, K)``. ``(N, C, S, S)`` is one batch for all runs.

    Attributes:
        flat: one row per run with all its trainable parameters, (R, P). What the layers compute with are views of it.
        num_runs: R.
        not_captured: why a step cannot become a CUDA graph; None: it can.
    """

    flat: Tensor
    num_runs: int
    not_captured: str | None = None

    @property
    def num_parameters(self) -> int:
        """Trainable parameters of one run."""
        return self.flat.shape[1]

    @abstractmethod
    def pack(self) -> None:
        """Move all parameters into a new ``flat`` and make those of the layers views of it. A copy of a network needs this."""

    @abstractmethod
    def gradient(self, loss: Tensor, out: Tensor) -> None:
        """Fill ``out`` (R, P) with the gradient of ``loss`` (), in the columns of ``flat``."""

    @abstractmethod
    def columns(self) -> dict[str, slice]:
        """Name of each trainable parameter, as in a plain torch module -> its columns of ``flat``, in their order."""

    @abstractmethod
    def weight_layers(self) -> list[str]:
        """The layers with a weight matrix or kernel, such as convolutions, in the order in which an image reaches them.

        The columns of everything that an image reaches before such a layer come before those of the layer.
        """

    @abstractmethod
    def norm_layers(self) -> list[str]:
        """The norm layers."""

    @property
    @abstractmethod
    def head(self) -> str | None:
        """The output layer; None if it cannot be told."""

    @abstractmethod
    def walk(self, x: Tensor, visit: Visit) -> None:
        """Pass images ``x`` through the network and tell ``visit`` the name, the layer and the input of each layer in turn.

        The layers take and give the values of all runs, as the network does.
        """

    @abstractmethod
    def export(self, run: int) -> dict[str, NDArray[np.generic]]:
        """Parameters and buffers of one run, named and shaped as in a plain torch module."""

    @abstractmethod
    def load(self, run: int, weights: Weights) -> None:
        """Set parameters and buffers of one run to what ``export`` gave. Raises ConfigError if names or shapes differ."""

    def initial(self, run: int) -> dict[str, str]:  # noqa: ARG002
        """What tells whether runs of one seed start alike. Those of built-in networks do, so it is empty.

        Args:
            run: which one; nothing has been loaded into it, and it has not trained.

        Returns:
            Name of each parameter and buffer outside norm layers -> its shape, a space and a hash of its values.
        """
        return {}

    def memory(self) -> list[Tensor]:
        """All tensors besides ``flat`` that the next forward pass depends on. Their number and order stay the same."""
        return list(self.buffers())

    def compile_kernels(self, in_channels: int, size: int) -> list[str]:  # noqa: ARG002
        """Compile the kernels that training on images of this shape calls, or read them from the disk; own modules call none.

        Args:
            in_channels: channels of the images.
            size: side of the images, pixels.

        Returns:
            What kernels compute, for people: ``conv1 with pooling``, ``pooling``, ``norms``.

        Raises:
            ConfigError: numba cannot be imported.
        """
        return []

    def check_batch(self, num_images: int) -> None:
        """Raise ConfigError if a batch of ``num_images`` leaves a norm a single value to normalise, in the mode that is on."""
        for layer in self.modules():
            if isinstance(layer, RunNorm):
                layer.check_batch(num_images)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        logits: Tensor = super().__call__(*args, **kwargs)
        return logits
