"""A user's modules of all runs as one computation, by torch.func, where the modules allow it: quicker on a GPU.

Shape letters: R runs, N batch, C channels, S side of the image, K classes, P parameters of a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bnexp.config.options import Backward
from bnexp.model.norms import RunNorm


class Together:
    """The modules of R runs as one, mapped over the run axis.

    Buffers and frozen parameters of the modules become views of stacked ones, so that either way of computing sees what
    the other has changed. The norm layers leave their gradient to autograd, which torch.func can map. Numbers that a
    module draws cannot be mapped: they would depend on the company of a run.

    Args:
        modules: of each run, of one structure.
        flat: their trainable parameters, (R, P).
        columns: parameter -> its columns of ``flat``.
    """

    def __init__(self, modules: Sequence[nn.Module], flat: Tensor, columns: Mapping[str, slice]) -> None:
        self.template, self.num_runs = modules[0], len(modules)
        shapes = {name: p.shape for name, p in self.template.named_parameters()}
        views = {name: flat[:, part].view(len(flat), *shapes[name]) for name, part in columns.items()}
        self.leaves = {name: view.detach().requires_grad_() for name, view in views.items()}
        by_run = [dict([*module.named_parameters(), *module.named_buffers()]) for module in modules]
        self.others: dict[str, Tensor] = {}
        for name in by_run[0].keys() - columns.keys():
            self.others[name] = torch.stack([named[name].detach() for named in by_run])
            for named, values in zip(by_run, self.others[name], strict=True):
                named[name].data = values
        for module in modules:
            for layer in module.modules():
                if isinstance(layer, RunNorm):
                    layer.backward = Backward.autograd

    def __call__(self, x: Tensor, in_channels: int) -> Tensor:
        """Images (N, C, S, S), the same for all runs, or (N, G*C, S, S) with G that divides R -> logits (N, R, K)."""
        orders = x.shape[1] // in_channels
        shared = orders == 1
        if not shared:
            x = x.view(len(x), orders, in_channels, *x.shape[2:]).repeat_interleave(self.num_runs // orders, 1)
        mapped = vmap(self._one, in_dims=(0, 0, None if shared else 1), out_dims=1, randomness="error")
        logits: Tensor = mapped(self.leaves, self.others, x)
        return logits

    def _one(self, leaves: Mapping[str, Tensor], others: Mapping[str, Tensor], x: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.template, (dict(leaves), dict(others)), (x,))
        return logits


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> str | None:
    """Why two computations do not agree up to rounding; None if they do."""
    for a, b in zip(found, expected, strict=True):
        scale = 1e-6 + b.abs().max().item() if b.is_floating_point() and b.numel() else 0.0
        if a.shape != b.shape or not torch.allclose(a.to(b.dtype), b, rtol=0.0, atol=1e-2 * scale):
            return "torch.func computes something else than the module by itself"
    return None
