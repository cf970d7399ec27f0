"""Which studies make sense with a network of the user's own: those that vary keys which reach it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnexp.config.keys import ARGS, schema_keys
from bnexp.config.options import ModelName
from bnexp.config.schema import ConfigError, StudyConfig
from bnexp.config.validate import no_effect
from bnexp.plan.spec import unused_of_network
from bnexp.plan.study import Job, as_job

RULE = "it goes with studies whose arms and levels differ in "


def refuse_typed(network: ModelName, overrides: Mapping[str, str]) -> None:
    """Refuse overrides of keys that only bnexp's own networks use.

    Args:
        network: that the runs have.
        overrides: key -> value, as the user gave them.

    Raises:
        ConfigError: one has no effect.
    """
    if network is ModelName.python:
        for key in overrides.keys() & unused_of_network(network):
            raise no_effect(key, overrides[key])


def check_reach(study: StudyConfig, network: ModelName) -> None:
    """Refuse a study with arms, or levels of a factor, that are the same for a network of the user's.

    Args:
        study: its definition.
        network: that its runs have.

    Raises:
        ConfigError: two of them differ only in keys that the network does not use.
    """
    if network is not ModelName.python:
        return
    unused = unused_of_network(network)
    for what, jobs in _varied(study).items():
        if what == "arms" and study.metrics:
            continue  # readings of the same runs
        seen: dict[tuple[tuple[str, str], ...], str] = {}
        for name, job in jobs.items():
            other = seen.setdefault(tuple((key, value) for key, value in job.items() if key not in unused), name)
            if other != name and (keys := _differing(jobs[other], job, unused)):
                raise ConfigError(_refusal(study.name, what, [other, name], keys))


def reach_note(study: StudyConfig, network: ModelName) -> str:
    """A sentence on keys in arms and levels that do not reach the network; empty if there are none."""
    if network is not ModelName.python:
        return ""
    unused = unused_of_network(network)
    named = sorted({key for jobs in _varied(study).values() for job in jobs.values() for key in job if key in unused})
    if not named:
        return ""
    return f"{', '.join(named)} of its arms has no effect with model=python: norms are where your function calls norm()."


def _varied(study: StudyConfig) -> dict[str, dict[str, Job]]:
    """What a study varies: its arms, and the levels of each factor, each by name with its overrides."""
    varied = {"arms": {name: as_job(changes) for name, changes in study.arms.items()}}
    for name, levels in study.factors.items():
        if isinstance(levels, dict):
            varied[f"levels of {name}"] = {level: as_job(changes) for level, changes in levels.items()}
        else:
            varied[f"levels of {name}"] = {str(level): {name: str(level)} for level in levels}
    return varied


def _differing(one: Job, other: Job, unused: set[str]) -> list[str]:
    return sorted(key for key in one.keys() | other.keys() if key in unused and one.get(key) != other.get(key))


def _refusal(study: str, what: str, names: Sequence[str], keys: Sequence[str]) -> str:
    return (
        f"study {study} makes no sense with model=python: its {what} {' and '.join(names)} differ only in {', '.join(keys)}, "
        f"which your network does not use; {RULE}{reaching()}."
    )


def reaching() -> str:
    """The keys that reach a network of the user's, by section: ``data, norm (but linear, placement), optim, ...``."""
    unused = unused_of_network(ModelName.python)
    sections: dict[str, list[str]] = {}
    for info in schema_keys():
        section, _, name = info.name.partition(".")
        if info.metadata["identity"] and name and section != "model":
            left_out = sections.setdefault(section, [])
            left_out += [name] if info.name in unused else []
    named = [f"{section} (but {', '.join(names)})" if names else section for section, names in sections.items()]
    return f"{', '.join(named)} or {ARGS[1]}"
