"""Every rung does the same work."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from bnexp.bench.measure import measure
from bnexp.bench.plain import start_network
from bnexp.bench.rung import climb
from bnexp.bench.work import BenchError, Work
from bnexp.config.options import DataName, Device, Kernels
from bnexp.config.schema import TrainConfig
from bnexp.data.resident import prepare
from bnexp.metrics import RunFinished
from bnexp.plan.compose import compose
from bnexp.plan.expand import expand_study
from bnexp.plan.spec import RunSpec
from bnexp.run.cohorts import cohorts
from bnexp.run.local import run_inline

WORK = Work(DataName.digits, 600, 2, 4, Device.cpu)
NUM_TEST = 359


@pytest.fixture(scope="module")
def expected(digits_cache: Path) -> dict[tuple[str, int], RunFinished]:
    """What bnexp's engine makes of the same runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BNEXP_CACHE_DIR", str(digits_cache))
        specs = [RunSpec(config) for config in WORK.configs()]
        by_id = {spec.run_id: (spec.arm, spec.seed) for spec in specs}
        records = run_inline(cohorts(specs), prepare(specs[0].config.data))
        return {by_id[record.run_id]: record for record in records if isinstance(record, RunFinished)}


@pytest.mark.parametrize("rung", ["B0", "B2", "B4"])
def test_a_rung_ends_with_the_weights_that_bnexp_ends_with(
    rung: str,
    expected: dict[tuple[str, int], RunFinished],
    tmp_path: Path,
    shared_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bnexp.bench.work.TrainConfig", partial(TrainConfig, eval_batch_size=100))  # not the last one counts
    result = climb(rung, WORK, tmp_path)
    assert result.images == 600 * 2 * 4
    assert {(run.arm, run.seed) for run in result.runs} == set(expected)
    for run in result.runs:
        finished = expected[run.arm, run.seed]
        assert run.test_accuracy == pytest.approx(finished.metrics["test/accuracy"], abs=3.5 / NUM_TEST)
        weights = torch.load(tmp_path / f"{run.arm}-{run.seed}.pt", weights_only=True)
        assert weights.keys() == finished.weights.keys()
        config = next(c for c in WORK.configs() if (c.study.arm, c.seed) == (run.arm, run.seed))
        start = start_network(config, prepare(config.data)).state_dict()
        apart, way = 0.0, 0.0
        for name, value in finished.weights.items():  # the running statistics of batch norm among them
            apart += float(np.sum((weights[name].numpy() - value) ** 2))
            way += float(np.sum((start[name].numpy() - value) ** 2))
        assert apart <= 0.1**2 * way, run  # not nearer: rounding flips a ReLU or a maximum now and then


def test_the_work_is_that_of_the_command_that_b5_runs() -> None:
    for rung in ("B5", "B5-torch", "B5-local"):
        assert WORK.command(rung)[:2] == ["study", "batchnorm"]
        study = expand_study(["study=batchnorm", *WORK.command(rung)[2:]])
        assert {RunSpec(config).run_id for config in study.configs} == {RunSpec(config).run_id for config in WORK.configs()}
        assert {config.train.kernels == Kernels.torch for config in study.configs} == {rung == "B5-torch"}
        assert {config.track.wandb.mode == "disabled" for config in study.configs} == {rung == "B5-local"}
    single = Work(DataName.mnist, None, 3, 1, Device.cpu)
    (config,) = single.configs()
    assert RunSpec(compose(single.command()[1:])).run_id == RunSpec(config).run_id


def test_work_survives_its_way_to_another_process() -> None:
    assert Work.from_json(WORK.to_json()) == WORK


def test_a_rung_that_fails_is_named_with_the_reason(tmp_path: Path, shared_cache: Path) -> None:
    too_many = Work(DataName.digits, 10_000, 1, 1, Device.cpu)
    with pytest.raises(BenchError, match=r"rung B2 with 1 runs failed: .*data.train_size=10000 is more than there is"):
        measure("B2", too_many, 1, tmp_path)
    assert not list(tmp_path.iterdir())
