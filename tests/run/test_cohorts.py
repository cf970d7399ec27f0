"""Cohorts: what may train together does, runs of a seed side by side, the longest first, split where memory asks for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bnexp.config.options import DataName, ModelName, NormKind
from bnexp.config.schema import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from bnexp.plan.compose import compose
from bnexp.plan.spec import RunSpec
from bnexp.run import cost
from bnexp.run.cohorts import cohorts, singles, split, workload
from bnexp.run.cost import num_train_images, run_seconds
from tests.changed import changed


def specs(seeds: list[int]) -> list[RunSpec]:
    return [RunSpec(RunConfig(seed=seed, optim=OptimConfig(lr=0.01 * (i + 1)))) for i, seed in enumerate(seeds)]


def test_per_run_keys_share_a_cohort_and_graph_keys_do_not() -> None:
    base = compose(["norm=batch"])
    runs = [RunSpec(replace(base, seed=seed)) for seed in range(3)]
    runs.append(RunSpec(compose(["norm=batch", "seed=5", "optim.lr=0.5", "optim.momentum=0", "norm.eps=0.1"])))
    assert cohorts(runs) == [tuple(runs)]
    assert len(cohorts([*runs, RunSpec(compose(["norm=none"]))])) == 2


def test_runs_of_a_seed_stand_side_by_side() -> None:
    (cohort,) = cohorts(specs([4, 2, 4, 2, 9]))
    assert [spec.seed for spec in cohort] == [4, 4, 2, 2, 9]
    assert [spec.config.optim.lr for spec in cohort] == [0.01, 0.03, 0.02, 0.04, 0.05]


def test_the_longest_come_first_and_equals_stay_in_their_order() -> None:
    overrides = [["norm=none", "train.epochs=2"], ["norm=batch", "train.epochs=3"], ["norm=none", "train.epochs=2", "seed=1"]]
    short, long, other = [RunSpec(compose(each)) for each in overrides]
    assert singles([short, long, other]) == [(long,), (short,), (other,)]
    assert cohorts([short, long, other]) == [(long,), (short, other)]


def test_small_batches_make_a_run_longer() -> None:
    large, small = (RunSpec(compose([f"train.batch_size={size}", "norm=none"])) for size in (256, 1))
    assert singles([large, small]) == [(small,), (large,)]


def test_deep_and_wide_networks_come_first_and_the_arms_of_a_seed_stay_together() -> None:
    keys = [["model.depth=2"], ["model.depth=16"], ["model.depth=8"], ["model.depth=8", "model.width=32"]]
    shallow, deepest, deep, wide = (RunSpec(compose(["model=plain", *each])) for each in keys)
    assert singles([shallow, deepest, deep, wide]) == [(wide,), (deepest,), (deep,), (shallow,)]
    arms = [RunSpec(compose([f"norm={norm}", f"seed={seed}"])) for seed in (0, 1) for norm in ("none", "batch")]
    assert singles(arms) == [(arm,) for arm in arms]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 30))
@example([0, 0, 0, 1, 2], 3)
def test_a_split_keeps_every_run_in_order_and_no_part_is_too_large(seeds: list[int], max_runs: int) -> None:
    (cohort,) = cohorts(specs(seeds))
    parts = split(cohort, max_runs)
    assert tuple(spec for part in parts for spec in part) == cohort
    assert all(1 <= len(part) <= max_runs for part in parts)
    if max(seeds.count(seed) for seed in seeds) <= max_runs:
        assert len({(spec.seed, i) for i, part in enumerate(parts) for spec in part}) == len(set(seeds))  # no seed is cut


@pytest.mark.parametrize(
    ("num_runs", "max_runs", "sizes"), [(10, 10, [10]), (10, 9, [5, 5]), (10, 4, [3, 4, 3]), (3, 1, [1, 1, 1])]
)
def test_parts_are_nearly_equal(num_runs: int, max_runs: int, sizes: list[int]) -> None:
    assert [len(part) for part in split(tuple(specs(list(range(num_runs)))), max_runs)] == sizes


def test_the_images_of_a_run_are_those_that_it_trains_on() -> None:
    published = {"mnist": 60_000, "fashion_mnist": 60_000, "kmnist": 60_000, "cifar10": 50_000, "cifar100": 50_000}
    published |= {"svhn": 73_257, "digits": 1_797 - 359}
    for name in DataName:
        assert num_train_images(DataConfig(name, val_fraction=0)) == published.get(name), name
    assert num_train_images(DataConfig(DataName.mnist, val_fraction=0.1)) == 54_000
    assert num_train_images(DataConfig(DataName.npz, train_size=500)) == 500


def test_runs_take_about_as_long_if_images_batches_and_network_are_the_same() -> None:
    run = RunSpec(RunConfig(model=ModelConfig(ModelName.plain)))
    same = [{"seed": 1}, {"optim.lr": 0.5}, {"norm.kind": NormKind.batch}]
    assert {workload((RunSpec(changed(run.config, values)),)) for values in same} == {workload((run,))}
    for key, value in OTHER_WORK.items():
        assert workload((RunSpec(changed(run.config, {key: value})),)) != workload((run,)), key


OTHER_WORK = {
    "train.epochs": 9,
    "train.batch_size": 32,
    "data.train_size": 100,
    "data.name": DataName.cifar10,
    "model.name": ModelName.mlp,
    "model.depth": 2,
    "model.width": 99,
}


def test_a_run_of_a_number_of_updates_trains_as_long_however_many_images_there_are() -> None:
    train = TrainConfig(epochs=3, steps_per_epoch=100, batch_size=64)
    small, large = (run_seconds(RunConfig(data=DataConfig(train_size=size), train=train)) for size in (200, 20_000))
    assert small == large
    long, short = (RunSpec(RunConfig(data=DataConfig(DataName.npz), train=TrainConfig(epochs=epochs))) for epochs in (3, 2))
    assert singles([short, long]) == [(long,), (short,)]  # also of images that nobody has counted


def test_networks_that_nobody_has_counted_are_ordered_by_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "COUNTED", frozenset())
    monkeypatch.setattr(cost, "network_counts", lambda config: pytest.fail("there is no table"))
    short, long = (RunSpec(compose(["data=mnist", f"train.epochs={epochs}"])) for epochs in (2, 3))
    assert singles([short, long]) == [(long,), (short,)]
