"""A run of a user's own network as the module that their function made, with torch's norm layers in the place of ours."""

from __future__ import annotations

import torch
from torch import nn

from bnexp.model.export import plain_layer
from bnexp.model.norms import RunNorm
from bnexp.model.own.network import OwnNetwork


def own_module(network: OwnNetwork, run: int) -> nn.Module:
    """The module of one run, in evaluation mode, independent of the network. Its norm layers are torch's own.

    Ghost batches, noise and the correction of batch renorm are left out, as in ``export.plain_module``: they are of training
    only.

    Args:
        network: whose parameters are cut off from it; it is not used any more.
        run: which of its runs, from 0.
    """
    module, weights = network.runs[run], network.export(run)
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
    replaced: dict[nn.Module, nn.Module] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, RunNorm):
            state = {key[len(name) + 1 :]: torch.as_tensor(value) for key, value in weights.items() if _owner(key) == name}
            replaced[layer] = plain_layer(layer, 0).to(network.flat)
            replaced[layer].load_state_dict(state)
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if child in replaced:
                setattr(parent, name, replaced[child])
    return replaced.get(module, module).eval()


def _owner(key: str) -> str:
    return key.rpartition(".")[0]
