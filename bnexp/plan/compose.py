"""Overrides -> validated configurations.

Every mistake that a user can make raises a ConfigError: one sentence with the key, what is allowed and the fix.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Collection, Sequence
from copy import deepcopy
from pathlib import Path
from typing import cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from bnexp.config.overrides import translated
from bnexp.config.schema import ConfigError, RunConfig
from bnexp.config.validate import validate
from bnexp.data.amount import fit_train_size
from bnexp.plan.code import find_code
from bnexp.plan.reaching import refuse_typed
from bnexp.plan.session import Session, apply, groups, load, session
from bnexp.plan.study import Job, as_job, texts_of

# The keys in which jobs differ most often. A value of this form can be set in a configuration that is composed already.
PER_JOB = {"seed": re.compile(r"-?\d{1,18}"), "train.init_from": re.compile("'[^']*'")}


def compose(overrides: Sequence[str] = ()) -> RunConfig:
    """One validated configuration. Raises ConfigError."""
    with session(overrides) as hydra:
        return compose_one(hydra)


def compose_one(hydra: Session) -> RunConfig:
    """The one configuration that a command line stands for. Raises ConfigError if it stands for several."""
    for override in hydra.overrides:
        if override.is_sweep_override():
            raise ConfigError(
                f"{override.input_line} has several values: that makes several runs; add -m to bnexp train, or give one value."
            )
    config = to_config(load(hydra.loader, hydra.texts))
    refuse_typed(config.model.name, as_job(hydra.texts))
    return config


def to_config(tree: DictConfig, directory: Path | None = None) -> RunConfig:
    """Turn Hydra's tree into validated dataclasses.

    Args:
        tree: composed from overrides and files of the user.
        directory: where relative paths of the user's code begin; None: the current directory.

    Raises:
        ConfigError: a value, or a combination of values, is not possible, or code that the user named cannot be loaded.
        DataError: the user's own files cannot be read.
    """
    with translated():
        if "hydra" in tree:
            tree = tree.copy()
            with open_dict(tree):
                tree.pop("hydra")
        config = OmegaConf.to_object(tree)
    assert isinstance(config, RunConfig)
    validate(config)
    find_code(config, directory)
    fit_train_size(config)
    return config


class Composer:
    """Turns the jobs of a multirun, each a mapping of keys to values, into validated configurations.

    Hydra needs some 50 ms to compose one. So files are read once for each choice of config groups. Jobs that differ only in
    their seed, or in the run that they start from, are composed once. The results are kept for the next call.

    Args:
        loader: Hydra's configuration loader.
        master: the multirun's own composition, with the overrides that all jobs share.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master, self._groups = loader, master, groups()
        self._trees: dict[tuple[str, ...], bytes] = {}  # pickled
        self._configs: dict[tuple[object, ...], RunConfig] = {}

    def __call__(self, jobs: Sequence[Job]) -> list[RunConfig]:
        """The configurations of the jobs, each an object of its own. Raises ConfigError."""
        return [self._config(job) for job in jobs]

    def _config(self, job: Job) -> RunConfig:
        own = {name: job[name] for name, plain in PER_JOB.items() if plain.fullmatch(job.get(name, ""))}
        key = (*((name, text) for name, text in job.items() if name not in own), *own)
        if key not in self._configs:
            self._configs[key] = to_config(self._tree(job))
        if "study.arm" not in job:  # those of a study are checked as a whole
            refuse_typed(self._configs[key].model.name, job)
        config = deepcopy(self._configs[key])
        if "seed" in own:
            config.seed = int(own["seed"])
        if "train.init_from" in own:
            config.train.init_from = own["train.init_from"].strip("'")
        if own:
            validate(config)
        return config

    def _tree(self, job: Job) -> DictConfig:
        """The same as Hydra's ``load_sweep_config``, made in the same way: values are set in a tree of the chosen files."""
        with translated():
            choices, values = list[Override](), list[Override]()
            for override in OverridesParser.create(self._loader).parse_overrides(texts_of(job)):
                if override.key_or_group in self._groups or override.is_hydra_override():
                    choices.append(override)
                else:
                    values.append(override)
            if (files := tuple(str(choice.input_line) for choice in choices)) not in self._trees:
                same = self._has_chosen(choices, texts_of(job))
                tree = self._master.copy() if same else self._loader.load_sweep_config(self._master, list(files))
                with open_dict(tree):
                    tree.pop("hydra")
                self._trees[files] = pickle.dumps(tree)
            tree = cast(DictConfig, pickle.loads(self._trees[files]))
            apply(values, tree)
        return tree

    def _has_chosen(self, choices: Sequence[Override], texts: Collection[str]) -> bool:
        """Whether the master is of the same files, and its own values can be set once more without a change."""
        shared, chosen = self._master.hydra.overrides.task, self._master.hydra.runtime.choices
        return all(text in texts and not text.startswith("+") for text in shared) and all(
            choice.is_hydra_override() or chosen.get(choice.get_key_element()) == choice.value() for choice in choices
        )
