"""Levels that a study adds to find the largest that trains: on pretended runs, whose boundaries are known."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bnexp
from bnexp.cli.printed import plan_notes
from bnexp.comparison.conclude import conclude
from bnexp.comparison.record import load
from bnexp.comparison.result import Comparison, Outcome, StudyResult, Verdict
from bnexp.plan.expand import expand_study
from bnexp.plan.grid import continued, middle
from bnexp.plan.spec import RunSpec
from bnexp.run import runner
from bnexp.run.train import launch
from bnexp.tracking.store import Store, write_json

RATES = ["data=digits", "executor=inline", "track.wandb.mode=disabled"]
COARSE = [*RATES, "optim.lr=0.001,0.004,0.032,0.256,1.024"]  # what a budget of five levels leaves
FEW = [*COARSE, "study.seeds=2"]
HALF = 2**0.5
Boundary = Callable[[str, int], float]  # (arm, seed) -> the largest rate that trains
Trained = list[RunSpec]


def edges(arm: str, seed: int) -> float:
    return 0.05 * 1.05**seed if arm == "none" else 0.3 * 1.3 ** (seed % 3)


class Heard(bnexp.Listener):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.added: list[list[float]] = []

    def refining(self, setting: str, levels: Sequence[float]) -> None:
        self.added.append(list(levels))


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Boundary], Trained]]:
    """Runs are recorded without training: accurate up to a boundary, at chance beyond it. Gives the runs that "trained"."""

    def begin(boundary: Boundary, interrupt_after: int = 10**6) -> Trained:
        trained: Trained = []

        def run(specs: Sequence[RunSpec], store: Store | None = None, prepared: Any = None) -> dict[str, Any]:
            store = store or Store()
            for spec in runner.unfinished(specs, store):
                if len(trained) >= interrupt_after:
                    raise KeyboardInterrupt
                trained.append(spec)
                good = spec.config.optim.lr <= boundary(spec.arm, spec.seed) * (1 + 1e-9)
                accuracy = 0.9 + 0.001 * (spec.seed % 3) if good else 0.1
                metrics = {"val/accuracy": accuracy, "test/accuracy": accuracy, "train/accuracy": accuracy}
                known = {"run_id": spec.run_id, "study": spec.study, "data": "digits", "arm": spec.arm, "levels": spec.levels}
                rest = {"seed": spec.seed, "status": "finished", "metrics": metrics, "seconds": 1.0, "finished_at": ""}
                facts = {"class_names": [str(k) for k in range(10)], "num_test": 359}
                write_json(store.run_path(spec) / "summary.json", known | rest | facts)
            found = store.finished([spec.run_id for spec in specs])
            return {spec.run_id: found[spec.run_id] for spec in specs}

        monkeypatch.setattr(runner, "run", run)
        return trained

    return begin  # type: ignore[return-value]


def run(*overrides: str, listener: bnexp.Listener | None = None, **keys: Any) -> StudyResult:
    return bnexp.run_study("learning_rate", list(overrides), listener=listener, report=False, **keys)


def largest(result: StudyResult) -> Comparison:
    return next(c for c in result.comparisons if c.measure.startswith("the largest"))


def levels(result: StudyResult) -> list[float]:
    return sorted({float(outcome.levels["optim.lr"]) for outcome in result.outcomes})


def once(trained: Trained) -> bool:
    return max(Counter(spec.run_id for spec in trained).values()) == 1


def gaps(result: StudyResult) -> dict[tuple[str, int], float]:
    """(arm, seed) -> ratio of the next level to the largest that trains."""
    courses: dict[tuple[str, int], list[Outcome]] = {}
    for outcome in result.outcomes:
        courses.setdefault((outcome.arm, outcome.seed), []).append(outcome)
    found = {}
    for key, outcomes in courses.items():
        trains = [o.levels["optim.lr"] for o in outcomes if (o.value or 0) > 0.5]
        found[key] = min(o.levels["optim.lr"] for o in outcomes if o.levels["optim.lr"] > max(trains)) / max(trains)
    return found


@pytest.mark.parametrize("grid", [RATES, COARSE])
def test_two_boundaries_are_found_to_half_an_octave_with_the_same_levels_for_all(pretend: Any, grid: list[str]) -> None:
    trained, heard = pretend(edges), Heard()
    result = run(*grid, listener=heard)
    assert max(gaps(result).values()) <= 1.42
    cells = Counter((o.arm, o.levels["optim.lr"]) for o in result.outcomes)
    assert set(cells.values()) == {6}
    assert len(cells) == 2 * len(levels(result))
    assert once(trained)
    assert len(trained) == len(result.outcomes)
    truth = np.mean([np.log2(edges("after_pool", seed) / edges("none", seed)) for seed in range(6)])
    assert abs(largest(result).difference - truth) <= 0.51
    assert (result.verdict, largest(result).unresolved) == (Verdict.SUPPORTED, "")
    assert sorted(chain.from_iterable(heard.added)) == sorted(set(levels(result)) - set(levels_of_grid(grid)))


def levels_of_grid(grid: list[str]) -> list[float]:
    return sorted(map(float, expand_study(["study=learning_rate", *grid]).study.factors["optim.lr"]))


def test_a_difference_below_the_steps_of_the_grid_is_seen_not_refuted(pretend: Any) -> None:
    """Both boundaries lie between the same two levels of the grid, a factor of 8 apart; they differ by a factor of 3."""
    pretend(lambda arm, seed: (0.04 if arm == "none" else 0.12) * 1.02**seed)
    result = run(*COARSE)
    assert result.verdict is Verdict.SUPPORTED
    assert 3 / HALF <= 2 ** largest(result).difference <= 3 * HALF


def test_arms_that_are_alike_refute_the_claim_only_within_the_margin(pretend: Any) -> None:
    pretend(lambda arm, seed: 0.05 * (1.5 if (arm, seed) in (("none", 1), ("after_pool", 2)) else 1.0))
    result = run(*COARSE)
    assert result.verdict is Verdict.REFUTED
    assert "within a factor of 2" in result.answer


def test_the_grid_grows_by_its_own_ratio_before_it_is_bisected(pretend: Any) -> None:
    pretend(lambda arm, seed: edges(arm, seed) if arm == "none" else 30.0)
    heard = Heard()
    result = run(*FEW, listener=heard)
    assert heard.added[:3] == [[4.096], [16.384], [65.536]]
    assert max(gaps(result).values()) <= 1.42
    assert largest(result).bound == ""


def test_what_trains_beyond_every_extension_is_a_bound_and_never_equivalent(pretend: Any) -> None:
    pretend(lambda arm, seed: edges(arm, seed) if arm == "none" else 1e9)
    result = run(*COARSE, "study.refine.extensions=2")
    assert max(levels(result)) == 16.384
    assert largest(result).bound == "at least"
    assert "the largest learning rate at which after_pool trains is at least " in result.answer
    pretend(lambda arm, seed: 1e9)
    both = run(*COARSE, "study.refine.extensions=2", "data.train_size=100")
    assert both.verdict is Verdict.INCONCLUSIVE
    assert "may lie beyond the levels" in largest(both).unresolved
    assert both.remedy is not None
    assert both.remedy.command.endswith("study.refine.extensions=4")


def test_where_a_larger_level_trains_again_the_largest_counts_and_a_note_says_so(pretend: Any) -> None:
    def boundary(arm: str, seed: int) -> float:
        return 0.02 if arm == "none" else 0.4

    class Odd(float):
        """Of ``after_pool`` the rate 0.032 does not train, though 0.256 does."""

        def __mul__(self, other: float) -> Any:
            return self

        def __ge__(self, lr: float) -> bool:
            return lr != 0.032 and float(self) >= lr

    pretend(lambda arm, seed: boundary(arm, seed) if arm == "none" else Odd(0.4))
    result = run(*FEW)
    assert any(
        note.startswith("after_pool: in 2 of 2 seeds a learning rate does not train, though a smaller and a larger one do")
        for note in result.notes
    )
    assert 2 ** largest(result).difference == pytest.approx(20, rel=HALF - 1)


def test_a_finished_study_trains_nothing_and_says_the_same_again(pretend: Any) -> None:
    pretend(edges)
    first = run(*FEW)
    trained, heard = pretend(edges), Heard()
    assert run(*FEW, listener=heard).to_dict() == first.to_dict()
    shutil.rmtree(Path(os.environ["BNEXP_RUNS_DIR"]) / "learning_rate" / f"study-{first.study_id}")
    assert run(*FEW).comparisons == first.comparisons  # found again from the runs alone
    assert (trained, heard.added) == ([], [])


def test_an_interrupted_study_goes_on_with_the_levels_it_had_chosen(pretend: Any) -> None:
    trained = pretend(edges, interrupt_after=22)
    with pytest.raises(KeyboardInterrupt):
        run(*FEW)
    assert len(trained) == 22
    further = pretend(edges)
    result = run(*FEW)
    assert max(gaps(result).values()) <= 1.42
    assert once(trained + further)
    assert len(trained + further) == len(result.outcomes)


def test_the_record_says_which_levels_were_added_and_is_enough_to_compare_again(pretend: Any) -> None:
    pretend(edges)
    result = run(*FEW)
    record = load(Store().study_path("learning_rate", result.study_id))
    added = sorted(set(levels(result)) - set(levels_of_grid(FEW)))
    assert record.added == added
    assert conclude(record, Store()).to_dict() == result.to_dict()
    named = ", ".join(f"{level:g}" for level in added)
    assert any(note.endswith(f"to find the largest that trains: {named}.") for note in result.notes)


def test_more_seeds_may_move_a_boundary_and_every_seed_gets_the_new_levels(pretend: Any) -> None:
    """Six seeds cannot settle it by signs. With the seventh ``after_pool`` trains at the largest rate of the grid."""
    trained, heard = pretend(lambda arm, seed: 5.0 if (arm, seed) == ("after_pool", 6) else edges(arm, seed)), Heard()
    result = run(*COARSE, max_seeds=9, listener=heard)
    assert {o.seed for o in result.outcomes} == set(range(8))  # settled
    assert {4.096, 16.384} <= set(levels(result))
    assert max(gaps(result).values()) <= 1.42
    cells = Counter((o.arm, o.levels["optim.lr"]) for o in result.outcomes)
    assert set(cells.values()) == {8}
    assert once(trained)
    assert len(trained) == len(result.outcomes)


def test_added_levels_are_no_other_question_and_no_other_study(pretend: Any) -> None:
    fixed = expand_study(["study=learning_rate", *COARSE])
    grown = fixed.with_levels([0.011])
    assert (grown.question_id, grown.study_id) == (fixed.question_id, fixed.study_id)
    assert {spec.config.study.id for spec in grown.specs} == {fixed.study_id}
    never = expand_study(["study=learning_rate", *COARSE, "study.refine.ratio=null"])
    assert never.question_id == fixed.question_id
    assert never.study_id != fixed.study_id
    other = expand_study(["study=learning_rate", *COARSE, "study.refine.ratio=null", "study.refine.extensions=9"])
    assert other.study_id == never.study_id
    pretend(edges)
    result = run(*COARSE)
    (question,) = (Path(os.environ["BNEXP_RUNS_DIR"]) / "learning_rate").glob("question-*.json")
    assert [look["study_id"] for look in json.loads(question.read_text())["looks"]] == [result.study_id]


def test_the_sweeper_adds_the_same_levels(pretend: Any) -> None:
    trained = pretend(edges)
    specs = launch(["study=learning_rate", "study.seeds=2", *COARSE], multirun=True)
    assert once(trained)
    assert {spec.run_id for spec in specs} == {spec.run_id for spec in trained}
    further = pretend(edges)
    result = run("study.seeds=2", *COARSE)
    assert further == []
    assert {o.run_id for o in result.outcomes} == {spec.run_id for spec in specs}


def test_added_levels_are_tuned_like_the_others(pretend: Any) -> None:
    """Every gain trains at rates up to 0.03, so that the grid of gains grows."""
    tuned = ["study.tune.grid=[0.01,0.02,0.04]", "study.tune.seeds=[7]", "study.seeds=1", "model.init.gain=1,2,4"]
    trained = pretend(lambda arm, seed: 0.03)
    result = bnexp.run_study("initialization", [*RATES, *tuned, "study.refine.extensions=1"], report=False)
    gains = {o.levels["model.init.gain"] for o in result.outcomes}
    assert gains == {1, 2, 4, 8}
    assert "gain=8" in {o.level for o in result.outcomes}
    searched = {(s.arm, s.levels["model.init.gain"]) for s in trained if s.seed == 7}
    assert searched == {(arm, gain) for arm in ("none", "batch") for gain in gains}
    assert len({s.config.optim.lr for s in trained if s.seed == 0}) == 1  # the smallest that was tried


def test_levels_stay_within_what_the_key_allows() -> None:
    refined = ["study.analysis=sensitivity", "study.refine.ratio=1.42", "train.batch_size=16,64"]
    sizes = expand_study(["study=batchnorm", "data=digits", "study.seeds=1", *refined])
    assert {config.train.batch_size for config in sizes.with_levels([32.0]).configs} == {16, 32, 64}
    assert continued("optim.momentum", [0.6, 0.9], 4) == []  # 1.35 is no momentum
    assert continued("optim.lr", [0.1, 0.3], 2) == pytest.approx([0.9, 2.7])
    assert continued("train.batch_size", [2, 3], 2) == []  # no batch has 4.5 images
    assert middle("train.batch_size", 16, 64, 1.42) == 32
    assert middle("train.batch_size", 2, 3, 1.42) is None
    assert middle("optim.lr", 0.1, 0.141, 1.42) is None


def test_a_plan_says_how_much_may_be_added() -> None:
    plan = expand_study(["study=learning_rate", "data=digits"])
    # one level within each of ten octaves, four further octaves, and one within each of those
    assert plan_notes(plan) == [
        "learning_rate: levels of optim.lr are added until the largest that trains is known to within a factor of 1.42: "
        "about 2, if the seeds of an arm agree, and at most 18, each with 12 runs."
    ]
    (before,) = plan_notes(plan.with_levels([0.011, 0.023]))
    assert before == "learning_rate: 2 levels of optim.lr added before, to find the largest that trains; more may follow."
    assert plan_notes(expand_study(["study=learning_rate", "data=digits", "study.refine.ratio=null"])) == []
