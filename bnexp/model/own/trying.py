"""A user's module is tried on two images before anything trains: what it gives, and in which order its layers are reached.

Shape letters: N batch, C channels, S side of the image, K classes, M values of a channel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bnexp.config.schema import ConfigError
from bnexp.model.norms import RunNorm
from bnexp.model.own.errors import told_of
from bnexp.model.own.guard import has_drawn, python_state
from bnexp.torch_rng import torch_generator

NUM_IMAGES = 2
MOST_OF_LAYER = 100  # characters of a layer in a message


def try_module(module: nn.Module, label: str, shape: tuple[int, int, int], num_classes: int, dtype: torch.dtype) -> list[str]:
    """Pass two random images forwards and backwards, in training and in evaluation mode. Buffers stay as they are.

    Args:
        module: on the CPU.
        label: what its factory is called in messages.
        shape: of an image, (C, S, S).
        num_classes: K.
        dtype: number format of the images.

    Returns:
        The names of all submodules, in the order in which the images first reached them.

    Raises:
        ConfigError: the module fails, or what it gives cannot be trained.
    """
    x = torch.randn((NUM_IMAGES, *shape), generator=torch_generator(0, "own/images")).to(dtype)
    images = f"for images of shape {tuple(x.shape)}"
    with _buffers_kept(module), told_of(label, images), _reached(module, label) as order:
        logits = module.train()(x)
        _check_logits(logits, label, images, num_classes)
        _check_gradient(module, logits, label)
        with torch.no_grad():
            _check_logits(module.eval()(x), label, f"{images} in evaluation mode", num_classes)
    module.train()
    return order


def draws_in_python(module: nn.Module, x: Tensor) -> bool:
    """Whether a training pass draws from the generators of Python or NumPy."""
    before = python_state()
    with _buffers_kept(module), torch.no_grad():
        module.train()(x)
    return has_drawn(before)


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    yield
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            if name in before:
                buffer.copy_(before[name])


def hookable(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Name and layer of all submodules that can be watched: those of a compiled script cannot."""
    return [(name, layer) for name, layer in module.named_modules() if not isinstance(layer, torch.jit.ScriptModule)]


@contextmanager
def _reached(module: nn.Module, label: str) -> Iterator[list[str]]:
    """Inside, submodules are listed as images reach them, and norm layers learn how large their maps are."""
    order: dict[str, None] = {}
    inside: list[tuple[str, nn.Module]] = []  # the layers that the images have entered and not left
    handles = []
    for name, layer in hookable(module):

        def reach(layer: nn.Module, inputs: tuple[Any, ...], name: str = name) -> None:
            order.setdefault(name)
            inside.append((name, layer))
            if isinstance(layer, RunNorm) and inputs:
                _learn_map_size(layer, inputs[0], label)

        def leave(layer: nn.Module, *_: Any) -> None:
            while inside and inside.pop()[1] is not layer:
                pass  # it failed, and the module went on

        handles += [layer.register_forward_pre_hook(reach), layer.register_forward_hook(leave)]
    found: list[str] = []
    try:
        yield found
        found += order
    except Exception as error:
        if inside and inside[-1][0]:
            error.add_note(f"in the layer {inside[-1][0]}, {_short(inside[-1][1])}")
        raise
    finally:
        for handle in handles:
            handle.remove()


def _short(layer: nn.Module) -> str:
    """``Linear(in_features=800, out_features=10, bias=True)``, or the type alone of a layer that has others inside."""
    text = repr(layer)
    return type(layer).__name__ if "\n" in text or len(text) > MOST_OF_LAYER else text


def _learn_map_size(layer: RunNorm, x: Tensor, label: str) -> None:
    if x.ndim < 2 or x.shape[1] != layer.num_features:
        raise ConfigError(
            f"{label}: the norm layer {layer.name} was made by norm({layer.num_features}), but is given values of shape "
            f"{tuple(x.shape)}; call norm with the number of channels, the second axis."
        )
    layer.map_size = math.prod(x.shape[2:])
    layer.num_axes = x.ndim
    layer.check_map(f"{label}: the norm layer {layer.name}", "leave out its call of norm()")


def _check_logits(logits: object, label: str, images: str, num_classes: int) -> None:
    if not isinstance(logits, Tensor):
        raise ConfigError(
            f"{label}: the module returns {type(logits).__name__} {images}; it has to return one tensor of logits, "
            f"(N, {num_classes})."
        )
    expected = (NUM_IMAGES, num_classes)
    if tuple(logits.shape) != expected:
        raise ConfigError(
            f"{label}: the module returns shape {tuple(logits.shape)} {images}; it has to return logits of shape {expected}, "
            "one row per image and one column per class (num_classes)."
        )
    if not logits.is_floating_point():
        raise ConfigError(f"{label}: the module returns {logits.dtype} {images}; it has to return floating-point logits.")


def _check_gradient(module: nn.Module, logits: Tensor, label: str) -> None:
    """Raise ConfigError if the logits cannot be trained, or if they depend on parameters that are not the module's."""
    parameters = {p for p in module.parameters() if p.requires_grad}
    if not logits.requires_grad:
        raise ConfigError(f"{label}: the logits depend on no trainable parameter, so there is nothing to train.")
    foreign = next((p for p in _leaves(logits) if p not in parameters), None)
    if foreign is not None:
        raise ConfigError(
            f"{label}: the logits depend on a parameter of shape {tuple(foreign.shape)} that is not in module.parameters(), so "
            "it would never be trained: assign it to an attribute, or put lists of layers into nn.ModuleList."
        )
    torch.autograd.grad(logits.float().sum(), list(parameters), allow_unused=True)


def _leaves(logits: Tensor) -> Iterator[Tensor]:
    """The tensors at which the gradient of ``logits`` ends."""
    waiting, seen = [logits.grad_fn], set()
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "AccumulateGrad":
            yield node.variable
        waiting += [following for following, _ in node.next_functions]
