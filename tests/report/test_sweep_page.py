"""The report of a sweep: valid figures with words, drawn by a real browser, and nothing of a hostile text carried out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pages import HOSTILE, Page, drawn, needs_browser

from bnexp.comparison.sweep.importance import importances
from bnexp.comparison.sweep.record import Axis, Confirmed, SweepRecord, Trial, load
from bnexp.comparison.sweep.result import conclude
from bnexp.report.sweep.figures import figures
from bnexp.report.sweep.page import render
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.store import Store
from tests.comparison.made_records import record as made_run
from tests.comparison.made_sweeps import sweep_record


@pytest.fixture
def record(tmp_path: Path) -> SweepRecord:
    """A sweep of twelve points, two of which have no comparable value."""
    norms, rates = ("none", "batch"), (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    trials = [
        Trial(number, {"norm": norm, "optim.lr": rate}, [f"{number:012x}"], "finished", [0.5 + 0.03 * number], [4], seconds=1.5)
        for number, (norm, rate) in enumerate(((n, r) for n in norms for r in rates), 1)
    ]
    trials[2] = replace(trials[2], state="stopped", epochs=[2])
    trials[3] = replace(trials[3], state="failed", values=[None], error="out of memory")
    return sweep_record(
        tmp_path / "runs" / "lr" / "sweep-0a",
        [Axis("norm", False, list(norms)), Axis("optim.lr", False, list(rates))],
        trials,
        description="Rates",
        stopping="hyperband after epochs 2 (eta 2)",
        at_once=2,
        command="bnexp sweep lr data=digits",
        confirmed=Confirmed([12, 11], [1, 2], {"12": ["a" * 12], "11": ["b" * 12]}),
    )


def test_every_figure_is_valid_and_says_in_words_what_it_shows(record: SweepRecord) -> None:
    found = figures(record, importances(record))
    made = [figure for own in found.values() for figure in own]
    assert [figure.title for figure in made] == [
        "The points in order",
        "Parameters and result of each point",
        "How much each parameter matters",
        "Over norm",
        "Over optim.lr",
    ]
    for figure in made:
        figure.chart.to_dict()  # raises what Vega-Lite's schema refuses
    assert "the best is point 12 with 86.00 % (norm=batch lr=0.3)" in found["course"][0].description
    assert "one line per point through norm, lr, val/accuracy" in found["parallel"][0].description
    assert "norm" in found["importance"][0].description


def test_the_page_names_every_point_and_what_became_of_it(record: SweepRecord) -> None:
    html = render(conclude(record, Store()))
    page = Page(html)
    assert "norm=batch lr=0.3 is the best of 12 points: val/accuracy 86.00 % in the sweep" in page.text
    assert "10 finished, 1 stopped, 1 failed." in page.text
    assert "out of memory" in page.text
    assert all(run_id in page.text for trial in record.trials for run_id in trial.run_ids)
    assert "bnexp sweep lr data=digits" in page.text
    assert all(place.get("aria-label") for place in page.all("div") if "data-spec" in place)


def test_points_that_were_trained_again_stand_with_what_they_lack_to_the_best(record: SweepRecord, tmp_path: Path) -> None:
    run_ids = {number: [f"{number}{seed}" + "c" * 9 for seed in range(1, 7)] for number in ("12", "11")}
    for number, mean in (("12", 0.9), ("11", 0.8)):
        for seed, run_id in enumerate(run_ids[number], 1):
            made_run(tmp_path / "runs", run_id, seed=seed, arm="batch", metrics={"val/accuracy": mean + seed * mean / 1000})
    again = replace(record, confirmed=Confirmed([12, 11], [1, 2, 3, 4, 5, 6], run_ids))
    page = Page(render(conclude(again, Store(tmp_path / "runs"))))
    assert "83.00 %80.28 %80.09 to 80.47−10.03 pp−10.05 to −10.02worse" in page.text


def test_a_sweep_without_a_result_has_a_page(record: SweepRecord) -> None:
    empty = replace(record, trials=[replace(trial, state="missing", values=[None]) for trial in record.trials], confirmed=None)
    assert "No point of the sweep has a result yet: 12 missing." in Page(render(conclude(empty, Store()))).text


@needs_browser
def test_a_browser_draws_every_chart_and_carries_out_nothing(record: SweepRecord, tmp_path: Path) -> None:
    axes = [Axis(HOSTILE, False, ["none", HOSTILE]), record.axes[1]]
    trials = [
        replace(trial, params={HOSTILE: HOSTILE, "optim.lr": trial.params["optim.lr"]}, error=HOSTILE)
        for trial in record.trials
    ]
    hostile = replace(record, axes=axes, trials=trials, description=HOSTILE, command=HOSTILE, overrides=[HOSTILE])
    page = drawn(render(conclude(hostile, Store())), tmp_path)
    assert len([a for a in page.all("div") if "data-drawn" in a]) == len(page.all("div", role="img"))


def test_a_record_of_strangers_is_checked(record: SweepRecord) -> None:
    record.save()
    assert load(record.folder) == record
    first = record.trials[0]
    for wrong, why in (
        (replace(record, goal="best"), "goal is 'best'"),
        (replace(record, name="../x"), "name '../x'"),
        (replace(record, trials=[replace(record.trials[0], run_ids=["../../x"])], confirmed=None), "the run id '../../x'"),
        (replace(record, trials=record.trials[:3]), "confirmed.numbers names points"),
        (replace(record, confirmed=Confirmed([12, 11], [1], {"12": ["a" * 12]})), "confirmed.run_ids has no runs of point 11"),
        (replace(record, confirmed=Confirmed([12], [1], {"12": ["../../x"]})), "the run id '../../x'"),
        (replace(record, seeds=[]), "it has no seeds"),
        (replace(record, trials=[replace(first, params={"norm": "none"})], confirmed=None), "point 1 has no value of optim.lr"),
        (
            replace(record, trials=[replace(first, params={**first.params, "norm": "x"})], confirmed=None),
            "norm of point 1 is none",
        ),
    ):
        wrong.save()
        with pytest.raises(DamagedRecord) as damage:
            load(record.folder)
        assert why in str(damage.value)
