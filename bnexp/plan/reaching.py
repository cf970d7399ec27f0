"""Which studies make sense with a network of the user's own: those that vary keys which reach it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

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


def fit_reach(study: StudyConfig, network: ModelName) -> tuple[StudyConfig, str]:
    """Fit a study to a network of the user's: of arms that differ only in where norms stand, the first is kept.

    Args:
        study: its definition.
        network: that its runs have.

    Returns:
        The study, and a sentence on keys that it sets but that do not reach the network; empty if there are none.

    Raises:
        ConfigError: arms, or levels of a factor, differ only in keys that the network does not use: no question is left.
    """
    if network is not ModelName.python:
        return study, ""
    unused = unused_of_network(network)
    study, left_out = _without_equal_arms(study, unused)
    varied = _varied(study)
    for what, jobs in varied.items():
        for other, name, keys in _equal(jobs, unused) if what != "arms" or not study.metrics else ():
            raise ConfigError(_refusal(study.name, what, [other, name], keys))
    named = sorted({key for jobs in varied.values() for job in jobs.values() for key in job if key in unused})
    if not named:
        return study, ""
    dropped = f", so {' and '.join(left_out)} is left out" if left_out else ""
    which = ", ".join(named)
    return study, f"{which} of its arms has no effect with model=python: norms are where your function calls norm(){dropped}."


def _equal(jobs: Mapping[str, Job], unused: set[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Two names of jobs that differ only in keys without effect, and these keys. A tuned arm has the same keys as another."""
    seen: dict[tuple[tuple[str, str], ...], str] = {}
    for name, job in jobs.items():
        other = seen.setdefault(tuple((key, value) for key, value in job.items() if key not in unused), name)
        if other != name and (keys := _differing(jobs[other], job, unused)):
            yield other, name, keys


def _without_equal_arms(study: StudyConfig, unused: set[str]) -> tuple[StudyConfig, list[str]]:
    """The study without arms that differ from an earlier one only in ``norm`` keys, and their names; unless one arm is left."""
    equal = list(_equal(_varied(study)["arms"], unused))
    kept = {name: other for other, name, keys in equal if all(key.startswith("norm.") for key in keys)}
    arms = {name: changes for name, changes in study.arms.items() if name not in kept}
    if not kept or study.metrics or len(arms) < 2:
        return study, []
    decides = [
        replace(part, arm=kept.get(part.arm or "", part.arm), baseline=kept.get(part.baseline or "", part.baseline))
        for part in study.decides
    ]
    baseline = kept.get(study.baseline or "", study.baseline)
    once = [part for i, part in enumerate(decides) if part not in decides[:i] and part.arm != (part.baseline or "")]
    return replace(study, arms=arms, baseline=baseline, decides=once), list(kept)


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
