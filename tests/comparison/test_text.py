"""Numbers, labels and differences in words: signs, decimals, units, and the dash for what is not known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from made_outcomes import GAIN, NOISE, only, pair, result, study

from bnexp.comparison.tables import comparison_rows
from bnexp.comparison.text import RATIO, SETTINGS, axis_title, difference, number, p_equivalence, signed, times
from bnexp.comparison.words import settings_text


def test_a_number_that_rounds_to_zero_has_no_sign() -> None:
    assert [number(value, "pp") for value in (-0.001, 0.001, -0.006, -2.5)] == ["0.00", "0.00", "−0.01", "−2.50"]
    assert [signed(value, "pp") for value in (-0.001, 0.001, 0.006)] == ["0.00", "0.00", "+0.01"]


def test_settings_are_told_with_their_names() -> None:
    settings = {"data.train_size": "500", "optim.lr": "0.1", "optim.momentum": "0.9", "train.batch_size": "64"}
    length = {"train.epochs": "10", "train.steps_per_epoch": "7"}
    assert settings_text(settings | length, SETTINGS) == (
        "500 training images, learning rate 0.1, momentum 0.9, batch size 64, 10 epochs, updates per epoch 7"
    )


@pytest.mark.parametrize(
    ("unit", "title"),
    [("pp", "difference (pp)"), ("", "difference"), (RATIO, "arm over baseline, log2: −1 is half, +1 is twice")],
)
def test_an_axis_tells_what_it_shows(unit: str, title: str) -> None:
    assert axis_title(unit) == title


@pytest.mark.parametrize(
    ("octaves", "text"),
    [(2.0, "4.00 times [2.00, 8.00]"), (7.0, "128 times [64, 256]"), (-4.0, "0.0625 times [0.0312, 0.125]")],
)
def test_large_and_small_ratios_have_as_many_digits_as_others(octaves: float, text: str) -> None:
    c = replace(only(result(study("none", "after_pool"), pair(GAIN))), difference=octaves)
    assert times(c, octaves - 1, octaves + 1) == text


def test_equivalence_is_told_with_the_sign_of_the_difference_and_the_interval_that_shows_it() -> None:
    c = only(result(study("none", "after_pool", direction="equivalent"), pair([n + 0.05 for n in NOISE])))
    assert difference(c) == f"+0.05 pp, 90 % interval [{number(c.low90, 'pp')}, {number(c.high90, 'pp')}]"
    c = only(result(study("none", "after_pool"), pair(GAIN)))
    assert difference(c) == f"+0.31 pp [{number(c.low, 'pp')}, {number(c.high, 'pp')}]"


def test_there_is_no_p_of_equivalence_without_its_interval() -> None:
    found = result(study("none", "after_pool"), pair(NOISE[:2]))
    assert math.isfinite(only(found).p_equivalence_adjusted)
    assert (p_equivalence(only(found)), comparison_rows(found)[0]["p equivalence"]) == ("–", "–")


def test_a_number_far_beyond_its_unit_is_told_by_its_power_of_ten() -> None:
    assert [number(value, "nats") for value in (-7.1158e28, 999_999.5, 2.3)] == ["−7.116e+28", "999999.5000", "2.3000"]
    assert signed(1e7, "pp") == "+1e+07"
