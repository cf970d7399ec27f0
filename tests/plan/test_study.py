"""What makes a study's runs, and studies that are refused before anything trains."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st

from bnexp.config.options import Analysis
from bnexp.config.schema import ConfigError, StudyConfig, TuneConfig
from bnexp.plan.budget import budgeted
from bnexp.plan.checks import check
from bnexp.plan.expand import expand_study
from bnexp.plan.study import (
    Choice,
    as_job,
    cells,
    jobs,
    levels_text,
    literal,
    merge,
    pretraining_job,
    texts_of,
    tuning_jobs,
    varied_keys,
)

BASE = ["study=batchnorm", "data=digits", "study.seeds=1"]


def made(**keys: object) -> StudyConfig:
    arms = {"none": ["norm=none"], "batch": ["norm=batch"]}
    return StudyConfig(**({"name": "made", "arms": arms, "seeds": 2} | keys))  # type: ignore[arg-type]


def test_arms_stand_side_by_side_at_each_seed_and_level() -> None:
    found = list(jobs(made(factors={"optim.lr": [0.1, 0.2]})))
    assert [tuple(texts_of(job)[:3]) for job in found[:3]] == [
        ("norm=none", "optim.lr=0.1", "seed=0"),
        ("norm=batch", "optim.lr=0.1", "seed=0"),
        ("norm=none", "optim.lr=0.1", "seed=1"),
    ]
    assert len(found) == 2 * 2 * 2


def test_every_cell_tries_the_same_values_with_the_same_seeds() -> None:
    study = made(factors={"norm.eps": [0.1]}, tune=TuneConfig(grid=[0.5], seeds=[7, 8]))
    assert [text for text in texts_of(tuning_jobs(study, [0.5])[1]) if not text.startswith("probe.")] == [
        "norm=none",
        "norm.eps=0.1",
        "optim.lr=0.5",
        "seed=8",
        "study.arm='none'",
        "+study.levels={norm.eps:0.1,optim.lr:0.5}",
    ]


def test_a_pretraining_is_the_run_itself_but_for_how_it_goes_on() -> None:
    study = made(pretrain=["data.contrast=1", "train.epochs=3"], tune=TuneConfig(grid=[0.1, 0.2]))
    job = [
        "norm=batch",
        "train.trainable=head",
        "data.contrast=-1",
        "optim.lr=0.2",
        "seed=4",
        "study.arm='batch'",
        "+study.levels={}",
    ]
    assert texts_of(pretraining_job(study, as_job(job))) == [
        "norm=batch",
        "seed=4",
        "train.init_from=null",
        "train.trainable=all",
        "train.norm_statistics=live",
        "study.arm='pretraining'",
        "+study.levels={}",
        "data.contrast=1",
        "train.epochs=3",
    ]


def test_what_named_levels_set_is_varied_too() -> None:
    study = made(factors={"place": {"early": ["norm.placement=before_activation"]}, "optim.lr": [0.1]})
    assert varied_keys(study) == {"norm", "place", "norm.placement", "optim.lr"}
    with pytest.raises(ConfigError, match=r"norm.placement is what study made varies"):
        check(study, ["norm.placement"], [])


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            {"analysis": Analysis.interaction},
            "study.analysis=interaction needs a factor of at least two levels in study.factors",
        ),
        ({"analysis": Analysis.interaction, "factors": {"optim.lr": [0.1]}}, "there is optim.lr with 1."),
        (
            {"analysis": Analysis.sensitivity},
            "needs exactly one factor, of at least two levels, in study.factors of study made",
        ),
        (
            {"analysis": Analysis.trend, "factors": {"optim.lr": [0.1, 0.2]}},
            "of at least three levels in order, in study.factors",
        ),
        ({"analysis": Analysis.trend, "factors": {"a": {"x": []}, "b": {"y": []}}}, "there is a with 1 and b with 1."),
        ({"analysis": Analysis.predictions}, "needs an arm to compare with; set study.baseline to one of none, batch."),
        ({"analysis": Analysis.time_to_target}, "needs an arm to compare with"),
        (
            {"analysis": Analysis.sensitivity, "factors": {"optim.lr": [1, 2]}, "metric": "test/loss"},
            "needs an accuracy as study.metric",
        ),
        (
            {"pretrain": ["train.epochs=1"], "factors": {"train.init_from": ["a", "b"]}},
            "train.init_from is set by study.pretrain",
        ),
    ],
)
def test_an_analysis_of_what_a_study_does_not_have_is_refused(keys: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(made(**keys), [], [])
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["study.analysis=time_to_target", "data.val_fraction=0"],
            "study.analysis=time_to_target of study batchnorm needs validation images; set data.val_fraction above 0.",
        ),
        (["study.analysis=matched"], "study.metric=test/accuracy is recorded once"),
        (["+study.metrics={non:test/loss}"], "study.metrics names non, which is not an arm: allowed are none, after_pool."),
        (["+study.metrics={none:test/acc}"], "study.metrics.none=test/acc is not recorded"),
        (["+study.metrics={none:val/loss}"], "study.metrics compares what has different units: val/loss, test/accuracy"),
    ],
)
def test_metrics_that_runs_do_not_have_are_refused(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        expand_study([*BASE, *overrides])
    assert sentence in str(error.value)


def test_arms_may_be_readings_of_the_same_runs() -> None:
    same = "study.arms.after_pool=['norm=none']"
    with pytest.raises(ConfigError, match="the arms none and after_pool are the same experiment"):
        expand_study([*BASE, same])
    plan = expand_study([*BASE, same, "+study.metrics={after_pool: val/accuracy}"])
    assert [config.study.arm for config in plan.configs] == ["none", "after_pool"]


TWO_FACTORS = {"optim.lr": [0.1, "0.2"], "place": {"late hit": ["norm.placement=after_pool", "seed=9"], "none": []}}


def test_every_arm_meets_every_combination_of_levels_in_order() -> None:
    found = [[(cell.key, texts_of(cell.overrides)) for cell in arms] for arms in cells(made(factors=TWO_FACTORS))]
    late, none = ["norm.placement=after_pool", "seed=9"], []
    assert found == [
        [((arm, f"lr={lr}, place={level}"), [f"norm={arm}", f"optim.lr={lr}", *changes]) for arm in ("none", "batch")]
        for lr in ("0.1", "0.2")
        for level, changes in (("late hit", late), ("none", none))
    ]
    assert [len(arms) for arms in cells(made())] == [2]
    assert cells(made())[0][1].key == ("batch", "")


def test_a_job_has_the_chosen_value_of_its_cell() -> None:
    study = made(factors={"norm.eps": [0.1, 0.2]}, seeds=[3], tune=TuneConfig(setting="optim.weight_decay", grid=[0.5, 1]))
    levels: dict[str, object] = {"norm.eps": 0.2}
    choice = Choice("batch", levels, "optim.weight_decay", 0.00012345678, {0.00012345678: 0.75, 0.5: 0.5}, True)
    assert (choice.key, choice.accuracy) == (("batch", "eps=0.2"), 0.75)
    assert [texts_of(job)[2:-2] for job in jobs(study, [choice])] == [
        ["seed=3"],
        ["seed=3"],
        ["seed=3"],
        ["optim.weight_decay=0.000123457", "seed=3"],
    ]
    assert texts_of(list(jobs(study))[3])[-2:] == ["study.arm='batch'", "+study.levels={norm.eps:0.2}"]


def test_tuning_tries_value_by_value_and_seed_by_seed_in_every_cell() -> None:
    study = made(tune=TuneConfig(grid=[0.5], seeds=[7, 8]))
    assert [tuple(texts_of(job)[:3]) for job in tuning_jobs(study, [0.5, 1e-5])] == [
        (f"norm={arm}", f"optim.lr={lr}", f"seed={seed}")
        for arm in ("none", "batch")
        for lr in ("0.5", "1e-05")
        for seed in (7, 8)
    ]


def test_a_pretraining_keeps_what_is_not_tuned() -> None:
    assert pretraining_job(made(), as_job(["optim.lr=0.2", "seed=1"]))["optim.lr"] == "0.2"
    tuned = made(tune=TuneConfig(grid=[0.1, 0.2]))
    job = pretraining_job(tuned, as_job(["optim.lr=0.2", "optim.momentum=0"]))
    assert ("optim.lr" in job, job["optim.momentum"]) == (False, "0")


def test_the_later_of_two_overrides_of_a_key_counts() -> None:
    merged = merge(as_job(["a=1", "b=x=y", "c=3"]), as_job(["b=2", "d=4"]))
    assert texts_of(merged) == ["a=1", "c=3", "b=2", "d=4"]
    assert as_job(["b=x=y"]) == {"b": "x=y"}
    assert varied_keys(made(arms={"a": ["norm=none", "optim.lr=1"]}, factors={"seed": [1]})) == {"norm", "optim.lr", "seed"}


@pytest.mark.parametrize(
    ("levels", "limit", "count", "kept"),
    [
        ([1, 2, 3, 4], None, 3, [1, 3, 4]),
        ([1, 2, 3, 4, 5], None, 4, [1, 2, 4, 5]),
        ([1, 2, 3], None, 3, [1, 2, 3]),
        ([1, 2, 3], None, 2, [1, 3]),
        ([0.5, 1.0, 1.5, None], 1.0, None, [0.5, 1.0]),
        (["small", "large"], 1.0, None, ["small", "large"]),
        ([1, 2, None], None, None, [1, 2, None]),
        ({"a": ["x=1"], "b": [], "c": []}, None, 2, {"a": ["x=1"], "c": []}),
        ({1: [], 200: [], 5000: []}, 200, None, {1: [], 200: []}),
        ([], 1.0, 2, []),
        ([1, 2], None, 3, [1, 2]),
        (3, 1.0, 2, 3),  # refused later, with a sentence
    ],
)
def test_a_budget_keeps_levels(levels: list[object], limit: float | None, count: int | None, kept: object) -> None:
    limits = {"f": limit} if limit is not None else {"other": 0.0}
    found = budgeted(made(factors={"f": levels}, limits=limits, max_levels=count))
    assert found == {"f": kept}
    assert type(found["f"]) is type(kept)


plain_text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)
texts = plain_text | st.text(st.sampled_from("a\\'\", =:{}[]"), max_size=8)


@given(texts.map(lambda text: text + " ?") | texts.map(lambda text: "? " + text) | st.none() | st.booleans() | st.integers())
@example("it's")
@example("\\")
@example("a\\'")
@example(True)
def test_levels_come_back_from_hydra_as_they_are(level: object) -> None:
    read = OverridesParser.create().parse_override(f"+study.levels={{a:{literal(level)}}}").value()["a"]
    assert getattr(read, "text", read) == level
    assert isinstance(level, bool) == isinstance(read, bool)
    assert literal("after_pool-1.5+x") == "after_pool-1.5+x"


def test_the_text_of_levels_is_short_and_as_configured() -> None:
    assert levels_text({}) == ""
    levels = {"optim.lr": 0.01, "norm.affine": False, "norm.momentum": None}
    assert levels_text(levels) == "lr=0.01, affine=false, momentum=null"
    assert levels_text({"norm": "before_activation", "train.batch_size": 64}) == "norm=before_activation, batch_size=64"
