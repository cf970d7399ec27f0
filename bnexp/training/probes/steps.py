"""What one training step shows: gradients, their change, the loss around the parameters, how layers interact.

Every function takes a ``Step`` and gives named tensors (R,). Losses and gradients are those of the step's own batch in
training mode, dropout masks and noise included. Shape letters: R runs, P parameters of a run, N batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bnexp.training.probes.twin import State, Twin

Values = dict[str, Tensor]

# Distances of ``landscape`` in learning rates: 1/2 to 4, as Santurkar et al. 2018, figure 4.
MULTIPLES = tuple(k / 2 for k in range(1, 9))


@dataclass(frozen=True)
class Step:
    """A training step.

    Args:
        twin: what measurements compute with.
        before: the state of the network before the step.
        after: its state after the step.
        x: images of the batch, (N, R*C, S, S).
        labels: (R, N).
        rates: learning rates, (R,).
    """

    twin: Twin
    before: State
    after: State
    x: Tensor
    labels: Tensor
    rates: Tensor

    @cached_property
    def base(self) -> tuple[Tensor, Tensor]:
        """Losses (R,) and gradient (R, P) before the step: those that the optimiser was given."""
        return self.gradient_at(self.before.flat)

    def gradient_at(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (R,) and gradient (R, P) of the batch with the parameters ``flat`` (R, P)."""
        return self.twin.gradient(self.before, flat, self.x, self.labels)

    def losses_at(self, flat: Tensor) -> Tensor:
        """Losses (R,) of the batch with the parameters ``flat`` (R, P)."""
        return self.twin.losses(self.before, flat, self.x, self.labels)

    def moved(self, columns: slice) -> Tensor:
        """The parameters before the step, with ``columns`` as they are after it: (R, P)."""
        flat = self.before.flat.clone()
        flat[:, columns] = self.after.flat[:, columns]
        return flat


def gradients(step: Step) -> Values:
    """Euclidean norm of the gradient of each layer's weights, and log10 of the first layer's over the output layer's.

    ``gradients/conv1/norm`` ..., nats per unit of weight. ``gradients/log_ratio`` is 0 if the gradient reaches the first layer
    as large as it starts, negative if it vanishes on the way, positive if it explodes. Biases are left out: whether a layer has
    one differs between arms. Source: Glorot & Bengio, AISTATS 2010, section 4.2 (gradients by layer).
    """
    _, gradient = step.base
    norms = {layer.name: gradient[:, layer.weight].norm(dim=1) for layer in step.twin.layers}
    first, *_, last = norms.values()
    return {f"gradients/{name}/norm": norm for name, norm in norms.items()} | {"gradients/log_ratio": (first / last).log10()}


def initial_gradients(step: Step) -> Values:
    """``gradients`` of the first step, before any update: ``initial_gradients/log_ratio``, ``initial_gradients/conv1/norm``.

    Batch norm is in training mode, so it normalises by the first batch. Source: Yang et al. 2019, arXiv:1902.08129, who find
    that batch norm itself makes gradients explode with depth at initialisation.
    """
    return {f"initial_{name}": value for name, value in gradients(step).items()}


def covariate_shift(step: Step) -> Values:
    """Internal covariate shift: how the gradient of a layer's weights changes when the layers before it have made the step.

    For layer i with weights W_i, loss L of the same batch: ``G = dL/dW_i (W_1, ..., W_k)`` before the step and
    ``G' = dL/dW_i (W_1', ..., W_{i-1}', W_i, ..., W_k)`` with the preceding layers (biases and norm parameters too) updated by
    the optimiser. ``l2 = ||G - G'||``, ``relative_l2 = ||G - G'|| / ||G||`` and ``cosine = <G, G'> / (||G|| ||G'||)``; without
    a shift they are 0, 0 and 1. All are given for each layer but the first, which has no preceding layer, and as a mean over
    these. Source: Santurkar et al. 2018, arXiv:1805.11604, definition 2.1 and figure 3, which show ``l2`` and the angle.
    ``relative_l2`` is ours: a norm layer changes the size of all gradients, and with it ``l2``.
    """
    _, gradient = step.base
    values: Values = {}
    layers = step.twin.layers[1:]
    for layer in layers:
        old = gradient[:, layer.weight]
        new = step.gradient_at(step.moved(slice(0, layer.block.start)))[1][:, layer.weight]
        change, size = (new - old).norm(dim=1), old.norm(dim=1)
        values[f"covariate_shift/{layer.name}/l2"] = change
        values[f"covariate_shift/{layer.name}/relative_l2"] = change / size
        values[f"covariate_shift/{layer.name}/cosine"] = (new * old).sum(1) / (new.norm(dim=1) * size)
    for name in ("l2", "relative_l2", "cosine"):
        each = [values[f"covariate_shift/{layer.name}/{name}"] for layer in layers]
        values[f"covariate_shift/{name}"] = torch.stack(each).mean(0)
    return values


def landscape(step: Step) -> Values:
    """How loss L and gradient change along the gradient g, at ``W - a lr g`` for a = 1/2, 1, ..., 4 learning rates.

    ``loss_range``       largest minus smallest loss, nats
    ``gradient_change``  largest ``||grad L(W - a lr g) - g||``; small if the gradient predicts well ("predictiveness")
    ``relative_gradient_change``  the same divided by ``||g||``
    ``beta``             largest ``||grad L(W - a lr g) - g|| / (a lr ||g||)``: effective beta-smoothness
    The direction is the gradient alone, without momentum or weight decay, over all parameters. Source: Santurkar et al. 2018,
    arXiv:1805.11604, section 3.2 and figure 4, which shows all but the relative change. That is ours: a norm layer changes the
    size of all gradients, and with it that of their changes.
    """
    _, gradient = step.base
    losses, changes, betas = [], [], []
    for multiple in MULTIPLES:
        move = multiple * step.rates[:, None] * gradient
        loss, moved = step.gradient_at(step.before.flat - move)
        change = (moved - gradient).norm(dim=1)
        losses.append(loss)
        changes.append(change)
        betas.append(change / move.norm(dim=1))
    course, change = torch.stack(losses), torch.stack(changes).amax(0)
    return {
        "landscape/loss_range": course.amax(0) - course.amin(0),
        "landscape/gradient_change": change,
        "landscape/relative_gradient_change": change / gradient.norm(dim=1),
        "landscape/beta": torch.stack(betas).amax(0),
    }


def decoupling(step: Step) -> Values:
    """Whether layers act independently: the loss change of a whole step against those of each layer's step alone.

    ``joint``      change of the batch's loss by the whole step, nats
    ``separate``   sum over layers of its change when that layer alone (with its bias and the norms after it) makes the step
    ``gap``        ``|joint - separate|`` over the sum of the layers' absolute changes; 0: the layers do not interact
    Source of the claim: Goodfellow, Bengio & Courville, Deep Learning, 2016, section 8.7.1.
    """
    before = step.losses_at(step.before.flat)
    joint = step.losses_at(step.after.flat) - before
    changes = torch.stack([step.losses_at(step.moved(layer.block)) - before for layer in step.twin.layers])
    separate = changes.sum(0)
    gap = (joint - separate).abs() / changes.abs().sum(0)
    return {"decoupling/joint": joint, "decoupling/separate": separate, "decoupling/gap": gap}
