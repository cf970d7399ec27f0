"""A norm layer, optimiser or probe that is added in one place is missed in the others: each test names the missing place."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import pytest
import yaml
from reference import NETWORKS

from bnexp.config.keys import PROBE_METRICS, schema_keys
from bnexp.config.options import ModelName, NormKind, OptimName
from bnexp.model.norms import LAYERS
from bnexp.training.optim import OPTIMISERS
from bnexp.training.probes import AT_END, AT_EPOCHS, AT_START, AT_STEPS

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize(
    ("choice", "section", "key"),
    [*((kind, "norm", "kind") for kind in NormKind), *((name, "optim", "name") for name in OptimName)],
)
def test_every_choice_has_its_file_and_uses_keys_that_exist(choice: NormKind | OptimName, section: str, key: str) -> None:
    file = CONFIGS / section / f"{choice}.yaml"
    assert file.is_file(), f"configs/{section}/{choice}.yaml is missing"
    assert yaml.safe_load(file.read_text())[key] == choice, f"configs/{section}/{choice}.yaml needs the line {key}: {choice}"
    known = {info.name for info in schema_keys()}
    assert not {f"{section}.{name}" for name in choice.own_keys} - known, f"{choice}.own_keys in bnexp/config/options.py"


@pytest.mark.parametrize(
    ("choices", "registry", "place"),
    [
        (set(NormKind) - {NormKind.none}, LAYERS, "LAYERS in bnexp/model/norms/__init__.py"),
        (set(OptimName), OPTIMISERS, "OPTIMISERS in bnexp/training/optim.py"),
    ],
)
def test_every_choice_is_built_somewhere(choices: set[StrEnum], registry: dict[StrEnum, object], place: str) -> None:
    assert not choices - registry.keys(), f"missing in {place}"


@pytest.mark.parametrize("name", [name for name in ModelName if name is not ModelName.python])
def test_every_network_has_its_file_and_its_oracle(name: ModelName) -> None:
    file = CONFIGS / "model" / f"{name}.yaml"
    assert file.is_file(), f"configs/model/{name}.yaml is missing"
    assert yaml.safe_load(file.read_text())["name"] == name, f"configs/model/{name}.yaml needs the line name: {name}"
    assert name in NETWORKS, f"{name} is missing in NETWORKS in tests/reference.py"


def test_every_probe_is_measured_and_says_what_it_records() -> None:
    switches = {
        info.name.removeprefix("probe.") for info in schema_keys() if info.name.startswith("probe.") and info.type is bool
    }
    measured = [*AT_START, *AT_STEPS, *AT_EPOCHS, *AT_END]
    assert not switches - PROBE_METRICS.keys(), "records=... is missing at the key in ProbeConfig, bnexp/config/schema/probe.py"
    assert sorted(measured) == sorted(switches), (
        "AT_START, AT_STEPS, AT_EPOCHS, AT_END in bnexp/training/probes/__init__.py, once each"
    )
