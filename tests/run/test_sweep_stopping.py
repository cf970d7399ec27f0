"""A sweep stops the runs that its rule names, whichever process trains them and in whatever order they answer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from bnexp.comparison.selection import select_runs
from bnexp.comparison.sweep.record import Trial
from bnexp.config.schema import ConfigError
from bnexp.data.resident import prepare
from bnexp.metrics import EpochMetrics, Record, RunFinished, RunStopped
from bnexp.plan.compose import compose
from bnexp.plan.spec import RunSpec
from bnexp.plan.sweep.file import EarlyTerminate
from bnexp.plan.sweep.metric import Metric
from bnexp.run import runner
from bnexp.run.local import Pool, run_inline
from bnexp.run.recorded import load_run
from bnexp.run.sweep.stopping import Rule, rule_of, rule_text
from bnexp.tracking.store import Store

MAXIMISE = Metric("val/accuracy", "maximize")
SMALL = ["data=digits", "data.train_size=70", "data.size=16", "data.val_fraction=0.3", "train.device=cpu", "train.epochs=3"]


def rule(stops: EarlyTerminate, *values: list[float], metric: Metric = MAXIMISE) -> Rule:
    """A rule that has seen these values of runs r0, r1, ..., epoch by epoch; none of them has ended."""
    made = Rule("sweep", stops, metric, 10, [f"r{k}" for k in range(len(values))])
    for k, own in enumerate(values):
        for epoch, value in enumerate(own, 1):
            made.record(EpochMetrics(f"r{k}", epoch, epoch, {metric.name: value}))
    return made


@pytest.mark.parametrize(
    ("strict", "own", "stops"),
    [  # of 7 runs with eta 3 the best int(7 / 3) + 1 = 3 go on, and ceil(7 / 3) = 3 if strict
        (False, 0.55, False),
        (False, 0.45, True),
        (True, 0.55, False),
        (True, 0.45, True),
        (False, math.nan, True),
    ],
)
def test_hyperband_lets_the_best_go_on(strict: bool, own: float, stops: bool) -> None:
    others = [[value] for value in (0.1, 0.6, 0.2, 0.7, 0.3, 0.5)]
    made = rule(EarlyTerminate("hyperband", (1,), 3.0, strict), *others, [own])
    assert made.decide("r6", 1, wait=True) is stops


@pytest.mark.parametrize(("strict", "stops"), [(False, False), (True, True)])
def test_strict_hyperband_lets_no_more_than_its_share_go_on(strict: bool, stops: bool) -> None:
    made = rule(EarlyTerminate("hyperband", (1,), 3.0, strict), [0.9], [0.1], [0.5])  # int(3 / 3) + 1 = 2, or 1
    assert made.decide("r2", 1, wait=True) is stops


def test_smaller_is_better_if_the_goal_is_to_minimise() -> None:
    made = rule(EarlyTerminate("hyperband", (1,), 2.0), [0.3], [0.5], [0.9], metric=Metric("val/loss", "minimize"))
    assert [made.decide(run, 1, wait=True) for run in ("r0", "r1", "r2")] == [False, False, True]


def test_an_answer_waits_for_runs_that_began_before_and_for_no_others() -> None:
    made = rule(EarlyTerminate("hyperband", (2,), 2.0), [0.1], [0.5, 0.9], [0.5, 0.2], [0.5, 1.0])
    assert made.decide("r1", 2, wait=True) is None  # r0 has only ended its first epoch
    assert made.decide("r1", 2, wait=False) is False
    made.record(RunStopped("r0", 1, {}, 1.0))
    assert made.decide("r1", 2, wait=True) is False  # r3 is better, but began later
    assert made.decide("r2", 2, wait=True) is False  # int(2 / 2) + 1 of r1 and r2


def test_median_stopping_compares_the_best_so_far_with_the_mean_of_others_so_far() -> None:
    others = [[0.2, 0.4], [0.4, 0.6], [0.6, 0.8]]  # means .3, .5, .7 after two epochs
    stops = EarlyTerminate("median", min_iter=2)
    assert rule(stops, *others, [0.49, 0.1]).decide("r3", 2, wait=True) is True
    assert rule(stops, *others, [0.51, 0.1]).decide("r3", 2, wait=True) is False
    assert rule(stops, *others[:2], [0.0, 0.0]).decide("r2", 2, wait=True) is False  # two are too few
    assert list(rule(stops).epochs) == [2, 3, 4, 5, 6, 7, 8, 9]


def endings(records: Iterator[Record], made: Rule) -> dict[str, tuple[str, int, float]]:
    """Run id -> how it ended, after which epoch, with which validation loss; as the runner feeds a rule."""
    epochs: dict[str, int] = {}
    found = {}
    for record in records:
        made.record(record)
        if isinstance(record, EpochMetrics):
            epochs[record.run_id] = record.epoch
        if isinstance(record, RunFinished | RunStopped):
            found[record.run_id] = type(record).__name__, epochs[record.run_id], record.metrics["val/loss"]
    return found


@pytest.fixture
def specs(shared_cache: Path) -> list[RunSpec]:
    rates = (0.03, 0.0001, 0.01, 0.0003)
    return [RunSpec(compose([*SMALL, "norm=batch", f"optim.lr={rate}"])) for rate in rates]


STOPS = EarlyTerminate("hyperband", (1,), 4.0, strict=True)
LOSS = Metric("val/loss", "minimize")


def test_a_pool_stops_the_same_runs_as_one_process_or_one_cohort_and_the_rest_have_the_same_bits(specs: list[RunSpec]) -> None:
    resident = prepare(specs[0].config.data)
    singles = [(spec,) for spec in specs]

    def made() -> Rule:
        return Rule("sweep", STOPS, LOSS, 3, [spec.run_id for spec in specs])

    whole = endings(run_inline(singles, resident), made())
    here, there = made(), made()
    inline = endings(run_inline(singles, resident, here), here)
    pooled = endings(Pool(resident, 3, there).run(singles), there)
    assert inline == pooled
    together = made()
    cohort = endings(run_inline([tuple(specs)], resident, together), together)
    assert {run_id: ending[:2] for run_id, ending in cohort.items()} == {run_id: own[:2] for run_id, own in inline.items()}
    stopped = [spec.run_id for spec in specs if inline[spec.run_id][0] == "RunStopped"]
    assert stopped == [specs[1].run_id, specs[2].run_id, specs[3].run_id]
    assert {inline[run_id][1] for run_id in stopped} == {1}
    assert inline[specs[0].run_id] == whole[specs[0].run_id]


def test_a_stopped_run_is_no_finished_one_and_trains_whole_when_it_is_asked_for(specs: list[RunSpec]) -> None:
    store = Store()
    made = rule_of(STOPS, LOSS, "sweep", [], specs, store)
    assert made is not None
    results = runner.run(specs, store, stopping=made)
    assert list(results) == [specs[0].run_id]
    record = store.records([specs[1].run_id])[specs[1].run_id]
    assert (record.finished, record.failure) == (False, None)
    assert record.stopped is not None
    assert (record.stopped.by, record.stopped.epoch) == ("sweep", 1)
    assert [row["epoch"] for row in record.metrics()] == [1]
    again = rule_of(STOPS, LOSS, "sweep", [], specs, store)
    assert again is not None
    assert again.seen == {run_id: pytest.approx(values) for run_id, values in made.seen.items()}
    assert again.ended == {spec.run_id for spec in specs}
    other = rule_of(STOPS, LOSS, "other", [], specs, store)  # what another sweep has stopped is not known to this one
    assert other is not None
    assert other.ended == {*other.seen} == {specs[0].run_id}
    with pytest.raises(ConfigError, match=r"has not finished: it was stopped after epoch 1 by a sweep\.$"):
        load_run(specs[1].run_id)
    assert set(select_runs(status="stopped")["run"]) == {spec.run_id for spec in specs[1:]}
    assert set(select_runs()["run"]) == {specs[0].run_id}
    trained = runner.run([specs[1]], store)[specs[1].run_id]
    assert isinstance(trained, type(record))
    assert trained.summary.status == "finished"
    assert trained.stopped is None
    assert len(trained.metrics()) == 3


def test_a_rule_knows_earlier_points_and_the_order_in_which_runs_begin(specs: list[RunSpec]) -> None:
    longest = RunSpec(compose([*SMALL, "train.epochs=5"]))
    stops = EarlyTerminate("median", min_iter=2)
    made = rule_of(stops, LOSS, "sweep", [Trial(1, {}, ["gone"], "failed")], [*specs, longest], Store())
    assert made is not None
    assert made.order == ["gone", longest.run_id, *(spec.run_id for spec in specs)]
    assert made.ended == {"gone"}  # it is not waited for
    assert list(made.epochs) == [2, 3, 4]
    assert rule_of(None, LOSS, "sweep", [], specs, Store()) is None


def test_a_rule_is_told_in_words() -> None:
    assert rule_text(None) == ""
    assert rule_text(EarlyTerminate("median", min_iter=4)) == "median stopping from epoch 4 on"
    assert rule_text(EarlyTerminate("hyperband", (3, 9))) == "hyperband after epochs 3, 9 (eta 3)"
    many = EarlyTerminate("hyperband", (1, 2, 4, 8, 16), 2, True)
    assert rule_text(many) == "hyperband after epochs 1, 2, 4, 8, ... (eta 2, strict)"


def test_a_worker_that_dies_while_it_waits_for_an_answer_does_not_hold_up_the_others(specs: list[RunSpec]) -> None:
    """Its run is tried again, and the same runs are stopped."""
    resident = prepare(specs[0].config.data)
    made = Rule("sweep", STOPS, LOSS, 3, [spec.run_id for spec in specs])
    pool = Pool(resident, 2, made)
    killed: list[str] = []

    def records() -> Iterator[Record]:
        for record in pool.run([(spec,) for spec in specs]):
            if isinstance(record, EpochMetrics) and record.run_id == specs[0].run_id and not killed:
                killed.append(record.run_id)
                pool._workers[0].process.kill()
            yield record

    found = endings(records(), made)
    assert killed
    assert [found[spec.run_id][0] for spec in specs] == ["RunFinished", "RunStopped", "RunStopped", "RunStopped"]
