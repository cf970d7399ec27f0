"""B4: all runs of an arm as one model, as in the ``torch.func`` tutorial on model ensembling.

The forward pass is mapped over stacked parameters, and ordinary autograd goes back through it. The running statistics of
batch norm are stacked buffers. Under ``vmap`` batch norm may update them in place, because they have the mapped axis, as its
input has. So this rung evaluates with running statistics, like all others. (``torch.func.grad`` inside ``vmap`` would refuse
that update. The tutorials then turn ``track_running_stats`` off, which makes another network in evaluation.)
One ``torch.optim`` instance steps the whole stack, so all runs share one learning rate, unlike in bnexp's cohorts.

Shapes: R runs, N batch, C channels, S side of the image, K classes.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, stack_module_state

from bnexp.bench.batches import ResidentTensors
from bnexp.bench.plain import Trained, start_network, start_optimiser
from bnexp.bench.work import RunResult
from bnexp.config.schema import RunConfig
from bnexp.data.batches import epoch_order
from bnexp.data.resident import Resident, Split


def train_ensemble(
    configs: Sequence[RunConfig], data: Resident, batches: ResidentTensors, device: torch.device
) -> list[Trained]:
    """Train runs that differ only in their seed. Each reports an equal share of the time."""
    return _Ensemble(configs, data, batches, device).train()


class _Ensemble:
    def __init__(self, configs: Sequence[RunConfig], data: Resident, batches: ResidentTensors, device: torch.device) -> None:
        self.configs, self.batches, self.device = configs, batches, device
        networks = [start_network(config, data).to(device) for config in configs]
        self.parameters, self.buffers = stack_module_state(networks)
        self.base = copy.deepcopy(networks[0]).to("meta")
        self.optimiser = start_optimiser(configs[0], self.parameters.values())

    def _forward(self, x_axis: int | None) -> Callable[..., Tensor]:
        """(parameters, buffers, x) -> logits (R, N, K). ``x_axis``: the run axis of x; None if all runs share the batch."""

        def call(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
            logits: Tensor = functional_call(self.base, (parameters, buffers), (x,))
            return logits

        return torch.vmap(call, in_dims=(0, 0, x_axis))

    def train(self) -> list[Trained]:
        train = self.configs[0].train
        history: list[list[dict[str, float]]] = [[] for _ in self.configs]
        seconds = 0.0
        for epoch in range(1, train.epochs + 1):
            begin = time.perf_counter()
            losses = self._epoch(epoch, train.batch_size).tolist()  # waits for the device
            seconds += time.perf_counter() - begin
            for run, (loss, score) in enumerate(zip(losses, self._accuracy("val"), strict=True)):
                history[run].append({"epoch": epoch, "train_loss": loss, "val_accuracy": score})
        share, images = seconds / len(self.configs), train.epochs * len(self.batches.labels)
        return [
            Trained(RunResult(config.study.arm, config.seed, score), history[run], self._weights(run), images, share)
            for run, (config, score) in enumerate(zip(self.configs, self._accuracy("test"), strict=True))
        ]

    def _epoch(self, epoch: int, batch_size: int) -> Tensor:
        """Train one epoch. Returns the mean training loss of each run (R,)."""
        self.base.train()
        forward = self._forward(0)
        images, labels = self.batches.images, self.batches.labels
        order_RN = torch.stack([epoch_order(config.seed, epoch, len(labels)) for config in self.configs]).to(self.device)
        total = torch.zeros(len(self.configs), device=self.device)
        for chosen_RN in torch.split(order_RN, batch_size, dim=1):
            y_RN = labels[chosen_RN]
            self.optimiser.zero_grad()
            logits = forward(self.parameters, self.buffers, images[chosen_RN])
            losses = F.cross_entropy(logits.flatten(0, 1), y_RN.flatten(), reduction="none").view(y_RN.shape).mean(1)
            losses.sum().backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            total += losses.detach() * y_RN.shape[1]
        return total / len(labels)

    @torch.no_grad()
    def _accuracy(self, split: Split) -> list[float]:
        self.base.eval()
        forward = self._forward(None)
        correct, num_images = torch.zeros(len(self.configs), dtype=torch.int64, device=self.device), 0
        for x, y in self.batches.evaluate(split):
            correct += (forward(self.parameters, self.buffers, x).argmax(-1) == y).sum(1)
            num_images += len(y)
        return [count / num_images for count in correct.tolist()]

    def _weights(self, run: int) -> dict[str, Tensor]:
        state = self.parameters | self.buffers
        return {name: value[run].detach().clone() for name, value in state.items()}
