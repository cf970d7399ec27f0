"""Each arm's own best value: the same search for all, on validation, with seeds of its own, before the study."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bnexp.cli.planned import planned_rows
from bnexp.comparison.record import from_plan, load
from bnexp.comparison.tuned import tuning_notes, tuning_rows
from bnexp.config.schema import ConfigError
from bnexp.plan.expand import Batch, StudyPlan, expand_multirun, expand_study
from bnexp.plan.study import Choice, tuning_jobs, with_linear_rule
from bnexp.run.train import launch
from bnexp.run.tuning import extended, tune
from bnexp.tracking.store import Store, write_json

STUDY = ["study=batchnorm", "data=digits", "study.seeds=1", "executor=inline", "train.device=cpu"]
SMALL = [*STUDY, "data.train_size=100", "train.epochs=1", "track.predictions=0"]


def tuned_plan(grid: str = "[0.01,0.02,0.04]", *overrides: str) -> StudyPlan:
    return expand_study([*STUDY, f"study.tune.grid={grid}", "study.tune.seeds=[7,8]", *overrides])


class Pretended:
    """Records tuning runs without training them: ``accuracies`` (arm, value) -> validation accuracy."""

    def __init__(self, plan: StudyPlan, store: Store, accuracies: Any) -> None:
        self.plan, self.store, self.accuracies = plan, store, accuracies
        self.trained: list[tuple[str, float, int]] = []

    def __call__(self, batch: Batch) -> None:
        for spec in batch.specs:
            lr = spec.config.optim.lr
            self.trained.append((spec.arm, lr, spec.seed))
            metrics = {"val/accuracy": self.accuracies(spec.arm, lr), "test/accuracy": 0.5}
            known = {"run_id": spec.run_id, "study": spec.study, "data": "digits", "arm": spec.arm, "levels": spec.levels}
            rest = {"seed": spec.seed, "status": "finished", "metrics": metrics, "seconds": 1.0, "finished_at": ""}
            write_json(self.store.run_path(spec) / "summary.json", known | rest)


def test_each_arm_gets_its_own_best_value_of_the_same_search() -> None:
    plan, store = tuned_plan(), Store()
    train = Pretended(plan, store, lambda arm, lr: 0.9 - abs(lr - (0.02 if arm == "none" else 0.04)))
    tuned = tune(plan, store, train)
    assert {config.study.arm: config.optim.lr for config in tuned.configs} == {"none": 0.02, "after_pool": 0.04}
    assert [choice.at_edge for choice in tuned.choices] == [False, False]
    tried = {arm: sorted((lr, seed) for name, lr, seed in train.trained if name == arm) for arm in plan.study.arms}
    assert tried["none"] == tried["after_pool"] == [(lr, seed) for lr in (0.01, 0.02, 0.04, 0.08) for seed in (7, 8)]
    assert {config.seed for config in tuned.configs} == {0}
    assert (tuned.study_id, tuned.study) == (plan.study_id, plan.study)


def test_the_edge_moves_for_all_arms_until_the_best_lies_inside_or_the_extensions_end() -> None:
    plan, store = tuned_plan("[0.01,0.03]", "study.tune.extensions=2"), Store()
    train = Pretended(plan, store, lambda arm, lr: lr if arm == "none" else 0.5 - abs(lr - 0.01))
    tuned = tune(plan, store, train)
    assert [list(choice.accuracies) for choice in tuned.choices] == [pytest.approx([0.00333333, 0.01, 0.03, 0.09, 0.27])] * 2
    assert [(choice.arm, choice.value, choice.at_edge) for choice in tuned.choices] == [
        ("none", 0.27, True),
        ("after_pool", 0.01, False),
    ]
    assert tuning_notes(tuned.choices, plan.study.tune)[1:] == [
        "The best optim.lr lies at the edge of what was tried for none (0.27); a better one may lie beyond. "
        "Raise study.tune.extensions."
    ]


LINEAR = [
    "study=learning_rate_scaling",
    "data=digits",
    "study.seeds=[0]",
    "study.tune.grid=[0.01,0.02,0.04]",
    "study.tune.seeds=[7]",
    "study.tune.extensions=0",
]


def test_the_linear_rule_takes_the_rate_tuned_at_one_batch_size_in_proportion() -> None:
    plan, store = expand_study(LINEAR), Store()
    train = Pretended(plan, store, lambda arm, lr: 0.5 + lr)  # the largest is the best
    tuned = tune(plan, store, train)
    assert {arm for arm, _, _ in train.trained} == {"tuned"}  # nothing is tried for the rule
    by_arm = {(c.study.arm, c.train.batch_size, c.norm.kind): c.optim.lr for c in tuned.configs}
    assert {lr for (arm, _, _), lr in by_arm.items() if arm == "tuned"} == {0.04}
    assert {key[1:]: lr for key, lr in by_arm.items() if key[0] == "linear"} == {
        (size, norm): 0.04 * size / 64 for size in (16, 32, 64, 128, 256) for norm in ("none", "batch")
    }
    rules = {choice.levels["train.batch_size"]: choice.rule for choice in tuned.choices if choice.arm == "linear"}
    assert (rules[16], rules[256]) == ("0.04 × 16/64", "0.04 × 256/64")
    found = [
        replace(choice, value=choice.levels["train.batch_size"] / 1000) for choice in tuned.choices if choice.arm == "tuned"
    ]
    ruled = [choice for choice in with_linear_rule(plan.study, found) if choice.arm == "linear"]
    assert [choice.value for choice in ruled] == [0.064 * choice.levels["train.batch_size"] / 64 for choice in ruled]
    assert not any("optim.lr" in config.study.levels for config in tuned.configs)  # what is tuned is no factor
    same = [spec.run_id for spec in tuned.specs if spec.config.train.batch_size == 64 and spec.config.norm.kind == "none"]
    assert len(same) == 2
    assert len(set(same)) == 1  # at the batch size of the rule both arms are one run


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("study.tune.linear.of=linear", "has of=linear: allowed is one of tuned."),
        ("study.tune.linear.arm=liner", "has arm=liner: allowed is one of tuned, linear. Did you mean linear?"),
        ("study.tune.linear.batch_size=60", "it must be a level of train.batch_size; there is 16, 32, 64, 128, 256."),
    ],
)
def test_a_linear_rule_without_a_value_to_take_is_refused(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        expand_study([*LINEAR, override])


def test_runs_that_tune_measure_nothing_else() -> None:
    plan = tuned_plan("[0.01,0.02]", "probe.activations=true", "probe.landscape=true")
    tuning = plan.batch(tuning_jobs(plan.study, [0.01, 0.02])).specs
    assert not any(spec.config.probe.activations or spec.config.probe.landscape for spec in tuning)
    assert all(config.probe.activations for config in plan.configs)


def test_of_equal_values_the_smaller_is_chosen_and_finished_runs_are_not_trained_again() -> None:
    plan, store = tuned_plan("[0.04,0.01,0.02]", "study.tune.extensions=0"), Store()
    train = Pretended(plan, store, lambda arm, lr: 0.1 if lr == 0.01 else 0.7)
    first = tune(plan, store, train).choices
    assert [choice.value for choice in first] == [0.02, 0.02]
    assert tune(plan, store, train).choices == first
    assert len(train.trained) == 2 * 3 * 2


def test_a_grid_ends_where_the_key_does() -> None:
    highest, lowest = (Choice("none", {}, "optim.momentum", value, {}, True) for value in (0.9, 0.6))
    assert extended([0.6, 0.9], [highest]) == [0.6, 0.9]  # 1.35 is no momentum
    assert extended([0.6, 0.9], [lowest]) == [0.4, 0.6, 0.9]
    smallest, largest = (Choice("none", {}, "train.batch_size", value, {}, True) for value in (3.0, 4.0))
    assert extended([3, 4], [smallest, largest]) == [3, 4]  # no batch has 2.25 or 5.33 images


def test_a_tuning_run_without_a_record_ends_the_study() -> None:
    plan, store = tuned_plan(), Store()
    first = plan.batch(tuning_jobs(plan.study, [0.01])).specs[0]
    write_json(store.run_path(first) / "failure.json", {"error": "no memory"})
    with pytest.raises(ConfigError, match=rf"its tuning run {first.run_id} \(none lr=0.01 seed=7\) failed: no memory"):
        tune(plan, store, lambda jobs: None)


def test_the_study_id_hashes_how_values_are_chosen() -> None:
    plain = expand_study(STUDY).study_id
    assert expand_study([*STUDY, "study.tune.extensions=9"]).study_id == plain
    plans = [tuned_plan(), tuned_plan("[0.01,0.02]"), tuned_plan("[0.01,0.02]", "study.tune.extensions=1")]
    assert len({plain, *(plan.study_id for plan in plans)}) == 4


def test_levels_are_tuned_apart() -> None:
    plan, store = tuned_plan("[0.01,0.02]", "train.batch_size=32,64", "study.tune.extensions=0"), Store()
    tuned = tune(plan, store, Pretended(plan, store, lambda arm, lr: lr if arm == "none" else -lr))
    assert [(row["arm"], row["level"], row["optim.lr"], row["edge"]) for row in tuning_rows(tuned.choices)] == [
        ("none", "batch_size=32", "0.02", "yes"),
        ("after_pool", "batch_size=32", "0.01", "yes"),
        ("none", "batch_size=64", "0.02", "yes"),
        ("after_pool", "batch_size=64", "0.01", "yes"),
    ]
    assert [(config.study.levels["train.batch_size"], config.optim.lr) for config in tuned.configs] == [
        (32, 0.02),
        (32, 0.01),
        (64, 0.02),
        (64, 0.01),
    ]


def test_a_dry_run_lists_the_search_then_runs_that_are_open() -> None:
    plan = tuned_plan("[0.01,0.02]")
    rows = planned_rows(plan, Store())
    assert [(row["arm"], row["optim.lr"], row["seed"]) for row in rows[:3]] == [
        ("none", 0.01, 7),
        ("none", 0.01, 8),
        ("none", 0.02, 7),
    ]
    assert rows[8:] == [
        {"run": None, "arm": arm, "optim.lr": "tuned", "seed": 0, "state": "after tuning"} for arm in ("none", "after_pool")
    ]
    with pytest.raises(ConfigError, match="list its runs: bnexp study batchnorm --dry-run"):
        expand_multirun([*STUDY, "study.tune.grid=[0.01,0.02]"])


def test_the_record_keeps_what_was_chosen_and_says_so() -> None:
    plan, store = tuned_plan(), Store()
    tuned = tune(plan, store, Pretended(plan, store, lambda arm, lr: 0.9 - abs(lr - 0.02)))
    record = from_plan(tuned, [], store)
    assert record.settings["optim.lr"] == "tuned (none 0.02, after_pool 0.02)"
    assert {run.seed for run in record.runs} == {0}
    record.save()
    again = load(record.folder)
    assert again == record
    assert tuning_notes(again.tuning, again.study.tune) == [
        "optim.lr was chosen for each by the mean validation accuracy of seeds 7, 8, the same 3 values from 0.01 to 0.04 tried "
        "for all: none 0.02 (90.00 %), after_pool 0.02 (90.00 %)."
    ]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["study.tune.seeds=[0,7]"], "study.tune.seeds and study.seeds of study batchnorm share 0"),
        (["data.val_fraction=0"], "study.tune.grid of study batchnorm needs validation images; set data.val_fraction above 0"),
        (["optim.lr=0.1"], "optim.lr is tuned in study batchnorm, so it can be neither set nor varied"),
        (["optim.lr=0.1,0.2"], "optim.lr is tuned in study batchnorm"),
        (["study.arms.after_pool=['norm=batch','optim.lr=0.1']"], "optim.lr is tuned in study batchnorm"),
        (["study.tune.setting=optim.lrr"], "not a key whose value is a number, like optim.lr. Did you mean optim.lr?"),
        (["study.tune.setting=norm.kind"], "not a key whose value is a number"),
        (["study.tune.grid=[0.1]"], "allowed are two or more different numbers above 0"),
        (["study.tune.grid=[0.1,0]"], "allowed are two or more different numbers above 0"),
        (["study.tune.grid=[0.1,0.1]"], "allowed are two or more different numbers above 0"),
        (["study.tune.seeds=[]"], "study.tune.seeds=[] is not possible"),
    ],
)
def test_a_tuning_that_cannot_be_fair_is_refused(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        expand_study([*STUDY, "study.tune.grid=[0.01,0.02]", *overrides])
    assert sentence in str(error.value)


def test_a_tuned_study_trains_end_to_end_under_the_sweeper(shared_cache: Path) -> None:
    """Rates far too small: the best is the larger one, and the grid grows upwards."""
    chosen = [*SMALL, "study.tune.grid=[0.0001,0.001]", "study.tune.seeds=[7]", "study.tune.extensions=1"]
    done = launch(chosen, multirun=True)
    store = Store()
    assert len(done) == 2
    tried = {(run.summary.arm, run.config["optim"]["lr"], run.summary.seed) for run in store.runs()}
    tuning = {(arm, lr) for arm, lr, seed in tried if seed == 7}
    values = sorted({lr for _, lr in tuning})
    assert len(values) == 3
    assert tuning == {(arm, lr) for arm in ("none", "after_pool") for lr in values}

    def nothing_left(batch: Batch) -> None:
        raise AssertionError(batch)

    plan = tune(expand_study(chosen), store, nothing_left)
    assert {spec.run_id for spec in plan.specs} == {spec.run_id for spec in done}
    for choice in plan.choices:
        measured = {
            run.config["optim"]["lr"]: run.summary.metric("val/accuracy")
            for run in store.runs()
            if (run.summary.arm, run.summary.seed) == (choice.arm, 7)
        }
        assert choice.accuracies == measured
        assert choice.value == min(lr for lr, accuracy in measured.items() if accuracy == max(measured.values()))
