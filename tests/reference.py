"""The oracle: LeNet and its training as plain PyTorch writes them, one network at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnexp.config import OptimConfig, RunConfig
from bnexp.options import NormKind, OptimName, Placement

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


class ReferenceLeNet(nn.Module):
    """LeNet of torch.nn layers, with the parameter names that ``Network.export`` uses."""

    def __init__(self, config: RunConfig, in_channels: int, size: int, num_classes: int) -> None:
        super().__init__()
        self.norm, self.dropout = config.norm, nn.Dropout(config.model.dropout)
        self.act, self.pool = ACTIVATIONS[config.model.activation](), nn.MaxPool2d(2)
        bias = config.model.has_conv_bias(config.norm)
        side = ((size - 4) // 2 - 4) // 2
        self.conv1 = nn.Conv2d(in_channels, 6, 5, bias=bias)
        self.conv2 = nn.Conv2d(6, 16, 5, bias=bias)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)
        if config.norm.kind is NormKind.batch:
            widths = [(1, 6, nn.BatchNorm2d), (2, 16, nn.BatchNorm2d)]
            if config.norm.linear:
                widths += [(3, 120, nn.BatchNorm1d), (4, 84, nn.BatchNorm1d)]
            for i, width, kind in widths:
                for suffix in ("", "_after") if config.norm.placement is Placement.both else ("",):
                    self.add_module(f"norm{i}{suffix}", self._norm(kind, width))

    def _norm(self, kind: type[nn.Module], width: int) -> nn.Module:
        n = self.norm
        return kind(width, n.eps, n.momentum, affine=n.affine, track_running_stats=n.track_running_stats)

    def _apply_norm(self, name: str, x: Tensor) -> Tensor:
        return getattr(self, name)(x) if hasattr(self, name) else x

    def _after(self, i: int, x: Tensor, pool: nn.Module) -> Tensor:
        place = self.norm.placement
        if place in (Placement.before_activation, Placement.both):
            x = self._apply_norm(f"norm{i}", x)
        x = self.act(x)
        if place is Placement.after_activation:
            x = self._apply_norm(f"norm{i}", x)
        if place is Placement.both:
            x = self._apply_norm(f"norm{i}_after", x)
        x = pool(x)
        return self._apply_norm(f"norm{i}", x) if place is Placement.after_pool else x

    def forward(self, x: Tensor) -> Tensor:
        x = self._after(1, self.conv1(x), self.pool)
        x = self._after(2, self.conv2(x), self.pool)
        x = self.dropout(self._after(3, self.fc1(x.flatten(1)), nn.Identity()))
        x = self.dropout(self._after(4, self.fc2(x), nn.Identity()))
        return self.fc3(x)


def reference_network(config: RunConfig, weights: Mapping[str, object], in_channels: int, size: int, classes: int) -> nn.Module:
    """The plain network with a run's exported weights, strictly loaded, in their precision."""
    state = {name: torch.as_tensor(value) for name, value in weights.items()}
    network = ReferenceLeNet(config, in_channels, size, classes).to(state["conv1.weight"].dtype)
    network.load_state_dict(state, strict=True)
    return network


def reference_optimiser(config: OptimConfig, network: nn.Module) -> torch.optim.Optimizer:
    if config.name is OptimName.sgd:
        return torch.optim.SGD(
            network.parameters(),
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
        )
    return torch.optim.Adam(
        network.parameters(),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
    )


def reference_train(config: RunConfig, network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> list[float]:
    """Train at a constant learning rate; returns the loss of each step."""
    optimiser = reference_optimiser(config.optim, network)
    network.train()
    losses = []
    for x, y in batches:
        optimiser.zero_grad()
        loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses
