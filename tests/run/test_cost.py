"""What the forecast expects of a machine as fast as the one that its constants were measured on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bnexp.config.options import DataName
from bnexp.config.schema import DataConfig, RunConfig
from bnexp.plan.compose import compose
from bnexp.plan.spec import RunSpec
from bnexp.run import cost
from bnexp.run.cost import counted_time, network_counts, run_seconds
from bnexp.run.outline import outlined

# Overrides -> milliseconds of a training step, seconds of the whole run: what ``cost.py`` says of them, not measured here.
# They are written down so that no constant and no amount of work changes unnoticed. Change them with the constants.
EXPECTED = [
    ("", 6.9664, 2.5944),
    ("norm=batch", 8.4225, 3.1063),
    ("norm=layer", 8.6646, 3.2013),
    ("norm=instance", 8.13, 2.9914),
    ("norm=group", 8.6747, 3.2052),
    ("norm=batch_renorm", 9.643, 3.5853),
    ("train.kernels=auto", 3.2467, 1.1583),
    ("norm=batch train.kernels=auto", 4.3314, 1.5401),
    ("norm=batch train.kernels=auto norm.noise=0.1", 12.772, 4.1918),
    ("norm=batch train.kernels=auto norm.ghost_size=16", 4.7029, 1.6702),
    ("norm=batch train.kernels=auto norm.backward=autograd", 4.7029, 1.6702),
    ("norm=layer train.kernels=auto", 4.9449, 1.7652),
    ("model=mlp", 2.257, 0.76795),
    ("model=plain model.depth=8 model.width=8", 19.892, 7.526),
    ("model=resnet model.depth=8 norm=batch", 118.05, 45.846),
    ("optim=adam", 7.7253, 2.8327),
    ("data=cifar10", 9.1321, 3.4079),
    ("data=mnist data.size=28", 5.3998, 1.9859),
    ("norm=batch norm.statistics=precise", 8.4225, 3.9787),
    ("norm=layer norm.statistics=precise", 8.6646, 3.2013),
    ("train.evals_per_epoch=5", 6.9664, 3.2088),
    ("data.val_fraction=0", 6.9664, 2.4408),
    ("train.batch_size=1", 1.926, 38.935),
    ("train.steps_per_epoch=10", 6.9664, 0.55395),
    ("norm=none probe.statistics=true", 6.9664, 3.1064),
    ("norm=batch probe.activations=true", 8.4225, 3.2227),
    ("norm=batch probe.covariate_shift=true", 8.4225, 3.1905),
    ("norm=batch probe.decoupling=true", 8.4225, 3.144),
    ("norm=batch probe.gap=true", 8.4225, 3.6879),
    ("norm=batch probe.gradients=true", 8.4225, 3.1231),
    ("norm=batch probe.initial_gradients=true", 8.4225, 3.1147),
    ("norm=batch probe.landscape=true", 8.4225, 3.2579),
    ("norm=batch probe.similar=true", 8.4225, 3.1228),
    ("norm=batch probe.statistics=true", 8.4225, 9.9404),
    ("norm=batch probe.cost=true", 8.4225, 3.7834),
    ("norm=batch train.kernels=auto probe.activations=true probe.similar=true", 4.3314, 1.673),
    ("norm=batch probe.gradients=true probe.landscape=true", 8.4225, 3.2579),
    ("norm=batch data.train_size=700 probe.gradients=true probe.per_epoch=100", 8.4225, 0.82332),
    ("norm=batch probe.activations=true probe.initial_gradients=true", 8.4225, 3.2311),
    ("norm=batch data.train_size=20000 data.val_fraction=0.5 probe.gap=true", 8.4225, 7.889),
]


@pytest.fixture(scope="module")
def base() -> RunSpec:
    return RunSpec(compose(["data=mnist", "data.train_size=10000", "train.epochs=2", "train.kernels=torch"]))


def config(base: RunSpec, overrides: str) -> RunConfig:
    return outlined(base, dict(item.split("=", 1) for item in overrides.split())).config


@pytest.mark.parametrize(("overrides", "step", "run"), EXPECTED)
def test_what_is_expected_of_a_setting_changes_only_on_purpose(base: RunSpec, overrides: str, step: float, run: float) -> None:
    made = config(base, overrides)
    assert 1e3 * counted_time(made)(made.train.batch_size) == pytest.approx(step, rel=1e-4)
    assert run_seconds(made) == pytest.approx(run, rel=1e-4)


def test_images_of_the_user_are_assumed_to_be_those_of_cifar10() -> None:
    own, known = (RunConfig(data=DataConfig(name, val_fraction=0.0)) for name in (DataName.npz, DataName.cifar10))
    assert run_seconds(own) == pytest.approx(run_seconds(known))
    validated = replace(own, data=replace(own.data, val_fraction=0.1))
    assert run_seconds(validated) - run_seconds(own) == pytest.approx(own.train.epochs * 5_000 * counted_time(own).test)


def test_a_network_is_counted_once_for_all_runs_with_it(base: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[Any] = []
    count = cost.count

    def noted(*args: Any) -> Any:
        counted.append(args)
        return count(*args)

    monkeypatch.setattr(cost, "count", noted)
    monkeypatch.setattr(cost, "_counted", {})
    for overrides in ("optim.lr=0.1", "optim.lr=0.2 seed=3", "norm=batch", "norm=batch train.epochs=7"):
        network_counts(config(base, overrides))
    assert len(counted) == 2
