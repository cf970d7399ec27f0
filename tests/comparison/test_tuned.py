"""What a reader is told of tuned values: all numbers of each choice, and a warning where the best may lie beyond them."""

from __future__ import annotations

from typing import Any

from bnexp.comparison.tuned import tuned_setting, tuning_notes, tuning_rows
from bnexp.config.schema import LinearRule, TuneConfig
from bnexp.plan.study import Choice


def choice(arm: str, value: float, *, at_edge: bool = False, **levels: Any) -> Choice:
    return Choice(arm, levels, "optim.lr", value, {0.01: 0.5, 0.02: 0.8125, 0.04: 0.75}, at_edge)


CHOICES = [choice("none", 0.02), choice("bn", 0.04, at_edge=True, depth=8)]


def test_the_table_of_tuned_values_tells_each_choice_and_its_accuracy() -> None:
    assert tuning_rows(CHOICES) == [
        {"arm": "none", "level": "", "optim.lr": "0.02", "mean val/accuracy (%)": "81.25", "edge": "no"},
        {"arm": "bn", "level": "depth=8", "optim.lr": "0.04", "mean val/accuracy (%)": "75.00", "edge": "yes"},
    ]


def test_notes_tell_what_was_tried_and_warn_of_the_value_at_the_edge_alone() -> None:
    assert tuning_notes(CHOICES, TuneConfig()) == [
        "optim.lr was chosen for each by the mean validation accuracy of seeds 1000, 1001, 1002, the same 3 values from 0.01 "
        "to 0.04 tried for all: none 0.02 (81.25 %), bn at depth=8 0.04 (75.00 %).",
        "The best optim.lr lies at the edge of what was tried for bn at depth=8 (0.04); a better one may lie beyond. Raise "
        "study.tune.extensions.",
    ]
    assert tuning_notes([], TuneConfig()) == []


def test_values_by_the_linear_rule_are_told_as_such_and_have_no_accuracy() -> None:
    rule = Choice("linear", {"train.batch_size": 128}, "optim.lr", 0.04, {}, at_edge=False, rule="0.02 × 128/64")
    tune = TuneConfig(linear=LinearRule("linear", "none", 64))
    chosen, note = tuning_notes([CHOICES[0], rule], tune)
    assert chosen == tuning_notes(CHOICES[:1], tune)[0]
    assert note == (
        "optim.lr by the linear rule, from that of none at batches of 64: linear at batch_size=128 0.04 (0.02 × 128/64)."
    )
    assert tuning_rows([rule])[0]["mean val/accuracy (%)"] == "0.02 × 128/64"


def test_one_tuned_arm_alone_is_told_of_as_well() -> None:
    assert tuned_setting(CHOICES[:1]) == {"optim.lr": "tuned (none 0.02)"}
    (note,) = tuning_notes(CHOICES[:1], TuneConfig(seeds=[7]))
    assert note.endswith("accuracy of seed 7, the same 3 values from 0.01 to 0.04 tried for all: none 0.02 (81.25 %).")


def test_the_setting_of_up_to_four_cells_is_listed_and_of_more_is_a_range() -> None:
    assert tuned_setting([]) == {}
    assert tuned_setting(2 * CHOICES) == {
        "optim.lr": "tuned (none 0.02, bn at depth=8 0.04, none 0.02, bn at depth=8 0.04)",
    }
    assert tuned_setting([*CHOICES, choice("a", 0.01), choice("b", 0.02), choice("c", 0.02)]) == {
        "optim.lr": "tuned (0.01 to 0.04)"
    }
