"""Networks of the user's own are built and tried before any run trains, and what the arms of a study do not share is named."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from bnexp.comparison.starts import NAMED, Start, unshared, unshared_lines
from bnexp.config.options import ModelName
from bnexp.plan.spec import RunSpec, digest, identity
from bnexp.run.arrange import by_data
from bnexp.run.cost import image_channels, num_classes

if TYPE_CHECKING:
    from bnexp.model.network import Network

Images = tuple[int, int, int]  # channels, side in pixels, number of classes


def try_networks(specs: Sequence[RunSpec], images: Images) -> list[str]:
    """Build each different network of the runs once and pass images through it, see ``model/own/trying.py``.

    Args:
        specs: runs that are about to train, on one data set.
        images: what these images are like.

    Returns:
        Lines for the user that name what no seed decides in a network, and what the arms of a study do not share at the start,
        one for each combination of levels; none if a run can be repeated and arms share everything but norm layers.

    Raises:
        ConfigError: a network cannot be built or trained.
    """
    cells: dict[tuple[object, ...], dict[str, RunSpec]] = {}
    for spec in specs:
        if spec.config.model.name is ModelName.python:
            cells.setdefault((spec.study, str(spec.levels), spec.seed), {}).setdefault(spec.arm, spec)
    tried: set[str] = set()
    starts: list[dict[str, Start]] = []
    for arms in cells.values():
        keys = {_network_key(spec) for spec in arms.values()}
        if not keys <= tried:
            starts.append({arm: _start(spec, images) for arm, spec in arms.items()})
            tried |= keys
    first = {str(spec.config.model.factory): spec for arms in reversed(cells.values()) for spec in arms.values()}
    return [line for spec in first.values() if (line := unseeded(spec, images))] + unshared_lines(starts)


def try_planned(specs: Sequence[RunSpec]) -> list[str]:
    """As ``try_networks``, of planned runs on any data, before that is prepared: what only the user's files tell is assumed."""
    groups = [(group, group[0].config.data) for group in by_data(specs)]
    said = [try_networks(group, (image_channels(data), data.size, num_classes(data))) for group, data in groups]
    return list(dict.fromkeys(chain(*said)))


def _network_key(spec: RunSpec) -> str:
    """Equal for runs whose networks differ in their initial values alone."""
    kept = {key: value for key, value in identity(spec.config).items() if key.split(".")[0] in ("model", "norm")}
    return digest(kept | {"precision": spec.config.train.precision})


def unseeded(spec: RunSpec, images: Images) -> str:
    """A sentence on random numbers of a network that no seed decides; empty if it is the same when it is made again.

    Args:
        spec: a run with a network of the user's.
        images: what the images are like.
    """
    import torch

    from bnexp.torch_rng import torch_generator

    networks = [_network(spec, images) for _ in range(2)]
    starts = {str(i): network.initial(0) for i, network in enumerate(networks)}
    x = torch.rand(2, images[0], images[1], images[1], generator=torch_generator(0, "own/unseeded"))
    with torch.no_grad():
        logits, again = [network.train()(x.to(network.flat)) for network in networks]
    if found := unshared(starts):
        what = f"starts with other values of {', '.join(list(found)[:NAMED])}"
    elif not torch.allclose(logits, again, equal_nan=True):
        what = "gives other logits for the same images"
    else:
        return ""
    return (
        f"{spec.config.model.factory}: its network, made twice with one seed, {what}, so a run that is repeated gives other "
        "numbers. Draw from torch, random or numpy.random, which follow the seed of the run; a generator of your own has to be "
        "made with a seed, inside the function."
    )


def _network(spec: RunSpec, images: Images) -> Network:
    from bnexp.model.networks import build_network
    from bnexp.training.precision import compute_dtype

    return build_network([spec.config], *images, dtype=compute_dtype(spec.config.train.precision))


def _start(spec: RunSpec, images: Images) -> Start:
    from bnexp.training.probes import refuse_unfit
    from bnexp.training.probes.twin import Twin

    network = _network(spec, images)
    if any(value is True for value in vars(spec.config.probe).values()):
        refuse_unfit(spec.config.probe, network)
        Twin(network, spec.config.train.precision)  # raises ConfigError if the network cannot be copied
    return network.initial(0)
