"""One run's module from the user's factory: built, paired, named, tried, or refused in one sentence.

Shape letters: C channels, S side of the image, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bnexp.config.schema import ConfigError, RunConfig
from bnexp.model.norms import RunNorm
from bnexp.model.own.draws import with_named_draws
from bnexp.model.own.errors import told_of
from bnexp.model.own.guard import is_lazy, settings_kept
from bnexp.model.own.norms import NormLayers
from bnexp.model.own.trying import draws_in_python, try_module

Factory = Callable[..., Any]  # build(norm, in_channels, num_classes, size, **args) -> nn.Module


@dataclass(frozen=True)
class Built:
    """A module that is ready to train, on the CPU.

    Args:
        module: in training mode, with its initial weights.
        order: names of its trainable parameters in the order in which images reach their layers.
        layers: names of its submodules in that order.
        draws_in_python: whether a training step draws from the generators of Python or NumPy.
    """

    module: nn.Module
    order: list[str]
    layers: list[str]
    draws_in_python: bool


def build_module(
    factory: Factory,
    label: str,
    config: RunConfig,
    args: Mapping[str, Any],
    shape: tuple[int, int, int],
    num_classes: int,
    dtype: torch.dtype,
    num_steps: int,
) -> Built:
    """Call the factory for one run, and try the module.

    The initial values depend on the seed of the run and on the name of each parameter, see ``draws``. Whatever the code changes
    for the whole process is undone.

    Args:
        factory: ``build(norm, in_channels, num_classes, size, **args)``.
        label: what it is called in messages.
        config: of the run.
        args: further arguments of the factory.
        shape: of an image, (C, S, S).
        num_classes: K.
        dtype: number format of parameters and images.
        num_steps: steps of the whole training.

    Raises:
        ConfigError: the factory or its module fails or cannot be used.
    """

    def build() -> nn.Module:
        norms = NormLayers(config, num_steps, dtype, label)
        torch.set_default_dtype(dtype)
        with told_of(label), torch.enable_grad():
            module = factory(norms, shape[0], num_classes, shape[1], **deepcopy(args))  # it may use them up
        if not isinstance(module, nn.Module):
            raise ConfigError(f"{label} returns {type(module).__name__}; it has to return a torch.nn.Module.")
        norms.settle(module)
        _finish_lazy(module, label, shape, dtype)
        return module

    with settings_kept():
        module = with_named_draws(build, config.seed)
        torch.set_default_dtype(dtype)
        _convert(module, label, dtype)
        layers = try_module(module, label, shape, num_classes, dtype)
        in_python = draws_in_python(module, torch.zeros(2, *shape, dtype=dtype))
    place = {name: i for i, name in enumerate(layers)}
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    order = sorted(names, key=lambda name: place.get(name.rpartition(".")[0], len(place)))
    _check_reached(module, layers, label)
    return Built(module, order, layers, in_python)


def _finish_lazy(module: nn.Module, label: str, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    """Let lazy layers learn their shapes, so that their parameters are there."""
    if any(is_lazy(p) for p in (*module.parameters(), *module.buffers())):
        with torch.no_grad(), told_of(label, f"for images of shape {(2, *shape)}"):
            module.eval()(torch.zeros(2, *shape, dtype=dtype))
            module.train()


@torch.no_grad()
def _convert(module: nn.Module, label: str, dtype: torch.dtype) -> None:
    """Give all real parameters and buffers the number format of the training.

    Raises:
        ConfigError: a parameter is complex, or two of them share memory.
    """
    places: dict[int, str] = {}
    tensors: Sequence[tuple[str, Tensor]] = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in tensors:
        if tensor.is_complex() and tensor.requires_grad:
            raise ConfigError(f"{label}: the parameter {name} is complex; parameters have to be real numbers.")
        if tensor.is_sparse or tensor.is_quantized:
            raise ConfigError(f"{label}: {name} is not an ordinary dense tensor; parameters and buffers have to be.")
        other = places.setdefault(tensor.untyped_storage().data_ptr(), name) if tensor.numel() else name
        if other != name:
            raise ConfigError(
                f"{label}: {other} and {name} share memory but are two tensors: to share weights, assign the same nn.Parameter "
                f"twice (self.b.weight = self.a.weight); otherwise clone one of them."
            )
    for _, tensor in tensors:
        tensor.data = tensor.data.to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)


def _check_reached(module: nn.Module, layers: Sequence[str], label: str) -> None:
    """Raise ConfigError if no image reaches a norm layer."""
    norms = [name for name, layer in module.named_modules() if isinstance(layer, RunNorm)]
    if norms and not set(norms) & set(layers):
        raise ConfigError(f"{label}: forward uses no norm layer of the module ({', '.join(norms[:3])}); call them in forward.")
