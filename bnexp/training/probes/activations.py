"""What the units of a network see: distributions of pre-activations, their drift, dead units.

Shape letters: R runs, U units of a layer, M values of a unit, N images.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bnexp.config.schema import ConfigError
from bnexp.model.layers import MaxPool2x2, Nonlinearity
from bnexp.training.probes.steps import Step, Values
from bnexp.training.probes.twin import State, Twin, by_unit

PERCENTILES = (15, 50, 85)
DEAD_SLOPE = 1e-3


NO_ACTIVATIONS = (
    "probe.activations sees activations that are modules, and the network uses none: write nn.ReLU() and the like in place of "
    "functions such as F.relu, or leave the probe out."
)

# Layers that act on each value alone; the first is bnexp's, the others may stand in a network of the user's own.
ACTIVATIONS = (
    Nonlinearity,
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign),
    *(nn.Tanh, nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid),
)


class Activations:
    """Pre-activations, the inputs of the nonlinearities, over a fixed batch of training images, in training mode.

    ``activations/act1/p15`` ``p50`` ``p85``  percentiles over all values of a layer (Ioffe & Szegedy 2015, arXiv:1502.03167,
                             figure 1, which shows one unit), in units of the pre-activation
    ``activations/drift``    move of a unit's three percentiles since the previous measurement (the first: since the start of
                             training), mean over units and percentiles; divided by the distance from 15th to 85th percentile,
                             mean of before and after; mean over layers. 0: the distributions stand still
    ``activations/dead``     fraction of all units through which no gradient passes: the slope of the nonlinearity is below
                             0.001 for every image and position (ReLU: never on; sigmoid and tanh: always saturated); also by
                             layer, ``activations/act1/dead``
    In a network of the user's own only activations that are modules, such as ``nn.ReLU``, are seen.
    A unit is a channel of a convolution, over all positions, or a feature. ReLU may be computed after max pooling, because the
    two commute; then the input of the pooling counts.

    Args:
        twin: what the images are passed through.
        images: (N, C, S, S).
        start: the state from which the first drift is measured.
    """

    def __init__(self, twin: Twin, images: Tensor, start: State) -> None:
        self.twin = twin
        self.images = images
        self.last = {name: percentiles(pre) for name, (_, pre) in self._pre_activations(start).items()}
        if not self.last:
            raise ConfigError(NO_ACTIVATIONS)

    def __call__(self, step: Step) -> Values:
        """The metrics after ``step``, each (R,); drift is since the call before."""
        values: Values = {}
        drifts, dead_units = [], []
        for name, (layer, pre) in self._pre_activations(step.after).items():
            by_percentile = percentiles(pre.flatten(1)).T
            values |= {f"activations/{name}/p{q}": value for q, value in zip(PERCENTILES, by_percentile, strict=True)}
            now, before = percentiles(pre), self.last[name]
            both = now + before
            spread = (both[..., 2] - both[..., 0]) / 2
            move = (now - before).abs().mean((1, 2))
            drifts.append(
                torch.where(move == 0, move, move / spread.mean(1))
            )  # a dead layer has no spread, but it stands still
            self.last[name] = now
            dead_units.append(dead(layer, pre))
            values[f"activations/{name}/dead"] = dead_units[-1].mean(1)
        values["activations/drift"] = torch.stack(drifts).mean(0)
        values["activations/dead"] = torch.cat(dead_units, dim=1).mean(1)
        return values

    @torch.no_grad()
    def _pre_activations(self, state: State) -> dict[str, tuple[nn.Module, Tensor]]:
        """Name of each nonlinearity -> the layer, and its input by unit, (R, U, M)."""
        self.twin.load(state)
        found: dict[str, tuple[nn.Module, Tensor]] = {}
        pooled_from: Tensor | None = None

        def visit(name: str, layer: nn.Module, x: Tensor) -> None:
            nonlocal pooled_from
            if isinstance(layer, ACTIVATIONS):
                pre = x if pooled_from is None else pooled_from
                found[name] = (layer, by_unit(pre, self.twin.num_runs).to(self.images.dtype))
            pooled_from = x if isinstance(layer, MaxPool2x2) else None

        self.twin.walk(self.images, visit)
        return found


def percentiles(values: Tensor) -> Tensor:
    """The 15th, 50th and 85th percentile over the last axis, as a new last axis, interpolated linearly.

    NaN if any value is not finite. (``torch.quantile`` does not take inputs as large as these.)
    """
    ordered = _sorted(values)
    last = values.shape[-1] - 1
    found = []
    for q in PERCENTILES:
        position = q / 100 * last
        below = int(position)
        found.append(torch.lerp(ordered[..., below], ordered[..., min(below + 1, last)], position - below))
    finite = values.isfinite().all(-1, keepdim=True)
    return torch.stack(found, dim=-1).where(finite, torch.nan)


def _sorted(values: Tensor) -> Tensor:
    """The values in order over the last axis. On a CPU numpy sorts them, with vector instructions: nearly 30 times as fast."""
    return torch.from_numpy(np.sort(values.numpy())) if values.device.type == "cpu" else values.sort().values


def dead(layer: nn.Module, pre: Tensor) -> Tensor:
    """1 for each unit without slope at any of its values, else 0; NaN if a value is not finite: (R, U, M) -> (R, U)."""
    with torch.enable_grad():
        x = pre.detach().requires_grad_()
        (slope,) = torch.autograd.grad(layer(x.clone()).sum(), x)  # a layer may work in place
    silent = (slope.abs() < DEAD_SLOPE).all(-1).to(pre.dtype)
    return silent.where(pre.isfinite().all(-1), torch.nan)
