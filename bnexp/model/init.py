"""Initial weights: each run has a scheme and a gain, and each parameter has its own named random stream."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bnexp.model.layers import RunConv2d, RunLinear
from bnexp.model.shortcuts import AddShortcut, OpenShortcut
from bnexp.torch_rng import torch_generator


def draw_weight(scheme: str, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """A new weight at gain 1, in float64 on the CPU.

    The schemes, with fan_in = I * kernel area and fan_out = O * kernel area:
    ``torch``       U(-b, b), b = 1/sqrt(fan_in): what ``torch.nn.Conv2d`` and ``Linear`` do
    ``normal``      N(0, 0.01^2): Krizhevsky et al., NIPS 2012
    ``xavier``      U(-b, b), b = sqrt(6/(fan_in + fan_out)): Glorot & Bengio, AISTATS 2010, eq. 16
    ``kaiming``     N(0, 2/fan_in): He et al., ICCV 2015, eq. 10
    ``orthogonal``  orthonormal rows or columns of the (O, fan_in) matrix: Saxe et al., ICLR 2014

    Args:
        scheme: one of the names above.
        shape: (O, I) or (O, I, k, k).
        generator: a generator on the CPU, which is moved on.
    """
    area = math.prod(shape[2:])
    fan_in, fan_out = shape[1] * area, shape[0] * area
    if scheme == "orthogonal":
        return _orthogonal(shape[0], fan_in, generator).reshape(tuple(shape))
    if scheme in ("torch", "xavier"):
        bound = 1 / math.sqrt(fan_in) if scheme == "torch" else math.sqrt(6 / (fan_in + fan_out))
        return _uniform(shape, bound, generator)
    std = {"normal": 0.01, "kaiming": math.sqrt(2 / fan_in)}[scheme]
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64) * std


def _uniform(shape: Sequence[int], bound: float, generator: torch.Generator) -> Tensor:
    return (2 * torch.rand(tuple(shape), generator=generator, dtype=torch.float64) - 1) * bound


def _orthogonal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    gaussian = torch.randn((max(rows, columns), min(rows, columns)), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    q = q * r.diagonal().sign()  # makes the decomposition unique, so the draw is uniform over orthogonal matrices
    matrix: Tensor = q if rows >= columns else q.T
    return matrix


@torch.no_grad()
def initialise(
    network: nn.Module, seeds: Sequence[int], schemes: Sequence[str], gains: Sequence[float], layers: Sequence[str]
) -> None:
    """Fill weights and biases of all ``RunConv2d`` and ``RunLinear`` layers in place. Norm layers keep 1 and 0.

    The value of a parameter depends on (seed, parameter name, scheme, gain) alone and is drawn in float64 on the CPU. So
    networks share it, whatever their norms, precision, device and cohort. Biases are U(-b, b) with b = 1/sqrt(fan_in) under
    ``torch``, and zero under the other schemes.

    Args:
        network: a network of R runs.
        seeds: of each run, (R,).
        schemes: of each run, see ``draw_weight``.
        gains: factor on the weights of each run, not on its biases.
        layers: ``all`` or, if only convolutions have the scheme and gain, ``conv``: then the run's linear layers have scheme
            ``torch`` and gain 1.
    """
    for name, layer in network.named_modules():
        if not isinstance(layer, RunConv2d | RunLinear):
            continue
        for r, (seed, scheme, gain, chosen) in enumerate(zip(seeds, schemes, gains, layers, strict=True)):
            if chosen == "all" or isinstance(layer, RunConv2d):
                _fill(layer, r, name, seed, scheme, gain)
            else:
                _fill(layer, r, name, seed, "torch", 1.0)


def _fill(layer: RunConv2d | RunLinear, run: int, name: str, seed: int, scheme: str, gain: float) -> None:
    weight = layer.weight[run]
    weight.copy_(gain * draw_weight(scheme, weight.shape, torch_generator(seed, f"init/{name}.weight")))
    if layer.bias is None:
        return
    bias = layer.bias[run]
    if scheme == "torch":
        bound = 1 / math.sqrt(weight[0].numel())
        bias.copy_(_uniform(bias.shape, bound, torch_generator(seed, f"init/{name}.bias")))
    else:
        bias.zero_()


@torch.no_grad()
def initialise_as_fixup(network: nn.Module) -> None:
    """Change the initial weights of a residual network in place, so that its depth does not change the size of an update.

    With L residual branches of m convolutions each: the last convolution of each branch and the output layer become zero. The
    weights of the other convolutions of a branch are scaled by L^(-1/(2m - 2)). The scalars stay as they are.

    Args:
        network: a row of layers with weights from ``initialise``; its last layer is the output layer.

    Reference: Zhang et al. 2019, arXiv:1901.09321, section 3, rules 1 and 2.
    """
    branches: list[list[RunConv2d]] = []
    inside = False
    for layer in network.children():
        if isinstance(layer, OpenShortcut):
            branches.append([])
        inside = isinstance(layer, OpenShortcut) or (inside and not isinstance(layer, AddShortcut))
        if inside and isinstance(layer, RunConv2d):
            branches[-1].append(layer)
    for *scaled, last in branches:
        for conv in scaled:
            conv.weight.mul_(len(branches) ** (-1 / (2 * len(scaled))))
        _zero(last)
    _zero(list(network.children())[-1])


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        parameter.zero_()
