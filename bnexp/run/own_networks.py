"""Networks of the user's own are built and tried before any run trains, and what the arms of a study do not share is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bnexp.config.options import ModelName
from bnexp.plan.spec import RunSpec, digest, identity

if TYPE_CHECKING:
    from bnexp.data.resident import Resident

NAMED = 5  # at most so many tensors are named in a line


@dataclass(frozen=True)
class Start:
    """What a run's network starts from.

    Args:
        values: parameter or buffer -> its initial value.
        norms: names of its norm layers, whose parameters no arm without that norm can have.
    """

    values: Mapping[str, NDArray[np.generic]]
    norms: frozenset[str]


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
    lines: dict[str, None] = {}
    for arms in cells.values():
        keys = {_network_key(spec) for spec in arms.values()}
        if not keys <= tried:
            starts = {arm: _start(spec, resident) for arm, spec in arms.items()}
            lines.update(dict.fromkeys([unshared_text(unshared(starts))] if unshared(starts) else []))
            tried |= keys
    return list(lines)


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
    return Start(network.export(0), frozenset(network.norm_layers()))


def unshared(starts: Mapping[str, Start]) -> dict[str, str]:
    """Name of each parameter or buffer that the arms do not have in common -> why, in a few words.

    Norm layers are left out: what they have depends on the arm.

    Args:
        starts: arm -> what its network starts from, with one seed for all.
    """
    norms = frozenset[str]().union(*(start.norms for start in starts.values()))
    names = dict.fromkeys(name for start in starts.values() for name in start.values if name.rpartition(".")[0] not in norms)
    found = {}
    for name in names:
        having = {arm: start.values[name] for arm, start in starts.items() if name in start.values}
        first = next(iter(having.values()))
        if len(having) < len(starts):
            found[name] = f"only in {', '.join(having)}"
        elif any(value.shape != first.shape for value in having.values()):
            found[name] = "of another shape"
        elif any(not np.array_equal(value, first) for value in having.values()):
            found[name] = "with other values"
    return found


def unshared_text(found: Mapping[str, str]) -> str:
    """``unshared`` as a sentence."""
    shown = [f"{name} ({why})" for name, why in list(found.items())[:NAMED]]
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"The arms start alike, but not in {', '.join(shown)}{more}: these are not paired by seed."
