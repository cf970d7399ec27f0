"""Studies that cannot run, or would count evidence twice, are refused; those beside them are let through."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from bnexp.config.options import Analysis, DataName, Direction, NormKind
from bnexp.config.schema import (
    ConfigError,
    Decides,
    Published,
    Reference,
    RefineConfig,
    RunConfig,
    ShowConfig,
    StudyConfig,
    TuneConfig,
)
from bnexp.plan import compose, expand
from bnexp.plan.checks import check, check_pretraining, check_runs
from tests.changed import changed

ARMS = {"none": ["norm=none"], "batch": ["norm=batch"]}
TWO, THREE, MAPPED = {"optim.lr": [1, 2]}, {"optim.lr": [1, 2, 3]}, {"place": {"early": ["norm.placement=both"], "late": []}}
REFINED = {"refine": RefineConfig(ratio=1.5)}
TUNED = {"tune": TuneConfig(grid=[0.1, 0.2])}


def study(**keys: Any) -> StudyConfig:
    return StudyConfig(**({"name": "made", "arms": ARMS, "seeds": 2} | keys))


def analysis(name: str, **keys: Any) -> StudyConfig:
    return study(analysis=Analysis(name), baseline="none", **keys)


def refining(factors: dict[str, Any]) -> StudyConfig:
    return analysis("sensitivity", factors=factors, **REFINED)


def tuning(setting: str = "optim.lr", grid: tuple[float, ...] = (0.1, 0.2), seeds: tuple[int, ...] = (7,)) -> StudyConfig:
    return study(tune=TuneConfig(setting=setting, grid=list(grid), seeds=list(seeds)))


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (study(), None),
        (study(arms={}), "study made needs at least two arms to compare, and has none; add them under study.arms."),
        (study(arms={"a": []}), "study made needs at least two arms to compare, and has a; add"),
        (study(arms={"a b": [], "c": []}), "study made: the name 'a b' is not possible"),
        (study(factors={"../x": [1]}), "study made: the name '../x' is not possible"),
        (study(baseline="batch"), None),
        (study(baseline="bath"), "study.baseline=bath is not an arm of study made: .* none, batch. Did you mean batch?"),
        (study(factors={"a": 3}), "study.factors.a must be a list of levels, or a mapping of level names to overrides."),
        (study(factors={"a": []}), "study.factors.a must be a list of levels"),
        (study(factors={"a": {}}), "study.factors.a must be a list of levels"),
        (study(factors=TWO | MAPPED), None),
        (study(seeds=0), "study.seeds=0 is not possible"),
        (analysis("interaction", factors=TWO), None),
        (analysis("interaction", factors={"optim.eps": [1]} | TWO), None),
        (analysis("interaction"), "study.analysis=interaction needs a factor of at least two levels in study.factors"),
        (analysis("interaction", factors={"optim.lr": [1]}), ".* there is optim.lr with 1."),
        (analysis("sensitivity", factors=TWO), None),
        (analysis("sensitivity", factors={"optim.lr": [1]}), ".*exactly one factor, of at least two levels, in study.factors"),
        (analysis("sensitivity", factors=TWO | MAPPED), ".* there is optim.lr with 2 and place with 2."),
        (analysis("sensitivity", factors=TWO, metric="train_eval/loss"), ".*needs an accuracy as study.metric; set"),
        (analysis("sensitivity", factors=TWO, metric="test/ece"), ".*needs an accuracy as study.metric; set"),
        (analysis("sensitivity", factors=TWO, metrics={"batch": "test/loss"}), ".*needs an accuracy as study.metric; set"),
        (analysis("sensitivity", factors=TWO, metric="test/loss", metrics=dict.fromkeys(ARMS, "test/accuracy")), None),
        (refining({"optim.lr": ["0.1", 1]}), None),
        (study(factors=TWO, **REFINED), "study.refine.ratio=1.5 of study made goes with study.analysis=sensitivity, not lev"),
        (refining({"a": {"1": [], "2": []}}), ".*needs a list of levels of a key whose value is a number, .* not of a; set"),
        (refining({"norm": [1, 2]}), ".*needs a list of levels of a key whose value is a number, .* and not of norm; set"),
        (refining({"optim.lr": [0, 1]}), ".*needs levels above 0, and not optim.lr=0; leave it out"),
        (refining({"optim.lr": [1, "x"]}), ".*needs levels above 0, and not optim.lr=x; leave it out"),
        (analysis("levels", metric="test/loss"), None),
        (analysis("trend", factors=THREE), None),
        (analysis("trend", factors=TWO), ".*exactly one factor, of at least three levels in order, in study.factors"),
        (analysis("trend", factors=THREE | MAPPED), ".* there is optim.lr with 3 and place with 2."),
        (analysis("trend"), r".* there is none\.$"),
        (analysis("time_to_target"), None),
        (analysis("predictions"), None),
        (study(analysis=Analysis.matched), None),
        (study(analysis=Analysis.predictions), ".*needs an arm to compare with; set study.baseline to one of none, batch."),
        (study(analysis=Analysis.time_to_target), "study.analysis=time_to_target needs an arm to compare with"),
        (study(pretrain=["train.epochs=1"]), None),
        (
            study(pretrain=["train.epochs=1"], arms=ARMS | {"own": ["train.init_from=abc"]}),
            "train.init_from is set by study.pretrain of study made; leave one of the two out.",
        ),
        (study(arms=ARMS | {"own": ["train.init_from=abc"]}), None),
        (tuning(), None),
        (tuning("train.batch_size", (8, 16)), None),
        (tuning("optim.lrr"), "study.tune.setting=optim.lrr is not a key whose value is a number, like optim.lr. Did you mean"),
        (tuning("norm.kind"), "study.tune.setting=norm.kind is not a key"),
        (tuning("study.tune.grid"), "study.tune.setting=study.tune.grid is not a key"),
        (study(factors=TWO, **TUNED), "optim.lr is tuned in study made, so it can be neither set nor varied; leave it out, or"),
        (study(factors=MAPPED, **TUNED), None),
        (tuning(grid=(0.1,)), re.escape("study.tune.grid=[0.1] is not possible: allowed are two or more different")),
        (tuning(grid=(0.1, 0.1)), ".*two or more different numbers above 0."),
        (tuning(grid=(0.1, 0)), ".*two or more different numbers above 0."),
        (tuning(seeds=()), r"study.tune.seeds=\[\] is not possible: allowed are different integers of at least 0."),
        (tuning(seeds=(7, 7)), "study.tune.seeds=.* is not possible"),
        (tuning(seeds=(-1, 7)), "study.tune.seeds=.* is not possible"),
        (tuning(seeds=(2, 3)), None),
        (study(seeds=[3], tune=TuneConfig(grid=[1, 2], seeds=[0])), None),
        (tuning(seeds=(7, 1, 0)), "study.tune.seeds and study.seeds of study made share 0, 1: runs that choose a value"),
    ],
)  # fmt: skip
def test_a_study_is_let_through_or_refused_in_one_sentence(made: StudyConfig, sentence: str | None) -> None:
    answered(sentence, check, made, [], [])


@pytest.mark.parametrize(
    ("keys", "fixed", "swept", "sentence"),
    [
        ({}, ["optim.lr", "data"], ["train.epochs"], None),
        ({}, ["seed"], [], r"seed has no effect in study made, which runs several; set study.seeds=\[...\] instead."),
        ({}, [], ["seed"], "seed has no effect in study made"),
        ({}, [], ["study.seeds"], "study.seeds cannot be a factor of study made: run the study once for each of its values."),
        ({}, [], ["track.predictions"], "track.predictions cannot be a factor"),
        ({}, [], ["executor"], "executor cannot be a factor"),
        ({}, [], ["budget"], "budget cannot be a factor"),
        ({}, ["study.seeds", "track.predictions", "executor", "budget"], [], None),
        (
            {},
            ["norm"],
            [],
            r"norm is what study made varies \(none, batch\); leave it out, or train alone: bnexp train norm=...",
        ),
        ({"factors": MAPPED}, ["norm.placement"], [], "norm.placement is what study made varies"),
        (TUNED, ["optim.lr"], [], "optim.lr is tuned in study made"),
        ({"pretrain": ["train.epochs=1"]}, ["train.init_from"], [], "train.init_from is set by study.pretrain of study made"),
        ({}, ["train.init_from"], [], None),
    ],
)
def test_what_a_study_sets_itself_cannot_be_set_beside_it(
    keys: dict[str, Any], fixed: list[str], swept: list[str], sentence: str | None
) -> None:
    answered(sentence, check, study(**keys), fixed, swept)


def runs(*varied: dict[str, Any], seeds: int = 2, levels: tuple[dict[str, Any], ...] = ({},)) -> list[RunConfig]:
    """At each level and seed two arms, none and batch; ``varied`` changes one after the other of these runs."""
    found = []
    for level in levels:
        for seed in range(seeds):
            for arm in ARMS:
                config = changed(RunConfig(seed=seed), {"norm.kind": NormKind(arm), "study.arm": arm, "study.levels": level})
                found.append(changed(config, {key: value for key, value in level.items() if "." in key}))
    changes = [*varied, *([{}] * (len(found) - len(varied)))]
    return [changed(config, change) for config, change in zip(found, changes, strict=True)]


NO_VALIDATION = {"data.val_fraction": 0.0}
SAME = {"norm.kind": NormKind.none}
LRS: tuple[dict[str, Any], ...] = ({"optim.lr": 0.1}, {"optim.lr": 0.2})


@pytest.mark.parametrize(
    ("made", "configs", "sentence"),
    [
        (study(), runs(levels=LRS), None),
        (study(), runs({"data.name": DataName.digits}), "study made varies the data set, but chance and margin go with one; "),
        (study(), runs({"data.root": "/x"}), "study made varies the data set"),
        (study(), runs(levels=(LRS[0], LRS[0])), "study made: the level lr=0.1 is there twice; leave one of them out."),
        (study(), runs({}, SAME), "study made: the arms none and batch are the same experiment; change one of them."),
        (study(), runs({}, {}, {}, SAME), "study made: the arms none and batch are the same experiment"),
        (study(metrics={"batch": "val/accuracy"}), runs({}, SAME, {}, SAME), None),
        (study(metrics={"batch": "test/accuracy"}), runs({}, SAME), "study made: the arms none and batch are the same"),
        (
            study(),
            runs(levels=({"place": "a"}, {"place": "b"})),
            "study made: the levels place=a and place=b are the same experiment; leave one of them out.",
        ),
        (study(), runs({}, {"norm.eps": 0.1}, {}, {"norm.eps": 0.1}, levels=({"place": "a"}, {"place": "b"})), None),
        (study(metrics={"bath": "val/loss"}), runs(), "study.metrics names bath, which is not an arm: .* Did you mean batch?"),
        (study(metric="test/acc"), runs(), "study.metric=test/acc is not recorded: allowed are train/loss, .* Did you mean"),
        (study(metrics={"batch": "val/acc"}), runs(), "study.metrics.batch=val/acc is not recorded"),
        (study(metric="val/accuracy"), runs({}, {}, NO_VALIDATION), "study.metric=val/accuracy is not recorded"),
        (study(metrics={"batch": "test/loss"}), runs(), "study.metrics compares what has different units: test/acc"),
        (study(metric="test/loss"), runs(), None),
        (study(metric="test/loss", direction=Direction.less), runs(), None),
        (study(metric="test/loss", direction=Direction.greater), runs(), "study.metric=test/loss is better when it is"),
        (study(metric="test/loss", decides=[Decides(expect=Direction.greater)]), runs(), "study.metric=test/loss is better"),
        (study(direction=Direction.greater), runs(), None),
        (analysis("interaction", metric="test/loss", direction=Direction.greater), runs(), None),
        (analysis("time_to_target"), runs(), None),
        (analysis("predictions"), runs(NO_VALIDATION), None),
        (
            analysis("time_to_target"),
            runs({}, {}, NO_VALIDATION),
            "study.analysis=time_to_target of study made needs validation images; set data.val_fraction above 0.",
        ),
        (analysis("matched", metric="val/loss"), runs(), None),
        (analysis("matched", metric="val/loss", match="val/accuracy"), runs(), None),
        (analysis("matched", metric="val/loss"), runs(NO_VALIDATION), "study.metric=val/loss is not recorded"),
        (
            analysis("matched", metric="train/loss", match="val/accuracy"),
            runs(NO_VALIDATION),
            "study.match=val/accuracy is not recorded in training: allowed are train/loss, train/accuracy. Did you mean",
        ),
        (analysis("matched", metric="val/loss", match="train_eval/loss"), runs(), "study.match=train_eval/loss is not"),
        (analysis("matched", metric="val/loss", match="learning_rate"), runs(), "study.match=learning_rate is not recorded"),
        (
            analysis("matched"),
            runs(),
            "study.metric=test/accuracy is recorded once, so it has no value at another train/loss; choose a metric of every",
        ),
        (analysis("matched", metrics={"none": "val/accuracy"}), runs(), "study.analysis=matched compares one metric"),
        (study(**TUNED), runs(NO_VALIDATION), "study.tune.grid of study made needs validation images"),
        (study(**TUNED), runs(), None),
        (study(), runs(NO_VALIDATION), None),
    ],
)  # fmt: skip
def test_the_runs_of_a_study_are_let_through_or_refused_in_one_sentence(
    made: StudyConfig, configs: list[RunConfig], sentence: str | None
) -> None:
    answered(sentence, check_runs, made, configs)


def test_a_pretraining_has_the_norms_of_its_run() -> None:
    first, run = runs(seeds=1)
    answered(None, check_pretraining, study(), run, changed(run, {"train.epochs": 3}))
    answered(
        "study.pretrain of study made gives norm.kind=none, but a run of the arm batch has norm.kind=batch; leave norm out",
        *(check_pretraining, study(), run, first),
    )


def answered(sentence: str | None, function: Any, *given: Any) -> None:
    """The function refuses what it is given with this sentence (a pattern of its beginning), or lets it through."""
    if sentence is None:
        function(*given)
        return
    with pytest.raises(ConfigError) as error:
        function(*given)
    assert re.match(sentence, str(error.value)), str(error.value)
    assert "\n" not in str(error.value)


def shown(**keys: Any) -> StudyConfig:
    entry = Published(**({"source": "Other 2020", "values": {"batch": Reference(99.0)}} | keys))
    return study(show=ShowConfig(published={"x": entry}))


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (shown(), None),
        (shown(values={"batch": Reference(99.0, 98.0, 99.5), "other": Reference(1.0)}), None),  # of an arm not in this study
        (shown(at={"optim.lr": 0.1, "data.train_size": None}), None),
        (shown(source=""), "study.show.published.x.source is empty: say who found this"),
        (shown(values={}), "study.show.published.x says nothing: give values"),
        (shown(values={}, note="Half."), None),
        (
            shown(values={"bath": Reference(1.0)}),
            ".*x.values names bath, and none is an arm .* none, batch. Did you mean batch?",
        ),
        (shown(at={"optim.rl": 1}), ".*x.at names optim.rl, .* allowed are data.name, .* Did you mean optim.lr?"),
        (shown(values={"batch": Reference(math.nan)}), ".*x.values.batch is not possible: allowed is a number"),
        (shown(values={"batch": Reference(1.0, low=0.5)}), ".* with both low and high or neither"),
        (shown(values={"batch": Reference(1.0, 2.0, 1.5)}), ".* has low above high"),
    ],
)
def test_what_a_study_shows_is_checked_first(made: StudyConfig, sentence: str | None) -> None:
    if sentence is None:
        check(made, [], [])
        return
    with pytest.raises(ConfigError, match=sentence):
        check(made, [], [])


def test_a_published_value_that_is_no_mapping_is_told_its_keys() -> None:
    with pytest.raises(
        ConfigError, match=r"values.none=3 is not possible: allowed is a mapping with the keys value, low, high\.$"
    ):
        compose.compose(["study=blog", "study.show.published.lenet_mnist.values.none=3"])


def test_a_figure_is_of_a_metric_that_every_run_records() -> None:
    with pytest.raises(ConfigError, match=r"study.show.figures names gradients/log_ratio, .* add study.show.figures=\[\]"):
        expand.expand_study(["study=depth", "data=digits", "probe.gradients=false", "study.seeds=1"])
    with pytest.raises(ConfigError, match=r"Did you mean curves\?"):
        expand.expand_study(["study=blog", "data=digits", "study.seeds=1", "study.show.figures=[curvs]"])
    expand.expand_study(["study=depth", "data=digits", "probe.gradients=false", "study.seeds=1", "study.show.figures=[]"])
