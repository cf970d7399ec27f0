"""A short timed trial of the convolution strategies on a GPU: each layer and direction gets the fastest, which is recorded.

Each process chooses anew. So results may differ between two starts of a program, by rounding only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from bnexp.config.options import Precision
from bnexp.model.convolution import FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT, Strategy, fastest
from bnexp.model.layers import RunConv2d
from bnexp.model.network import Network

REPEATS = 5

_chosen: dict[tuple[object, ...], Strategy] = {}  # by shapes, so that later cohorts of this process need no trial


def is_tried(precision: Precision) -> bool:
    """Whether convolutions have strategies. Under bf16 they have none: autocast converts only PyTorch's own convolution."""
    return precision is not Precision.bf16


def choose_convolutions(network: Network, x: Tensor, precision: Precision) -> str:
    """Try the strategies of each convolution and set the fastest.

    Args:
        network: a network on a CUDA device.
        x: a training batch; each convolution is tried on the input that ``x`` gives it.
        precision: if it has no strategies (see ``is_tried``), nothing is tried.

    Returns:
        What was chosen, in words.
    """
    if not is_tried(precision):
        return "convolutions grouped"
    inputs, said = _inputs(network, x), []
    for name, layer in network.named_children():
        if isinstance(layer, RunConv2d):
            key = (inputs[name].shape, layer.weight.shape, layer.padding, layer.stride, x.dtype, precision)
            if key not in _chosen:
                _chosen[key] = _try(layer, inputs[name])
            layer.strategy = _chosen[key]
            said.append(f"{name} {layer.strategy}")
    return ", ".join(said) or "no convolutions"


def _inputs(network: Network, x: Tensor) -> dict[str, Tensor]:
    """Layer name -> its input when ``x`` is evaluated; the network stays as it was."""
    was_training = network.training
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        network.eval().walk(x, lambda name, _, value: found.update({name: value}))
    network.train(was_training)
    return found


@torch.no_grad()
def _try(layer: RunConv2d, x: Tensor) -> Strategy:
    weight = layer.weight.flatten(0, 1)
    rest = (weight, (layer.padding, layer.stride), x.shape[1] // weight.shape[1])
    dy = FORWARD["grouped"](x, *rest)
    return Strategy(
        fastest({name: _seconds(partial(function, x, *rest)) for name, function in FORWARD.items()}),
        fastest({name: _seconds(partial(function, dy, x, *rest)) for name, function in INPUT_GRADIENT.items()}),
        fastest({name: _seconds(partial(function, dy, x, *rest)) for name, function in WEIGHT_GRADIENT.items()}),
    )


def _seconds(function: Callable[[], Tensor]) -> list[float]:
    for _ in range(2):
        function()
    events: list[Any] = [torch.cuda.Event(enable_timing=True) for _ in range(REPEATS + 1)]  # type: ignore[no-untyped-call]
    events[0].record()
    for event in events[1:]:
        function()
        event.record()
    torch.cuda.synchronize()
    return [a.elapsed_time(b) / 1000 for a, b in pairwise(events)]
