"""Curves in the terminal: dots where the values are, names where the curves end."""

from __future__ import annotations

import math

from bnexp.cli.chart import chart


def test_a_rising_curve_goes_from_the_lower_left_to_the_upper_right() -> None:
    *drawn, axis = chart({"val": [(1, 0.0), (10, 50.0), (20, 100.0)]}, width=40, height=4)
    assert [line.split("┤")[0].strip() for line in drawn] == ["100", "67", "33", "0"]
    cells = [line.split("┤")[1].removesuffix(" val").rstrip() for line in drawn]
    assert drawn[0].endswith(" val")
    assert [len(line) - len(line.lstrip()) for line in cells] == sorted(
        (len(line) - len(line.lstrip()) for line in cells), reverse=True
    )
    assert cells[-1][0] != " "
    assert axis.split() == ["1", "20"]
    assert max(map(len, [*drawn, axis])) <= 40


def test_a_dot_has_its_place_in_its_character() -> None:
    first, last, _ = chart({"x": [(0, 1.0), (1, 0.0)]}, width=12, height=2)
    assert first.split("┤")[1][0] == "⠉"  # both dots of the uppermost row
    assert last.split("┤")[1].removesuffix(" x")[-1] == "⣀"  # both of the lowest one


def test_two_curves_that_end_together_have_their_names_below_each_other() -> None:
    lines = chart({"a": [(1, 0.0), (2, 1.0)], "b": [(1, 0.5), (2, 1.0)]}, width=30, height=4)
    assert [line[-1] for line in lines[:2]] == ["a", "b"]


def test_points_without_a_value_are_left_out_and_a_single_one_is_no_curve() -> None:
    assert chart({"x": [(1, 1.0), (2, math.nan)]}, width=30) == []
    assert chart({}, width=30) == []
    assert chart({"x": [(1, 1.0), (2, 1.0), (3, math.inf)]}, width=30)[-1].split() == ["1", "2"]
