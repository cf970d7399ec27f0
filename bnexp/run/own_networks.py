"""Networks of the user's own are built and tried before any run trains, and what the arms of a study do not share is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnexp.comparison.starts import Start, unshared_lines
from bnexp.config.options import ModelName
from bnexp.plan.spec import RunSpec, digest, identity

if TYPE_CHECKING:
    from bnexp.data.resident import Resident


def try_networks(specs: Sequence[RunSpec], resident: Resident) -> list[str]:
    """Build each different network of the runs once and pass images through it, see ``model/own/trying.py``.

    Args:
        specs: runs that are about to train, on one data set.
        resident: that data set.

    Returns:
        Lines for the user that name what the arms of a study do not share at the start, one for each combination of levels;
        none if they share everything but norm layers.

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
            starts.append({arm: _start(spec, resident) for arm, spec in arms.items()})
            tried |= keys
    return unshared_lines(starts)


def _network_key(spec: RunSpec) -> str:
    """Equal for runs whose networks differ in their initial values alone."""
    kept = {key: value for key, value in identity(spec.config).items() if key.split(".")[0] in ("model", "norm")}
    return digest(kept | {"precision": spec.config.train.precision})


def _start(spec: RunSpec, resident: Resident) -> Start:
    from bnexp.model.networks import build_network
    from bnexp.training.precision import compute_dtype
    from bnexp.training.probes import refuse_unfit
    from bnexp.training.probes.twin import Twin

    images = resident.in_channels, resident.size, resident.num_classes
    network = build_network([spec.config], *images, dtype=compute_dtype(spec.config.train.precision))
    if any(value is True for value in vars(spec.config.probe).values()):
        refuse_unfit(spec.config.probe, network)
        Twin(network, spec.config.train.precision)  # raises ConfigError if the network cannot be copied
    return network.initial(0)
