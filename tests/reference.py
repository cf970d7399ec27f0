"""The oracle: the networks and their training as plain PyTorch writes them, one network at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnexp.config.options import ModelName, NormKind, OptimName, Placement
from bnexp.config.schema import OptimConfig, RunConfig

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


class Reference(nn.Module):
    """What the plain networks share: norms at their places, activation, pooling, dropout."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.config, self.place = config, config.norm.placement
        self.act, self.pool = ACTIVATIONS[config.model.activation](), nn.MaxPool2d(2)
        self.dropout = nn.Dropout(config.model.dropout)

    def add_norms(self, first: int, widths: Sequence[int], batch_norm: type[nn.Module]) -> None:
        """Norm layers ``norm<first>``, ... of so many features, with a second one each for placement ``both``."""
        for i, width in enumerate(widths, start=first):
            for suffix in ("", "_after") if self.place is Placement.both else ("",):
                self.add_module(f"norm{i}{suffix}", self.norm(width, batch_norm))

    def norm(self, width: int, batch_norm: type[nn.Module]) -> nn.Module:
        n = self.config.norm
        match n.kind:
            case NormKind.layer:
                return nn.GroupNorm(1, width, n.eps, n.affine)  # over channels and pixels of an image
            case NormKind.group:
                return nn.GroupNorm(n.groups, width, n.eps, n.affine)
            case NormKind.instance:
                return nn.InstanceNorm2d(width, n.eps, affine=n.affine)
            case _:
                return batch_norm(width, n.eps, n.momentum, affine=n.affine, track_running_stats=n.track_running_stats)

    def normalised(self, name: str, x: Tensor) -> Tensor:
        return getattr(self, name)(x) if hasattr(self, name) else x

    def after(self, i: int, x: Tensor, pool: nn.Module | None = None) -> Tensor:
        """What follows layer ``i`` of the network."""
        if self.place in (Placement.before_activation, Placement.both):
            x = self.normalised(f"norm{i}", x)
        x = self.act(x)
        if self.place is Placement.after_activation:
            x = self.normalised(f"norm{i}", x)
        if self.place is Placement.both:
            x = self.normalised(f"norm{i}_after", x)
        x = x if pool is None else pool(x)
        return self.normalised(f"norm{i}", x) if self.place is Placement.after_pool else x


class ReferenceLeNet(Reference):
    """LeNet of torch.nn layers, with the parameter names that ``Network.export`` uses."""

    def __init__(self, config: RunConfig, in_channels: int, size: int, num_classes: int) -> None:
        super().__init__(config)
        bias = config.model.has_conv_bias(config.norm)
        side = ((size - 4) // 2 - 4) // 2
        self.conv1 = nn.Conv2d(in_channels, 6, 5, bias=bias)
        self.conv2 = nn.Conv2d(6, 16, 5, bias=bias)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)
        if config.norm.kind is not NormKind.none:
            self.add_norms(1, [6, 16], nn.BatchNorm2d)
            if config.norm.linear:
                self.add_norms(3, [120, 84], nn.BatchNorm1d)

    def forward(self, x: Tensor) -> Tensor:
        x = self.after(1, self.conv1(x), self.pool)
        x = self.after(2, self.conv2(x), self.pool)
        x = self.dropout(self.after(3, self.fc1(x.flatten(1))))
        x = self.dropout(self.after(4, self.fc2(x)))
        return self.fc3(x)


class ReferenceMLP(Reference):
    """Hidden linear layers of torch.nn."""

    def __init__(self, config: RunConfig, in_channels: int, size: int, num_classes: int) -> None:
        super().__init__(config)
        self.depth, width = config.model.depth, config.model.width
        for i in range(1, self.depth + 1):
            self.add_module(f"fc{i}", nn.Linear(in_channels * size**2 if i == 1 else width, width))
        self.add_module(f"fc{self.depth + 1}", nn.Linear(width, num_classes))
        if config.norm.kind is not NormKind.none:
            self.add_norms(1, [width] * self.depth, nn.BatchNorm1d)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for i in range(1, self.depth + 1):
            x = self.dropout(self.after(i, getattr(self, f"fc{i}")(x)))
        return getattr(self, f"fc{self.depth + 1}")(x)


class ReferencePlain(Reference):
    """3x3 convolutions of torch.nn in at most four stages, global average pooling."""

    STAGE_ENDS: Mapping[int, tuple[int, ...]] = {2: (1,), 3: (1, 2), 4: (1, 2, 3), 5: (1, 2, 3), 8: (2, 4, 6), 16: (4, 8, 12)}

    def __init__(self, config: RunConfig, in_channels: int, size: int, num_classes: int) -> None:
        super().__init__(config)
        self.depth, width = config.model.depth, config.model.width
        for i in range(1, self.depth + 1):
            bias = config.model.has_conv_bias(config.norm)
            self.add_module(f"conv{i}", nn.Conv2d(in_channels if i == 1 else width, width, 3, padding="same", bias=bias))
        self.fc1 = nn.Linear(width, num_classes)
        if config.norm.kind is not NormKind.none:
            self.add_norms(1, [width] * self.depth, nn.BatchNorm2d)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, self.depth + 1):
            x = self.after(i, getattr(self, f"conv{i}")(x), self.pool if i in self.STAGE_ENDS[self.depth] else None)
        return self.fc1(F.adaptive_avg_pool2d(x, 1).flatten(1))


NETWORKS: dict[ModelName, Callable[[RunConfig, int, int, int], Reference]] = {
    ModelName.lenet: ReferenceLeNet,
    ModelName.mlp: ReferenceMLP,
    ModelName.plain: ReferencePlain,
}


def reference_network(config: RunConfig, weights: Mapping[str, object], in_channels: int, size: int, classes: int) -> nn.Module:
    """The plain network with a run's exported weights, strictly loaded, in their precision."""
    state = {name: torch.as_tensor(value) for name, value in weights.items()}
    network = NETWORKS[config.model.name](config, in_channels, size, classes).to(state["fc1.weight"].dtype)
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
