"""Norm layers of every kind with random parameters, and values for them, in float64."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bnexp.config.options import NormKind
from bnexp.config.schema import NormConfig, RunConfig
from bnexp.model.norms import RunNorm, build_norm

R, N, C = 3, 5, 4
KINDS = [kind for kind in NormKind if kind is not NormKind.none]
ON_FEATURES = [kind for kind in KINDS if not kind.needs_maps]


def build(kind: NormKind, map_size: int = 9, num_runs: int = R, num_steps: int = 1, **norm: Any) -> Any:
    """A layer ``norm1`` of C channels, in training mode, whose weight, bias and running statistics are drawn."""
    configs = [RunConfig(seed=s, norm=NormConfig(kind=kind, **norm)) for s in range(num_runs)]
    return drawn(build_norm("norm1", configs, C, map_size, num_steps, dtype=torch.float64))


def drawn(norm: RunNorm) -> RunNorm:
    with torch.no_grad():
        for p in norm.parameters():
            p.copy_(torch.randn_like(p))
        for name, buffer in norm.named_buffers():
            if name == "running_mean":
                buffer.normal_()
            if name == "running_var":
                buffer.uniform_(0.5, 2)
    return norm


def images(num_runs: int = R, batch: int = N, side: int = 3) -> Tensor:
    return 2 * torch.randn(batch, num_runs * C, side, side, dtype=torch.float64) + 1


def features(num_runs: int = R, batch: int = N) -> Tensor:
    return 2 * torch.randn(batch, num_runs, C, dtype=torch.float64) + 1


def of_run(x: Tensor, r: int) -> Tensor:
    return x[:, r] if x.dim() == 3 else x[:, r * C : (r + 1) * C]


def assert_close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def gradients(y: Tensor, dy: Tensor, x: Tensor, norm: RunNorm) -> tuple[Tensor, ...]:
    return torch.autograd.grad(y, (x, *norm.parameters()), dy)
