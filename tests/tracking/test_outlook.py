"""The time that runs will still take, computed by hand."""

from __future__ import annotations

import pytest

from bnexp.tracking.outlook import Outlook, wall_seconds


@pytest.mark.parametrize(
    ("times", "workers", "seconds"),
    [([], 2, 0), ([5, 5, 5], 1, 15), ([5, 5, 5], 2, 10), ([1, 9, 2, 3], 2, 9), ([4, 3, 3, 2, 2], 2, 8), ([4, 4], 8, 4)],
)
def test_workers_share_the_runs_the_longest_first(times: list[float], workers: int, seconds: float) -> None:
    assert wall_seconds(times, workers) == seconds


def test_what_runs_really_take_replaces_what_was_expected() -> None:
    outlook = Outlook([([name], 100.0) for name in "abcd"], workers=2)
    assert outlook.seconds == 200
    outlook.advance("a", 0.2, 40.0)  # twice as long as expected
    outlook.advance("b", 0.2, 40.0)
    # a and b are expected to need 80 more each, then c and d 100; the first tenth of the 400 stays as expected
    assert outlook.seconds == pytest.approx(180 * (40 + 80) / (40 + 40))
    outlook.advance("c", 0.0, 0.0)
    for name in "ab":
        outlook.advance(name, 1.0, 200.0, ended=True)
    assert outlook.seconds == pytest.approx(100 * (40 + 400) / (40 + 200))
    for name in "cd":
        outlook.advance(name, 1.0, 200.0, ended=True)
    assert outlook.seconds == 0


def test_a_run_that_ends_early_saves_its_rest_and_changes_nothing_for_others() -> None:
    outlook = Outlook([(["a"], 100.0), (["b"], 100.0)], workers=1)
    outlook.advance("a", 0.1, 10.0, ended=True)
    assert outlook.seconds == pytest.approx(100)


def test_a_cohort_goes_on_without_its_diverged_runs() -> None:
    outlook = Outlook([(["a", "b"], 100.0)], workers=1)
    outlook.advance("a", 0.5, 50.0, ended=True)
    assert outlook.seconds == pytest.approx(50)
    outlook.advance("b", 1.0, 100.0, ended=True)
    assert outlook.seconds == 0


def test_a_run_that_is_tried_again_starts_over() -> None:
    outlook = Outlook([(["a"], 100.0)], workers=1)
    outlook.advance("a", 0.5, 50.0)
    outlook.advance("a", 0.0, 0.0)
    assert outlook.seconds == 100


def test_unknown_times_become_known_by_what_has_trained() -> None:
    outlook = Outlook([(["a"], None), (["b"], 3.0), (["c"], None)], workers=1)
    assert outlook.seconds is None
    outlook.advance("a", 0.5, 10.0)
    assert outlook.seconds == pytest.approx(50)
    outlook.advance("stranger", 0.5, 10.0)
    assert outlook.seconds == pytest.approx(50)
