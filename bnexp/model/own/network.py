"""A user's own modules as a network of the engine: one module per run.

Shape letters: R runs, G orders of the images, N batch, C channels, S side of the image, K classes, P parameters of a run.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bnexp.config.schema import ConfigError, RunConfig
from bnexp.model.network import Network, Visit, Weights, check_fit
from bnexp.model.norms import RunNorm
from bnexp.model.own.building import Built, Factory, build_module
from bnexp.model.own.errors import told_of
from bnexp.model.own.guard import seed_python, seed_torch, step_kept
from bnexp.model.own.together import Together, difference
from bnexp.model.own.trying import hookable
from bnexp.rng import derive
from bnexp.torch_rng import torch_generator

NUM_TRIED = 8  # images on which computing all runs as one is compared with computing each by itself


class OwnNetwork(Network):
    """R modules of one shape, each with the parameters, the buffers and the random numbers of its own run.

    On a CPU the modules are computed one after another, so a run has the same bits alone and in any cohort. On other
    devices all runs are computed as one where that gives the same, see ``combine``. The parameters of the modules are
    views of ``flat``, whose columns stand in the order in which images reach the layers. Frozen parameters
    (``requires_grad=False``) are not in ``flat``. What a module draws in a training step, such as the masks of
    ``nn.Dropout``, comes from the run's stream ``dropout/STEP``.

    Args:
        built: one module per run.
        seeds: of each run, (R,).
        in_channels: C.
        num_classes: K.
        label: what the factory is called in messages.
        device: where the modules compute.
    """

    step: Tensor
    not_captured: str | None = "a network of your own"

    def __init__(
        self,
        built: Sequence[Built],
        seeds: Sequence[int],
        in_channels: int,
        num_classes: int,
        label: str,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.runs = nn.ModuleList(one.module for one in built).to(device)
        self.order, self.layers = built[0].order, built[0].layers
        self.in_python = built[0].draws_in_python
        self.seeds, self.num_runs, self.label = list(seeds), len(built), label
        self.in_channels, self.num_classes = in_channels, num_classes
        self.register_buffer("step", torch.zeros((), dtype=torch.int64), persistent=False)  # stays on the CPU
        self.together: Together | None = None
        self.num_hooks = self._num_hooks()
        self.pack()

    def _parameters_of(self, run: int) -> list[nn.Parameter]:
        named = dict(self.runs[run].named_parameters())
        return [named[name] for name in self.order]

    @torch.no_grad()
    def pack(self) -> None:
        by_run = [self._parameters_of(run) for run in range(self.num_runs)]
        self.flat = torch.stack([torch.cat([p.flatten() for p in parameters]) for parameters in by_run])
        for row, parameters in zip(self.flat, by_run, strict=True):
            for p, values in zip(parameters, row.split([p.numel() for p in parameters]), strict=True):
                p.data = values.view(p.shape)
        self._leaves: list[Tensor] = [p for parameters in by_run for p in parameters]
        if self.together:
            self._combine()

    def _combine(self) -> None:
        self.together = Together(list(self.runs), self.flat, self.columns())
        self._leaves = list(self.together.leaves.values())

    def combine(self, size: int) -> None:
        """Compute all runs as one from now on, if that gives the same; ``not_captured`` says whether, and why not.

        Args:
            size: S, of the images.
        """
        x = torch.rand(NUM_TRIED, self.in_channels, size, size, generator=torch_generator(0, "own/together")).to(self.flat)
        expected, leaves = self._outcome(x), self._leaves
        backwards = {layer: layer.backward for layer in self.modules() if isinstance(layer, RunNorm)}
        try:
            self._combine()
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message=".*batching rule")  # an operation that is mapped by a slow loop
                reason = difference(self._outcome(x), expected)
        except (RuntimeError, ValueError, TypeError, UserWarning, ConfigError) as error:
            reason = str(error.__cause__ or error).splitlines()[0].rstrip(".")
        self.not_captured = "a network of your own, its runs computed as one by torch.func"
        if reason is not None:
            self.together, self._leaves = None, leaves
            for layer, backward in backwards.items():
                layer.backward = backward
            self.not_captured = f"a network of your own, its runs computed one after another: {reason}"

    def _num_hooks(self) -> int:
        """Who watches a layer, as for precise statistics, has to see each run by itself."""
        return sum(len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in self.modules())

    def _outcome(self, x: Tensor) -> list[Tensor]:
        """Logits, gradient and buffers after a training pass on ``x``, which leaves nothing behind."""
        before = [tensor.detach().clone() for tensor in self.memory()]
        gradient = torch.empty_like(self.flat)
        try:
            logits = self.train()(x)
            self.gradient(logits.square().sum(), gradient)
            return [logits.detach(), gradient, *(tensor.detach().clone() for tensor in self.memory())]
        finally:
            with torch.no_grad():
                for tensor, value in zip(self.memory(), before, strict=True):
                    tensor.copy_(value)

    def gradient(self, loss: Tensor, out: Tensor) -> None:
        found = torch.autograd.grad(loss, self._leaves, allow_unused=True)
        parts = [torch.zeros_like(p) if g is None else g for g, p in zip(found, self._leaves, strict=True)]
        if self.together:
            torch.cat([part.flatten(1) for part in parts], dim=1, out=out)
        else:
            torch.cat([part.flatten() for part in parts], out=out.view(-1))

    def columns(self) -> dict[str, slice]:
        ends = list(accumulate(p.numel() for p in self._parameters_of(0)))
        return {name: slice(*ends) for name, ends in zip(self.order, pairwise([0, *ends]), strict=True)}

    def weight_layers(self) -> list[str]:
        module, trained = self.runs[0], set(self.order)
        norms = set(self.norm_layers())
        return [
            name
            for name in self.layers
            if f"{name}.weight" in trained and name not in norms and module.get_parameter(f"{name}.weight").ndim > 1
        ]

    def norm_layers(self) -> list[str]:
        return [name for name, layer in self.runs[0].named_modules() if isinstance(layer, RunNorm)]

    @property
    def head(self) -> str | None:
        outputs = {name: len(self.runs[0].get_parameter(f"{name}.weight")) for name in self.weight_layers()}
        return next((name for name in reversed(outputs) if outputs[name] == self.num_classes), None)

    def memory(self) -> list[Tensor]:
        return [*self.buffers(), *(p for p in self.parameters() if not p.requires_grad)]

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.step += 1
        if self.together and (torch.is_grad_enabled() or self._num_hooks() == self.num_hooks):
            with step_kept(x.device, self.flat.dtype, in_python=False), told_of(self.label):
                return self.together(x, self.in_channels)
        stream = f"dropout/{int(self.step)}" if self.training else "dropout/evaluation"
        logits = []
        with step_kept(x.device, self.flat.dtype, self.in_python):
            for run, module in enumerate(self.runs):
                self._seed(run, stream, x.device)
                part = self._images(x, run)
                with told_of(self.label, f"for images of shape {tuple(part.shape)}"):
                    logits.append(module(part))
                self._check_shape(logits[-1], len(part))
        return torch.stack(logits).transpose(0, 1)  # so that each run's gradient is laid out as if it were alone

    def _check_shape(self, logits: Tensor, num_images: int) -> None:
        """The network was tried with two images; a last batch of one image may come out in another shape."""
        if logits.shape != (num_images, self.num_classes):
            raise ConfigError(
                f"{self.label}: the module returns shape {tuple(logits.shape)} for a batch of {num_images} images; it has to "
                f"return ({num_images}, {self.num_classes})."
            )

    def _images(self, x: Tensor, run: int) -> Tensor:
        """The images of one run, laid out as if it were alone."""
        channels = self.in_channels
        orders = x.shape[1] // channels
        if orders == 1:
            return x
        first = run * orders // self.num_runs * channels
        return x[:, first : first + channels].contiguous()

    def _seed(self, run: int, stream: str, device: torch.device) -> None:
        seed = derive(self.seeds[run], stream)
        seed_torch(seed, device)
        if self.in_python:
            seed_python(seed)

    def _state(self, run: int) -> dict[str, Tensor]:
        """Name -> parameter or buffer of one run, shaped as in a plain module: norm layers have a run axis of their own."""
        module = self.runs[run]
        norms = set(self.norm_layers())
        state = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
        return {name: value[0] if name.rpartition(".")[0] in norms else value for name, value in state.items()}

    def export(self, run: int) -> dict[str, NDArray[np.generic]]:
        values = {name: value.detach().cpu() for name, value in self._state(run).items()}
        halves = (torch.bfloat16,)  # NumPy has no such numbers
        return {name: (v.float() if v.dtype in halves else v).numpy().copy() for name, v in values.items()}

    def initial(self, run: int) -> dict[str, str]:
        norms = set(self.norm_layers())
        values = {name: value for name, value in self.export(run).items() if name.rpartition(".")[0] not in norms}
        return {
            name: f"{'x'.join(map(str, value.shape))} {sha256(value.tobytes()).hexdigest()[:12]}"
            for name, value in values.items()
        }

    @torch.no_grad()
    def load(self, run: int, weights: Weights) -> None:
        state = self._state(run)
        check_fit({name: tuple(value.shape) for name, value in state.items()}, weights)
        for name, value in state.items():
            value.copy_(torch.tensor(weights[name]))

    def walk(self, x: Tensor, visit: Visit) -> None:
        passed = [self._passed(run, x) for run in range(self.num_runs)]
        for same in zip(*passed, strict=True):
            names, layers, inputs = zip(*same, strict=True)
            has_state = any(True for _ in (*layers[0].parameters(), *layers[0].buffers()))
            layer = _Together(layers) if has_state and self.num_runs > 1 else layers[0]
            visit(names[0], layer, _joined(inputs))

    def _passed(self, run: int, x: Tensor) -> list[tuple[str, nn.Module, Tensor]]:
        """Name, layer and input of each innermost layer that the images of a run pass, in order."""
        module, found = self.runs[run], list[tuple[str, nn.Module, Tensor]]()
        times = Counter[str]()

        def note(layer: nn.Module, inputs: tuple[Tensor, ...], name: str) -> None:
            times[name] += 1
            if inputs and isinstance(inputs[0], Tensor):
                label = name if times[name] == 1 else f"{name}-{times[name]}"
                found.append((label, layer, inputs[0].clone()))  # a layer may change its input in place

        leaves = [(name, layer) for name, layer in hookable(module) if not any(layer.children())]
        handles = [layer.register_forward_pre_hook(partial(note, name=name)) for name, layer in leaves]
        try:
            with step_kept(x.device, self.flat.dtype, self.in_python):
                self._seed(run, f"dropout/{int(self.step)}", x.device)
                module(self._images(x, run))
        finally:
            for handle in handles:
                handle.remove()
        return found


class _Together(nn.Module):
    """The layers of all runs at one place, from the values of all runs to those of all runs."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 3:  # features (N, R, D)
            return _joined([layer(part) for layer, part in zip(self.layers, x.unbind(1), strict=True)])
        return _joined([layer(part) for layer, part in zip(self.layers, x.chunk(len(self.layers), 1), strict=True)])


def _joined(values: Sequence[Tensor]) -> Tensor:
    """The values of R runs, features (N, D) as (N, R, D) and maps (N, C, H, W) as (N, R*C, H, W)."""
    return torch.stack(list(values), 1) if values[0].ndim == 2 else torch.cat(list(values), 1)


def build_own_network(
    factory: Factory,
    label: str,
    args: Mapping[str, Any],
    configs: Sequence[RunConfig],
    in_channels: int,
    size: int,
    num_classes: int,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    num_steps: int = 1,
) -> OwnNetwork:
    """The initialised network of a cohort whose modules the user's code makes.

    Args:
        factory: ``build(norm, in_channels, num_classes, size, **args) -> nn.Module``.
        label: what it is called in messages, such as ``model.factory=nets.py:build``.
        args: further arguments of the factory.
        configs, in_channels, size, num_classes, device, dtype, num_steps: as in ``build_network``.

    Raises:
        ConfigError: the factory or its module fails or cannot be used.
    """
    shape = (in_channels, size, size)
    built = [build_module(factory, label, config, args, shape, num_classes, dtype, num_steps) for config in configs]
    seeds = [config.seed for config in configs]
    network = OwnNetwork(built, seeds, in_channels, num_classes, label, device or torch.device("cpu"))
    if device is not None and device.type != "cpu" and len(configs) > 1:
        network.combine(size)
    return network
