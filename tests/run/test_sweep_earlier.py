"""What is recorded of a sweep stays, whichever points a later command tries, and in whatever order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bnexp.comparison.sweep.record import Axis, Confirmed, SweepRecord, Trial
from bnexp.plan.sweep.distribution import Parameter
from bnexp.run.sweep.earlier import earlier_record, merged, with_earlier
from tests.comparison.made_sweeps import sweep_record


def trial(number: int, lr: float, state: str = "finished") -> Trial:
    return Trial(number, {"optim.lr": lr}, [f"run-{lr}"], state, [lr], [1])  # type: ignore[arg-type]


@pytest.fixture
def earlier(tmp_path: Path) -> SweepRecord:
    """A record of points 0.1, 0.2 and 0.3, of which the second and the last were trained again."""
    return sweep_record(
        tmp_path / "mine" / "sweep-0a",
        [Axis("optim.lr", True)],
        [trial(1, 0.1), trial(2, 0.2), trial(3, 0.3)],
        goal="minimize",
        confirmed=Confirmed([3, 2], [1, 2], {"3": ["x1", "x2"], "2": ["y1", "y2"]}),
    )


def test_points_that_a_later_command_does_not_try_follow_those_that_it_does(earlier: SweepRecord) -> None:
    now = replace(earlier, trials=[trial(1, 0.1, "failed"), trial(2, 0.9), trial(3, 0.3)], confirmed=None)
    found = with_earlier(now, earlier)
    assert [(t.number, t.params["optim.lr"], t.state) for t in found.trials] == [
        (1, 0.1, "failed"),  # what the later command says of the same point counts
        (2, 0.9, "finished"),
        (3, 0.3, "finished"),
        (4, 0.2, "finished"),
    ]
    assert found.confirmed == Confirmed([3, 4], [1, 2], {"3": ["x1", "x2"], "4": ["y1", "y2"]})
    assert with_earlier(now, None) is now
    assert with_earlier(now, replace(earlier, confirmed=None)).confirmed is None
    damaged = replace(earlier, confirmed=Confirmed([7, 3], [1], {"7": ["z1"], "3": ["x1"]}))
    assert with_earlier(now, damaged).confirmed == Confirmed([3], [1], {"3": ["x1"]})
    assert with_earlier(replace(now, trials=[]), earlier).trials == earlier.trials


def test_a_point_that_was_chosen_twice_keeps_its_first_number(earlier: SweepRecord) -> None:
    now = replace(earlier, trials=[trial(1, 0.3), trial(2, 0.3), trial(3, 0.2)], confirmed=None)
    assert with_earlier(now, earlier).confirmed == Confirmed([1, 3], [1, 2], {"1": ["x1", "x2"], "3": ["y1", "y2"]})


def test_a_record_is_read_with_what_varies_and_without_points_that_were_never_tried(earlier: SweepRecord) -> None:
    older = [replace(t, params={"norm": "batch", **t.params}) for t in earlier.trials]
    replace(earlier, trials=[*older, trial(4, 0.4, "missing")]).save()
    varied = {"optim.lr": Parameter("optim.lr", "uniform", numbers={"min": 0, "max": 1})}
    assert earlier_record(earlier.folder, varied) == earlier
    assert earlier_record(earlier.folder.parent, varied) is None


def test_a_recorded_point_with_a_value_that_the_sweep_does_not_list_is_no_point_of_it(earlier: SweepRecord) -> None:
    listed, other = ({"model.factory": f"{name}.py:build"} for name in ("mine", "strangers"))
    trials = [replace(earlier.trials[0], params=listed), replace(earlier.trials[1], params=other)]
    replace(earlier, axes=[Axis("model.factory", False)], trials=trials, confirmed=None).save()
    found = earlier_record(earlier.folder, {"model.factory": Parameter("model.factory", "categorical", ("mine.py:build",))})
    assert found is not None
    assert [t.params for t in found.trials] == [listed]


def test_of_the_best_points_more_seeds_count() -> None:
    old = Confirmed([3, 2], [1, 2], {"3": ["x1", "x2"], "2": ["y1", "y2"]})
    fewer = Confirmed([4, 2], [1], {"4": ["z1"], "2": ["y1"]})
    assert merged(fewer, old) == Confirmed([4, 2, 3], [1, 2], {"4": ["z1"], "2": ["y1", "y2"], "3": ["x1", "x2"]})
    more = Confirmed([2], [1, 2, 3], {"2": ["y1", "y2", "y3"]})
    assert merged(more, old) == Confirmed([2, 3], [1, 2, 3], {"2": ["y1", "y2", "y3"], "3": ["x1", "x2"]})
    others = Confirmed([2], [1], {"2": ["v1"]})  # the same point with other ids, by another version
    assert merged(others, old).run_ids == {"2": ["v1"], "3": ["x1", "x2"]}
    assert merged(fewer, None) is fewer
