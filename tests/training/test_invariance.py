"""A run is the same in any company: initial weights and batches bit for bit, metrics but for rounding (1e-9 in float64)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from fake_data import FakeData, make_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from bnexp.config.options import InitScheme
from bnexp.config.schema import InitConfig
from bnexp.metrics import EpochMetrics, Record, RunFinished
from bnexp.model.networks import build_network
from bnexp.plan.spec import RunSpec
from bnexp.training.engine import fit
from bnexp.training.loop import EpochLoop
from bnexp.training.optim import build_optimiser
from bnexp.training.step import TrainStep

DATA = FakeData(num_train=20, num_val=5, num_test=5)
SPECS = [
    make_spec(0, {"linear": True}, optim={"lr": 0.01}, model={"dropout": 0.3}),
    make_spec(0, {"linear": True}, optim={"lr": 0.05}, model={"dropout": 0.1}),
    make_spec(1, {"linear": True}, optim={"lr": 0.01}, model={"init": InitConfig(InitScheme.kaiming, 0.5)}),
    make_spec(1, {"linear": True, "eps": 0.1}, optim={"lr": 0.02}),
]

# Any order of the runs, cut into cohorts anywhere.
companies = st.tuples(st.permutations(range(len(SPECS))), st.sets(st.integers(1, len(SPECS) - 1)))


def cut(company: tuple[list[int], set[int]]) -> list[list[RunSpec]]:
    order, cuts = company
    bounds = [0, *sorted(cuts), len(order)]
    return [[SPECS[i] for i in order[a:b]] for a, b in pairwise(bounds)]


def start(specs: list[RunSpec]) -> tuple[EpochLoop, dict[str, bytes]]:
    """The loop of a cohort and, by run id, the bytes of the initial weights and of the batches of two epochs."""
    configs = [spec.config for spec in specs]
    network = build_network(configs, DATA.in_channels, DATA.size, DATA.num_classes, dtype=DATA.dtype)
    step = TrainStep(network, build_optimiser([c.optim for c in configs], network.flat, 2, 2), configs[0].train.precision)
    loop = EpochLoop(step, DATA, [c.seed for c in configs], configs[0].train)  # type: ignore[arg-type]
    found = {spec.run_id: network.flat[run].numpy().tobytes() for run, spec in enumerate(specs)}
    for epoch in (1, 2):
        loop.begin(epoch)
        for size in loop.sizes:
            x, y = loop.gather(size)
            own = x.unflatten(1, (len(loop.orders), -1)).repeat_interleave(loop.runs_per_order, 1)
            for run, spec in enumerate(specs):
                found[spec.run_id] += own[:, run].contiguous().numpy().tobytes() + y[run].numpy().tobytes()
            loop.index += 1
    return loop, found


ALONE = {spec.run_id: start([spec])[1][spec.run_id] for spec in SPECS}


@given(companies)
@settings(max_examples=20, deadline=None)
def test_initial_weights_and_batches_are_the_same_bits_in_any_company(company: tuple[list[int], set[int]]) -> None:
    for part in cut(company):
        for run_id, found in start(part)[1].items():
            assert found == ALONE[run_id]


def results(specs: list[RunSpec]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {spec.run_id: [] for spec in specs}
    for record in fit(specs, DATA):  # type: ignore[arg-type]
        found[record.run_id].append(record)
    return found


@pytest.fixture(scope="module")
def alone() -> dict[str, list[Record]]:
    return {spec.run_id: results([spec])[spec.run_id] for spec in SPECS}


@given(company=companies)
@settings(max_examples=6, deadline=None)
def test_metrics_and_weights_are_the_same_in_any_company_but_for_rounding(
    alone: dict[str, list[Record]], company: tuple[list[int], set[int]]
) -> None:
    for part in cut(company):
        for run_id, records in results(part).items():
            assert [type(record) for record in records] == [type(record) for record in alone[run_id]]
            for record, expected in zip(records, alone[run_id], strict=True):
                if isinstance(record, EpochMetrics | RunFinished):
                    assert isinstance(expected, EpochMetrics | RunFinished)
                    for name in expected.metrics:
                        if not name.startswith("time/"):
                            assert record.metrics[name] == pytest.approx(expected.metrics[name], abs=1e-9)
                if isinstance(record, RunFinished):
                    assert isinstance(expected, RunFinished)
                    for name, weight in expected.weights.items():
                        np.testing.assert_allclose(record.weights[name], weight, rtol=0, atol=1e-9)


def test_the_order_of_runs_in_a_cohort_of_one_run_each_seed_moves_no_bit_of_the_data() -> None:
    torch.manual_seed(1)  # the global generator plays no part
    assert start([SPECS[2]])[1][SPECS[2].run_id] == ALONE[SPECS[2].run_id]
