"""Which comparisons decide a study, and what is said of a deciding set that does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from bnexp.config.options import Analysis, Direction
from bnexp.config.schema import ConfigError, Decides, StudyConfig
from bnexp.plan.budget import budgeted
from bnexp.plan.deciding import Compared, check_decides, expected


def study(**keys: Any) -> StudyConfig:
    given: dict[str, Any] = {"baseline": "none", "factors": {"norm": ["a", "b"], "data.train_size": [500, None]}}
    arms: dict[str, list[str]] = {"none": [], "x": [], "y": []}
    return StudyConfig(name="made", arms=arms, **(given | keys))


def about(arm: str = "x", measure: str = "levels", **levels: Any) -> Compared:
    return Compared(measure, arm, "none", {"norm": "a", "data.train_size": None} | levels)


def test_without_a_deciding_set_everything_in_the_first_measure_decides() -> None:
    made = study(direction=Direction.less, analysis=Analysis.time_to_target)
    assert expected(made, about("x", "updates")) == expected(made, about("y", "updates", norm="b")) == Direction.less
    assert expected(made, about("x", "seconds")) is None


def test_a_part_covers_what_it_names_and_the_first_part_that_does_says_what_is_expected() -> None:
    parts = [Decides(arm="x", at={"norm": "b"}, expect=Direction.equivalent), Decides(at={"data.train_size": None})]
    made = study(decides=parts, direction=Direction.greater)
    assert expected(made, about("x", norm="b")) == Direction.equivalent
    assert expected(made, about("y", norm="b")) == Direction.greater  # by the second part, in the study's direction
    assert expected(made, about("y", **{"data.train_size": 500})) is None


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"decides": [Decides(arm="z")]}, "names z against its baseline: compared are x against none, y against none."),
        (
            {"decides": [Decides(arm="x"), Decides(arm="x", baseline="y")]},
            r"study.decides\[1\] of study made names x against y",
        ),
        ({"decides": [Decides(at={"norm": "c"})]}, "names norm=c, where nothing is compared: there is norm=a, train_size=500;"),
        ({"decides": [Decides(measure="area")]}, "has measure=area: study.analysis=levels allows levels."),
        (
            {"decides": [Decides(at={"norm": "a"})], "factors": {"norm": ["a", "b"]}, "analysis": Analysis.interaction},
            "names norm=a, where nothing is compared: there is norm=b. To let every comparison decide, add study.decides=",
        ),
        (
            {"decides": [Decides(at={"optim.lr": 1})], "factors": {"optim.lr": [1, 2, 4]}, "analysis": Analysis.trend},
            "names lr=1, where nothing is compared: study.analysis=trend compares all levels together.",
        ),
    ],
)
def test_a_part_that_covers_nothing_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_decides(study(**keys))


def test_a_budget_keeps_the_levels_that_decide() -> None:
    made = study(factors={"a": list(range(11)), "b": {"p": [], "q": [], "r": [], "s": []}}, max_levels=2)
    assert budgeted(made) == {"a": [0, 10], "b": {"p": [], "s": []}}
    made.decides = [Decides(at={"a": 3}), Decides(at={"b": "q"})]
    assert budgeted(made) == {"a": [0, 3, 10], "b": {"p": [], "q": [], "s": []}}
    made.limits = {"a": 2}
    assert budgeted(made)["a"] == [0, 2]
