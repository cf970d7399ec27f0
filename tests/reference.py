"""The oracle: the networks and their training as plain PyTorch writes them, one network at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnexp.config.options import ModelName, NormKind, OptimName, Placement, ResidualInit
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


class Scalar(nn.Module):
    """A factor (``weight``) or a summand (``bias``) that is learned."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.register_parameter(name, nn.Parameter(torch.empty(1)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight if self.name == "weight" else x + self.bias


class ReferenceResNet(Reference):
    """3x3 convolutions of torch.nn in three stages of residual blocks with shortcuts of option A, global average pooling."""

    def __init__(self, config: RunConfig, in_channels: int, size: int, num_classes: int) -> None:
        super().__init__(config)
        model, residual = config.model, config.model.init.residual
        self.blocks, self.width, self.fixup = (model.depth - 2) // 6, model.width, residual is ResidualInit.fixup
        widths = [self.width] + [self.width * 2**stage for stage in range(3) for _ in range(2 * self.blocks)]
        strides = [1] * len(widths)
        strides[1 + 2 * self.blocks] = strides[1 + 4 * self.blocks] = 2
        bias = model.has_conv_bias(config.norm)
        for i, (before, width) in enumerate(zip([in_channels, *widths], widths, strict=False), start=1):
            self.add_module(f"conv{i}", nn.Conv2d(before, width, 3, strides[i - 1], padding=1, bias=bias))
        self.fc1 = nn.Linear(4 * self.width, num_classes)
        if config.norm.kind is not NormKind.none:
            for i, width in enumerate(widths, start=1):
                self.add_norms(i, [width], nn.BatchNorm2d)
        norm_ends = config.norm.kind is not NormKind.none and config.norm.affine and config.norm.follows_conv
        for i in range(3, len(widths) + 1, 2):
            if self.fixup or (residual is ResidualInit.zero and not norm_ends):
                self.add_module(f"scale{i}", Scalar("weight"))
        if self.fixup:
            shifted = [f"{kind}{i}" for i in range(1, len(widths) + 1) for kind in ("conv", "act") if (kind, i) != ("conv", 1)]
            for name in [*shifted, "fc1"]:
                self.add_module(f"shift_{name}", Scalar("bias"))

    def conv(self, i: int, x: Tensor) -> Tensor:
        return getattr(self, f"conv{i}")(self.normalised(f"shift_conv{i}", x))

    def act_and_norms(self, i: int, x: Tensor) -> Tensor:
        """The activation and what follows it."""
        x = self.act(x)
        if self.place is Placement.both:
            return self.normalised(f"norm{i}_after", x)
        return x if self.config.norm.follows_conv else self.normalised(f"norm{i}", x)

    def until_act(self, i: int, x: Tensor) -> Tensor:
        """What stands between a convolution and its activation, or the addition before it."""
        x = self.normalised(f"norm{i}", x) if self.config.norm.follows_conv else x
        return self.normalised(f"shift_act{i}", self.normalised(f"scale{i}", x))

    def forward(self, x: Tensor) -> Tensor:
        x = self.act_and_norms(1, self.until_act(1, self.conv(1, x)))
        for block in range(3 * self.blocks):
            i = 2 + 2 * block
            y = self.act_and_norms(i, self.until_act(i, self.conv(i, x)))
            y = self.until_act(i + 1, self.conv(i + 1, y))
            if y.shape != x.shape:  # half the side, twice the channels
                x = torch.cat([F.avg_pool2d(x, 1, stride=2), torch.zeros_like(y[:, : y.shape[1] // 2])], dim=1)
            x = self.act_and_norms(i + 1, x + y)
        return self.fc1(self.normalised("shift_fc1", F.adaptive_avg_pool2d(x, 1).flatten(1)))


NETWORKS: dict[ModelName, Callable[[RunConfig, int, int, int], Reference]] = {
    ModelName.lenet: ReferenceLeNet,
    ModelName.mlp: ReferenceMLP,
    ModelName.plain: ReferencePlain,
    ModelName.resnet: ReferenceResNet,
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
