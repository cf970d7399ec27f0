"""``bnexp compare`` as a user meets it: tables, formats with stable columns, studies side by side, plots, empty states."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import bnexp
from bnexp.cli.plotted import Bar, plotted
from bnexp.comparison.compared import GROUP_COLUMNS, PAIR_COLUMNS
from bnexp.comparison.conclude import conclude
from bnexp.comparison.questions import Question
from bnexp.comparison.record import StudyRecord
from bnexp.comparison.result import PlannedRun
from bnexp.comparison.side_by_side import ARM_COLUMNS, STUDY_COLUMNS
from bnexp.config.options import DataName, Direction
from bnexp.config.schema import DataConfig, StudyConfig
from bnexp.tracking.store import Store
from tests.cli.conftest import Cli

BASE = (0.900, 0.905, 0.898, 0.902, 0.907, 0.901)
GAIN = (0.020, 0.025, 0.018, 0.022, 0.021, 0.024)


def record(study: str, arm: str, seed: int, value: float, course: tuple[float, ...] = (), **config: Any) -> str:
    """A finished run. ``course``: its training accuracy by epoch."""
    run_id = f"{study}-{arm}-{seed}"
    path = Path("runs") / study / run_id
    path.mkdir(parents=True)
    summary = {"run_id": run_id, "study": study, "data": "digits", "arm": arm, "levels": {}, "seed": seed}
    summary |= {"status": "finished", "metrics": {"test/accuracy": value, "val/loss": 1 - value}, "seconds": 1.5}
    if course:
        summary["metrics"] |= {"train/accuracy": course[-1]}
        lines = [{"epoch": n, "step": 10 * n, "train/accuracy": part} for n, part in enumerate(course, 1)]
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary |= {"finished_at": "2026-01-01T00:00:00+0000", "class_names": ["a", "b"], "num_test": 400}
    (path / "summary.json").write_text(json.dumps(summary))
    settings = {
        "data": {"name": "digits", "margin": 1.0},
        "norm": {"kind": arm},
        **config,
        "seed": seed,
        "study": {"name": study},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(settings))
    return run_id


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six seeds of none and batch, which is about 2 pp better."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNEXP_RUNS_DIR", "runs")
    for seed, (base, gain) in enumerate(zip(BASE, GAIN, strict=True)):
        record("train", "none", seed, base)
        record("train", "batch", seed, base + gain)


@pytest.mark.usefixtures("runs")
def test_the_table_says_what_was_compared_and_how(cli: Cli) -> None:
    result = cli("compare")
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[1].startswith(
        "Yes: batch is 2.17 pp [1.90, 2.44] more accurate than none on digits (n = 6 paired seeds, paired t"
    )
    assert "test/accuracy: more is better" in lines
    (row,) = [line for line in lines if line.startswith("batch  none")]
    assert row.split() == ["batch", "none", "6", "+2.17", "pp", "[1.90,", "2.44]", "<", ".001", "6", "SUPPORTED"]
    assert "- These runs were chosen for comparison after they had trained: read the verdicts as exploratory." in lines
    assert "- Compares norm.kind; runs are paired by seed." in lines


@pytest.mark.usefixtures("runs")
def test_columns_for_programs_are_stable(cli: Cli) -> None:
    found = json.loads(cli("compare", "--json", "--metric", "val/loss", "--margin", "0.1").out)
    assert list(found) == [
        "question", "answer", "verdict", "exploratory", "metric", "unit", "better", "margin", "grouped_by", "kept_apart",
        "paired", "settings", "groups", "comparisons", "notes", "damaged",
    ]  # fmt: skip
    assert (found["better"], found["margin"], found["grouped_by"], found["paired"]) == ("less", 0.1, ["norm.kind"], True)
    assert [list(row) for row in found["groups"]] == [list(GROUP_COLUMNS)] * 2
    assert list(found["comparisons"][0]) == list(PAIR_COLUMNS)
    (row,) = csv.DictReader(io.StringIO(cli("compare", "--csv").out))
    assert list(row) == [
        "arm", "baseline", "level", "metric", "unit", "n_arm", "n_baseline", "paired", "why_unpaired", "difference", "low",
        "high", "low90", "high90", "test", "p", "p_adjusted", "p_equivalence_adjusted", "margin", "effect_size", "superiority",
        "n_needed", "verdict", "reason",
    ]  # fmt: skip
    assert (row["n_arm"], row["paired"], row["test"], row["unit"]) == ("6", "True", "paired t", "pp")
    assert float(row["difference"]) == pytest.approx(100 * sum(GAIN) / 6)
    assert GROUP_COLUMNS == (
        "arm", "level", "metric", "unit", "n", "mean", "low", "high", "sd", "diverged", "stuck", "missing",
    )  # fmt: skip


@pytest.mark.usefixtures("runs")
def test_a_table_for_a_paper_has_intervals_and_says_what_was_tested(cli: Cli) -> None:
    text = cli("compare", "--latex").out
    assert r"batch & 92.38 & none & 90.22 & 6 & 2.17 & [1.90, 2.44] & \textless{} .001 & supported \\" in text
    assert r"over paired seeds, with 95 \% intervals; n counts pairs. p: paired t test with no correction, a single" in text
    assert r"Equivalent: within $\pm$1.00 pp by TOST. Exploratory: the runs were chosen after they had trained.}" in text


@pytest.mark.usefixtures("runs")
def test_runs_without_a_common_seed_are_marked_as_unpaired_everywhere(cli: Cli) -> None:
    for seed in range(6):
        record("train", "group", 10 + seed, 0.91 + 0.001 * seed)
    out = cli("compare", "--baseline", "none").out
    (row,) = [line for line in out.splitlines() if line.startswith("group  none")]
    assert "6/6" in row
    assert "Welch, unpaired" in row
    assert "but not in 1 of 2 comparisons (they share no seed), where groups are compared by Welch's t test." in out
    found = json.loads(cli("compare", "--baseline", "none", "--json").out)
    assert [(c["arm"], c["paired"], c["why_unpaired"]) for c in found["comparisons"]] == [
        ("batch", True, ""),
        ("group", False, "they share no seed"),
    ]
    assert (found["paired"], found["comparisons"][1]["reason"][:8]) == (False, "+1.03 pp")


@pytest.mark.usefixtures("runs")
def test_runs_that_never_trained_are_counted_and_the_margin_is_asked_for(cli: Cli) -> None:
    for seed in range(6):
        record("train", "layer", seed, 0.5, course=(0.5, 0.51 if seed else 0.99), train={"batch_size": 10, "epochs": 2})
    out = cli("compare", "--baseline", "none", "--where", "norm.kind != 'batch'").out
    assert "layer: seeds 1, 2, 3, 4, 5 never trained: training accuracy stays at what guessing gives; kept." in out
    (row,) = [line for line in out.splitlines() if line.startswith("layer  6")]
    assert row.split()[-1] == "5"
    loss = cli("compare", "--baseline", "none", "--metric", "val/loss").out
    assert "- No margin is set for val/loss, so equivalence is not tested; give one with --margin (nats)." in loss


@pytest.mark.usefixtures("runs")
def test_intervals_are_drawn_below_the_tables(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    lines = cli("compare", "--plot").out.splitlines()
    at = lines.index("Difference in pp: mean and 95 % interval")
    assert lines[at + 1].startswith("batch − none  +2.17  │")
    assert "├" in lines[at + 1]
    assert max(map(len, lines[at:])) <= 80


def test_a_plot_fits_its_width_and_shows_zero_and_the_margin() -> None:
    bars = [Bar("a" * 50, 2.0, 1.0, 3.0, "+2.00"), Bar("b", -1.0, float("nan"), float("nan"), "−1.00")]
    first, second, axis = plotted(bars, 80, zero=True, margin=0.5)
    assert max(map(len, (first, second, axis))) <= 80
    start = len(axis) - len(axis.lstrip())
    scale = (len(axis) - start - 1) / 4  # characters of a unit; the axis goes from -1 to 3
    zero = start + round(scale)
    assert (second[start], second[zero], axis[zero]) == ("●", "│", "0")
    assert second[start + round(1.5 * scale)] == "┊"
    assert (first[start + round(2 * scale)], first[start + round(3 * scale)], first[-1]) == ("├", "●", "┤")
    assert first.startswith("a" * 31 + "…  +2.00")
    assert all(line.isascii() for line in plotted(bars[:1], 80, ascii_only=True))
    assert plotted([Bar("a", float("nan"), 0.0, 0.0, "–")], 80) == []


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--where", "seed > 50"], "Error: no recorded run fits --where; see what there is with: bnexp runs\n"),
        (["--where", "norm.kind = 'none'"], "Error: nothing differs between the settings of these 6 runs but the seed: choose"),
        (["--group-by", "data.name"], "Error: the runs have 1 value of data.name, and comparing takes two; choose other runs"),
        (["--group-by", "norm.kid"], "Error: norm.kid is not a column of these runs. Did you mean norm.kind?\n"),
        (["--metric", "val/los"], "Error: val/los is not a column of these runs. Did you mean val/loss?\n"),
        (["--group-by", "norm"], "Error: norm is not a column of these runs. Did you mean norm.kind?\n"),
        (["--metric", "accuracy"], "Error: accuracy is not a column of these runs. Did you mean test/accuracy?\n"),
        (["--margin", "0"], "Error: margin=0.0 is out of range: allowed is a number above 0.\n"),
        (["--json", "--csv"], "Error: --json and --csv exclude each other; give one.\n"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(cli: Cli, arguments: list[str], sentence: str) -> None:
    result = cli("compare", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(sentence)


def test_without_runs_it_says_how_to_make_some(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(tmp_path))
    result = cli("compare")
    assert result.code == 2
    assert result.err == f"Error: no runs are recorded in {tmp_path}; start with: bnexp study batchnorm data=digits\n"


def study(name: str, arms: list[str], **keys: Any) -> StudyRecord:
    """A recorded study over the six seeds of runs of these arms, wherever they are recorded."""
    store = Store()
    planned = [PlannedRun(run.run_id, run.summary.arm, {}, run.summary.seed) for run in store.runs() if run.summary.arm in arms]
    made = StudyConfig(name=name, question=f"Does {name} help?", arms={arm: [] for arm in arms}, baseline=arms[0], **keys)
    record = StudyRecord(
        folder=store.study_path(name, f"{name[0]}1"),
        study=made,
        study_id=f"{name[0]}1",
        overrides=[],
        data=DataConfig(name=DataName.digits),
        settings={"data.name": "digits", "optim.lr": "0.1" if name == "blog" else "0.2"},
        runs=[run for run in planned if run.seed < 10],
    )
    record.save()
    return record


@pytest.fixture
def studies(runs: None) -> None:
    for seed, base in enumerate(BASE):
        record("train", "layer", seed, base - 0.02 - 0.001 * seed)
    first = study("blog", ["none", "batch"], direction=Direction.greater)
    first.save_verdict(conclude(first, Store()))
    second = study("kinds", ["none", "layer"], direction=Direction.greater)
    second.save_verdict(conclude(second, Store()))


@pytest.mark.usefixtures("studies")
def test_studies_stand_side_by_side_with_their_own_verdicts(cli: Cli) -> None:
    out = cli("compare", "blog", "kinds-k1").out
    lines = [line.rstrip() for line in out.splitlines()]
    assert "blog: Does blog help?" in lines
    assert any(line.startswith("No: layer is 2.25 pp") for line in lines)
    rows = {line.split()[0]: line.split()[1] for line in lines if line.startswith(("blog  ", "kinds  "))}
    assert rows == {"blog": "SUPPORTED", "kinds": "REFUTED"}
    words = [" ".join(line.split()) for line in lines]
    assert "blog SUPPORTED batch against none: +2.17 pp [1.90, 2.44] 6 optim.lr=0.1" in words
    assert lines[lines.index("Arms in common") + 2].split() == ["none", "blog", "6", "90.22", "%", "[89.87,", "90.56]", "6"]
    assert "- The studies differ in optim.lr: their effects were not measured under equal settings." in lines


@pytest.mark.usefixtures("studies")
def test_columns_of_studies_are_stable_and_the_verdict_is_the_recorded_one(cli: Cli) -> None:
    verdict = Path("runs/kinds/study-k1/verdict.json")
    verdict.write_text(verdict.read_text().replace("No: layer", "As concluded: layer"))
    found = json.loads(cli("compare", "blog", "kinds", "--json").out)
    assert [list(row) for row in found["studies"]] == [list(STUDY_COLUMNS)] * 2
    assert [list(row) for row in found["common_arms"]] == [list(ARM_COLUMNS)] * 2
    assert found["studies"][1]["answer"].startswith("As concluded: layer is 2.25 pp")
    assert STUDY_COLUMNS == (
        "study", "study_id", "question", "verdict", "answer", "arm", "baseline", "level", "measure", "unit", "n", "difference",
        "low", "high", "p", "deciding", "data", "settings", "concluded",
    )  # fmt: skip
    assert ARM_COLUMNS == (
        "arm", "level", "metric", "unit", "study", "study_id", "n", "mean", "low", "high", "sd", "shared_runs",
    )  # fmt: skip
    verdict.write_text("{}")  # of another version
    again = json.loads(cli("compare", "blog", "kinds", "--json").out)
    assert again["studies"][1]["answer"].startswith("No: layer is 2.25 pp")
    verdict.unlink()
    table = cli("compare", "blog", "kinds").out
    assert "- kinds: not concluded yet; shown is what the records say so far." in table
    assert not verdict.exists()  # to look is not to conclude


@pytest.mark.usefixtures("studies")
def test_a_single_study_has_its_own_arms_and_baseline(cli: Cli) -> None:
    for seed in (1000, 1001):  # it tuned with them
        record("blog", "batch", seed, 0.5)
    result = cli("compare", "blog", "--json")
    found = json.loads(result.out)
    assert [(c["arm"], c["baseline"], c["n_arm"]) for c in found["comparisons"]] == [("batch", "none", 6)]
    assert found["grouped_by"] == ["arm"]
    told = "blog is SUPPORTED, by the comparisons that were to decide it before it ran (bnexp report blog-b1)"
    assert told in result.err  # by its id: another study of this name may be newer


@pytest.mark.usefixtures("studies")
def test_beside_the_comparison_of_its_runs_stands_what_a_study_found_itself(cli: Cli) -> None:
    """It claims that layer is better: no. Compared without that claim, the arms do differ: yes."""
    result = cli("compare", "kinds")
    assert "The verdict of kinds is REFUTED" in result.err
    assert "No: layer is 2.25 pp" in result.err
    assert "Below, its runs are compared once more, without what it claims." in result.err
    assert result.out.splitlines()[1].startswith("Yes: layer is 2.25 pp")
    assert "Below, 10 of its 12 runs are compared" in cli("compare", "kinds", "--where", "seed < 5").err
    assert "The verdict of" not in cli("compare", "kinds", "--metric", "test/acuracy").err  # an error is one sentence


@pytest.mark.usefixtures("runs")
def test_a_study_keeps_the_margin_that_it_set_itself(cli: Cli) -> None:
    made = study("wide", ["none", "batch"], direction=Direction.greater, margin=5.0)
    made.save_verdict(conclude(made, Store()))
    assert json.loads(cli("compare", "wide", "--json").out)["margin"] == 5.0
    assert json.loads(cli("compare", "wide", "--margin", "3", "--json").out)["margin"] == 3.0


@pytest.mark.usefixtures("studies")
def test_studies_with_options_or_runs_are_compared_as_runs(cli: Cli) -> None:
    result = cli("compare", "blog", "kinds", "--baseline", "none", "--json")
    assert result.err.startswith("The runs of blog, kinds are compared by their settings, with --baseline. Name only studies,")
    assert [c["arm"] for c in json.loads(result.out)["comparisons"]] == ["batch", "layer"]
    mixed = cli("compare", "blog", "train-layer-0", "--json")
    assert "are compared by their settings, because runs are named besides." in mixed.err


@pytest.mark.usefixtures("studies")
def test_studies_in_python(cli: Cli) -> None:
    found = bnexp.compare_studies(["blog", "kinds"])
    assert [row["verdict"] for row in found.rows()] == ["SUPPORTED", "REFUTED"]
    assert found.differing == ["optim.lr"]
    with pytest.raises(bnexp.ConfigError, match=r"^blok is not a recorded study in runs: there are blog, kinds. Did you"):
        bnexp.compare_studies(["blok"])
    with pytest.raises(bnexp.ConfigError, match=r"^names is one text"):
        bnexp.compare_studies("blog")


@pytest.mark.usefixtures("runs")
def test_damaged_records_are_counted_in_json_and_named_beside_every_other_format(
    cli: Cli, caplog: pytest.LogCaptureFixture
) -> None:
    (Path("runs") / "train" / record("train", "batch", 6, 0.9) / "summary.json").write_text("{")
    found = cli("compare", "--json")
    assert json.loads(found.out)["damaged"] == 1
    for format in ("--csv", "--md", "--latex"):
        caplog.clear()
        assert cli("compare", format).code == 0
        assert ["train-batch-6/summary.json is damaged" in line for line in caplog.messages] == [True]


def test_many_arms_are_told_in_a_screen(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNEXP_RUNS_DIR", "runs")
    for number in range(30):
        record("train", "none", number, 0.5 + number / 100, optim={"lr": number / 10}, model={"name": f"net{number % 8}"})
    result = cli("compare", "--group-by", "optim.lr,model.name")
    assert "Not tested: 30 arms make 435 pairs" in result.out
    rows = [line.split() for line in result.out.splitlines()]
    assert ["optim.lr", "30", "0", "to", "2.9"] in rows
    assert ["model.name", "8", *(f"net{k}," for k in range(6)), "2", "more"] in rows
    assert len(rows) < 10
    assert len(json.loads(cli("compare", "--group-by", "optim.lr,model.name", "--json").out)["groups"]) == 30
    against = cli("compare", "--group-by", "optim.lr", "--baseline", "0.3").out
    assert "The first 20 of 30 arms (--json has all):" in against
    assert "The 20 of 29 comparisons with the smallest p (--json and --csv have all):" in against
    assert len(cli("compare", "--group-by", "optim.lr", "--baseline", "0.3", "--csv").out.splitlines()) == 30


@pytest.mark.usefixtures("runs")
def test_a_study_whose_runs_are_gone_says_so_and_how_they_come_back(cli: Cli) -> None:
    whole = replace(study("blog", ["none", "batch"], direction=Direction.greater), question_id="q")
    whole.save()
    whole.save_verdict(conclude(whole, Store()))
    shutil.rmtree(Path("runs") / "train" / "train-batch-5")
    for _ in range(2):  # showing it changes nothing of what is known of it
        found = json.loads(cli("report", "blog", "--json").out)
        assert found["verdict"] == "ESTIMATE"
        assert "Its verdict was SUPPORTED with 6 seeds, of which runs are gone since, so a test" in found["answer"]
        assert found["remedy"] == {"text": "Some of its runs are gone: this trains them again.", "command": "bnexp study blog"}
    assert "Its verdict was SUPPORTED with 6 seeds" in cli("compare", "blog").err
    record("train", "batch", 5, BASE[5] + GAIN[5])
    assert json.loads(cli("report", "blog", "--json").out)["answer"].startswith("Yes")


def test_runs_that_are_gone_do_not_undo_a_conclusion_with_more_seeds() -> None:
    question = Question().concluded("a", 10, "SUPPORTED", range(10)).concluded("a", 7, "INCONCLUSIVE", range(10))
    assert [(look.num_seeds, look.verdict) for look in question.looks] == [(10, "SUPPORTED")]
    assert [look.num_seeds for look in question.concluded("a", 12, "SUPPORTED", range(12)).looks] == [12]
