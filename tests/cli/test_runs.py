"""``bnexp runs``, ``show`` and ``diff``: what they say of recorded runs."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console
from scipy import stats

from bnexp.cli.latex import latex_table, latex_text
from bnexp.cli.output import Format, print_rows
from tests.cli.conftest import Cli
from tests.comparison.made_records import record, study_record


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two norms at two rates with two seeds each."""
    root = tmp_path / "runs"
    for arm in ("none", "batch"):
        for rate in (0.1, 0.2):
            for seed in (0, 1):
                accuracy = 0.9 + 0.01 * seed + 0.02 * (arm == "batch")
                metrics = {"test/accuracy": accuracy, "test/loss": 1 - accuracy}
                record(root, f"{arm}{rate}{seed}", arm=arm, seed=seed, optim__lr=rate, metrics=metrics)
    return root


def narrow(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    for module in ("output", "runs", "show", "diff"):
        monkeypatch.setattr(f"bnexp.cli.{module}.stdout", lambda: Console(width=width, highlight=False))


@pytest.mark.usefixtures("runs")
def test_runs_are_told_apart_by_what_differs_and_what_they_share_is_said_once(cli: Cli) -> None:
    result = cli("runs")
    header, *lines = result.out.splitlines()
    assert header.split()[:5] == ["run", "norm.kind", "optim.lr", "seed", "test/accuracy"]
    assert header.split()[5] == "(%)"
    assert ["none0.10", "none", "0.1", "0", "90.00"] in [line.split()[:5] for line in lines]
    assert len({tuple(line.split()[1:4]) for line in lines}) == len(lines) == 8
    assert "8 runs; all with data.name=mnist model.name=lenet" in result.err
    assert "time" not in header  # all took 1.5 s


def test_a_narrow_terminal_has_fewer_columns_and_whole_cells(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, (arm, batch) in enumerate([("batch", 64), ("none", 128), ("batch_renorm", 256)]):
        keys = {"study": f"a_study_with_a_long_name_{number}", "train__batch_size": batch, "model__depth": number + 2}
        record(tmp_path / "runs", f"0123456789a{number}", arm=arm, seed=number, optim__lr=0.1 * number, seconds=number, **keys)
    for width in (60, 80, 120):
        narrow(monkeypatch, width)
        result = cli("runs")
        header, *lines = result.out.splitlines()
        assert max(map(len, [header, *lines])) <= width
        assert len(lines) == 3
        assert [line.split()[0] for line in lines] == ["0123456789a0", "0123456789a1", "0123456789a2"]
        assert header.count("test/accuracy (%)") == 1
        shown = set(header.split())
        left = {"norm.kind", "optim.lr", "train.batch_size", "model.depth"} - shown
        assert all(name in result.err for name in left)
        assert ("They also differ in" in result.err) == bool(left)
    assert {"a_study_with_a_long_name_2"} <= set(lines[2].split())


def test_a_terminal_lists_no_more_than_one_can_read(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(103):
        ended = f"2026-01-01T00:{number // 60:02}:{number % 60:02}+0000"
        record(
            tmp_path / "runs", f"run{number:03}", seed=number, finished_at=ended, metrics={"test/accuracy": 0.5 + number / 1000}
        )
    assert len(cli("runs").out.splitlines()) == 104  # no terminal
    monkeypatch.setattr("bnexp.cli.runs.stdout", lambda: Console(width=80, force_terminal=True))
    shown = cli("runs")
    first, *_, last = shown.out.splitlines()[1:]
    assert (first[:6], last[:6], len(shown.out.splitlines())) == ("run003", "run102", 101)
    assert "These are the last 100 of 103 runs: --last 103 lists all, --where chooses among them, --csv and" in shown.err
    best = cli("runs", "--sort-by", "-test/accuracy", "--columns", "run")
    assert best.out.splitlines()[1:] == [f"run{number:03}" for number in range(102, 2, -1)]
    assert "These are the first 100 of 103 runs" in best.err
    assert len(cli("runs", "--last", "102").out.splitlines()) == 103
    assert len(json.loads(cli("runs", "--json").out)) == 103


def test_the_options_of_a_norm_layer_do_not_count_for_runs_without_one(cli: Cli, tmp_path: Path) -> None:
    record(tmp_path / "runs", "a", arm="none", norm__placement="after_pool")
    record(tmp_path / "runs", "b", arm="batch", norm__placement="before_activation")
    assert "norm.placement" not in cli("runs").out
    record(tmp_path / "runs", "c", arm="batch", norm__placement="after_activation")
    lines = [line.split() for line in cli("runs").out.splitlines()]
    place = lines[0].index("norm.placement")
    assert {line[place] for line in lines[1:] if line[0] in "bc"} == {"before_activation", "after_activation"}
    assert not any("after_pool" in line for line in lines)


def test_a_run_that_diverged_says_so_in_place_of_its_accuracy(cli: Cli, tmp_path: Path) -> None:
    record(tmp_path / "runs", "a", seed=0)
    record(tmp_path / "runs", "b", seed=1, status="diverged", metrics={"test/accuracy": 0.25})
    result = cli("runs")
    assert result.out.splitlines()[-1].split()[-1] == "diverged"
    assert "2 runs, 1 of them diverged" in result.err


# documented
FACTS = ["run", "study", "arm", "seed", "status", "finished_at", "seconds", "num_classes", "num_test", "path", "source"]


@pytest.mark.usefixtures("runs")
def test_columns_for_programs_are_all_those_that_are_documented(cli: Cli) -> None:
    rows = list(csv.DictReader(io.StringIO(cli("runs", "--csv").out)))
    assert list(rows[0])[: len(FACTS)] == FACTS
    assert {"optim.lr", "norm.kind", "train.batch_size", "data.name", "study.levels", "test/accuracy"} <= set(rows[0])
    assert {row["run"]: row["test/accuracy"] for row in rows}["none0.10"] == "0.9"
    assert json.loads(cli("runs", "--json", "--last", "1").out)[0].keys() == rows[0].keys()
    help = " ".join(cli("runs", "--help").out.replace("│", " ").split())
    assert all(name in help for name in FACTS)


@pytest.mark.usefixtures("runs")
def test_columns_are_chosen_by_name_and_pattern(cli: Cli) -> None:
    result = cli("runs", "none0.1", "--columns", "run,test/*,seed", "--csv")
    assert result.code == 2  # two runs begin so
    assert "fits several recorded runs: none0.10, none0.11" in result.err
    result = cli("runs", "none0.10", "--columns", "run,test/*,seed", "--csv")
    assert result.out.splitlines() == ["run,test/accuracy,test/loss,seed", f"none0.10,0.9,{1 - 0.9},0"]
    assert cli("runs", "none0.10", "--columns", "run,test/*").out.split()[:2] == ["run", "test/accuracy"]
    for asked, meant in (("optim.rl", "optim.lr"), ("time", "seconds"), ("acc", "test/accuracy"), ("norm", "norm.kind")):
        result = cli("runs", "--columns", f"run,{asked}")
        assert (result.code, f"Did you mean {meant}?" in result.err) == (2, True)


@pytest.mark.usefixtures("runs")
def test_groups_have_mean_interval_and_deviation(cli: Cli, tmp_path: Path) -> None:
    record(tmp_path / "runs", "lost", arm="none", status="diverged", metrics={"test/accuracy": None}, optim__lr=0.1)
    rows = json.loads(cli("runs", "--group-by", "norm.kind", "--json").out)
    assert [row["norm.kind"] for row in rows] == ["batch", "none"]
    assert [row["n"] for row in rows] == [4, 5]
    values = [0.9, 0.91, 0.9, 0.91, 0.25]  # chance of four classes for the one that diverged
    low, high = stats.t.interval(0.95, 4, loc=sum(values) / 5, scale=stats.sem(values))
    assert [rows[1][name] for name in ("mean", "low", "high", "sd")] == pytest.approx(
        [sum(values) / 5, low, high, stats.tstd(values)]
    )
    table = cli("runs", "--group-by", "norm.kind,optim.lr")
    assert ["none", "0.1", "3", "1", "68.67"] in [line.split()[:5] for line in table.out.splitlines()]
    assert "Runs that diverged count at chance accuracy: 1." in table.err
    mixed = "Runs of one group also differ in optim.lr: a mean over them mixes these."
    assert (mixed in cli("runs", "--group-by", "norm.kind").err, "also differ" in table.err) == (True, False)
    paper = cli("runs", "--group-by", "norm.kind", "--latex").out
    assert r"\caption{test/accuracy by norm.kind: mean over n runs with Student's 95 \% t interval" in paper
    assert "Runs that diverged count at chance accuracy: 1." in paper
    sorted_by = json.loads(cli("runs", "--group-by", "norm.kind", "--metric", "test/loss", "--sort-by", "-mean", "--json").out)
    assert [(row["norm.kind"], row["n"], row["diverged"]) for row in sorted_by] == [("none", 4, 1), ("batch", 4, 0)]
    wrong = cli("runs", "--group-by", "norm.kind", "--sort-by", "sdd")
    assert (wrong.code, "groups cannot be sorted by 'sdd'" in wrong.err, "Did you mean sd?" in wrong.err) == (2, True, True)
    assert "Did you mean test/loss?" in cli("runs", "--metric", "test/los").err


def test_empty_results_say_what_to_do(cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = cli("runs", "--where", "seed = 5", "--json")
    assert (result.code, json.loads(result.out)) == (0, [])
    assert "No finished run in" in result.err
    monkeypatch.setenv("BNEXP_RUNS_DIR", str(runs / "none here"))
    assert "Start with: bnexp study batchnorm data=digits" in cli("runs").err


def test_latex_escapes_what_it_would_read_as_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert latex_text("50 % of a_b & {c} #1 $2 \\x ~y ^z <w>") == (
        r"50 \% of a\_b \& \{c\} \#1 \$2 \textbackslash{}x \textasciitilde{}y \textasciicircum{}z \textless{}w\textgreater{}"
    )
    assert latex_text('bnexp report --book "α" → 数') == "bnexp report -{}-book {''}$\\alpha${''} $\\rightarrow$ U+6570"
    assert [latex_text(text) for text in ("-0.5", "−0.5", "-", "pre-norm", "0.1 ± 0.2")] == [
        "$-$0.5",
        "$-$0.5",
        "-",
        "pre-norm",
        r"0.1 $\pm$ 0.2",
    ]
    print_rows([{"arm": "a_b", "mean": "-1"}], Format.latex, right=["mean"], caption="Holm's correction at 5 %")
    assert capsys.readouterr().out.splitlines() == [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\caption{Holm's correction at 5 \%}",
        r"\medskip",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"arm & mean \\",
        r"\midrule",
        r"a\_b & $-$1 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    assert "caption" not in latex_table(["a"], [["1"]], [])
    assert r"{}[2, 3] & 1 \\" in latex_table(["a", "b"], [["[2, 3]", "1"]], [])  # else LaTeX takes it for a distance


def metrics_of(path: Path, epochs: int) -> None:
    rows = [
        {"epoch": k, "step": 10 * k, "train/accuracy": k / 100, "val/accuracy": k / 200, "learning_rate": 0.1}
        for k in range(1, epochs + 1)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_show_begins_with_the_result_and_ends_with_the_settings(cli: Cli, tmp_path: Path) -> None:
    path = record(tmp_path / "runs", "abc", arm="batch", seed=3, optim__lr=0.5, norm__placement="before_activation")
    metrics_of(path, 50)
    result = cli("show", "ab")
    lines = result.out.splitlines()
    assert lines[0] == "abc  finished"
    assert lines[1] == "test/accuracy 90.00 %   test/loss 0.2500 nats   time 1.50 s"
    assert lines[2] == "study made   arm batch   seed 3"
    assert lines[4] == str(path)
    title = lines.index("train/accuracy, val/accuracy (%) by epoch")
    assert lines[title + 1].strip().startswith("50 ┤")
    assert lines[title + 1].endswith("train/accuracy")
    table = next(k for k, line in enumerate(lines) if line.split()[:3] == ["epoch", "train/accuracy", "(%)"])
    rows = [line.split() for line in lines[table + 1 : table + 21]]
    assert (rows[0][:3], rows[-1][:3]) == (["1", "1.00", "0.50"], ["50", "50.00", "25.00"])
    assert "20 of 50 epochs" in result.err
    settings = lines[lines.index("Settings that are not the defaults:") + 1 :]
    assert settings == [
        "seed: 3  # default: 0",
        "norm.kind: batch  # default: none",
        "norm.placement: before_activation  # default: after_pool",
        "optim.lr: 0.5  # default: 0.01",
    ]
    whole = cli("show", "ab", "--all").out
    assert "  momentum: 0.9" in whole
    assert json.loads(cli("show", str(path), "--json").out)["summary"]["seed"] == 3


def test_show_without_a_run_takes_the_latest_and_says_how_a_lost_one_ended(cli: Cli, tmp_path: Path) -> None:
    first = record(tmp_path / "runs", "first", status="diverged", diverged_at=7)
    assert cli("show").out.startswith("first  diverged at step 7\n")
    (first / "summary.json").unlink()
    (first / "failure.json").write_text(json.dumps({"error": "the batch does not fit into memory", "traceback": ""}))
    assert cli("show", "first").out.startswith("first  failed\nfailure: the batch does not fit into memory\n")
    (first / "failure.json").unlink()
    assert cli("show", "first").out.startswith("first  not finished\n")
    assert "no finished runs are recorded" in cli("show").err


@pytest.mark.usefixtures("runs")
def test_diff_shows_settings_then_results_that_differ(cli: Cli) -> None:
    lines = [line.split() for line in cli("diff", "none0.10", "batch0.21").out.splitlines()]
    assert lines == [
        ["none0.10", "batch0.21", "difference"],
        ["arm", "none", "batch"],
        ["seed", "0", "1"],
        ["norm.kind", "none", "batch"],
        ["optim.lr", "0.1", "0.2"],
        ["test/accuracy", "90.00", "%", "93.00", "%", "+3.00", "pp"],
        ["test/loss", "0.1000", "nats", "0.0700", "nats", "−0.0300", "nats"],
    ]
    rows = json.loads(cli("diff", "none0.10", "none0.11", "--json").out)
    assert [(row["kind"], row["name"], row["a"], row["b"]) for row in rows] == [
        ("setting", "seed", 0, 1),
        ("result", "test/accuracy", 0.9, 0.91),
        ("result", "test/loss", pytest.approx(0.1), pytest.approx(0.09)),
    ]
    assert rows[1]["difference"] == pytest.approx(0.01)
    everything = cli("diff", "none0.10", "none0.11", "--all").out
    assert "data.name" in everything
    assert "seconds" not in everything  # every table calls it time
    assert ["time", "1.50", "s", "1.50", "s"] in [line.split()[:5] for line in everything.splitlines()]
    assert "do not differ" in cli("diff", "none0.10", "none0.10").err


def test_diff_shows_a_setting_that_is_null_in_one_run(cli: Cli, tmp_path: Path) -> None:
    record(tmp_path / "runs", "a", data__train_size=None)
    record(tmp_path / "runs", "b", data__train_size=100)
    assert cli("diff", "a", "b").out.splitlines()[1].split() == ["data.train_size", "null", "100"]


def test_diff_of_two_studies_shows_their_arms_and_means(cli: Cli, runs: Path) -> None:
    study_record(runs, "one", "11", ["none0.10", "batch0.10", "none0.11", "batch0.11"])
    study_record(runs, "two", "22", ["none0.20", "batch0.20"])
    found = {row["name"]: (row["a"], row["b"]) for row in json.loads(cli("diff", "one", "two-22", "--json").out)}
    assert found["question"] == ("Is one better?", "Is two better?")
    assert found["seeds"] == (2, 1)
    assert found["mean test/accuracy of batch"] == ("92.50 % (n = 2)", "92.00 % (n = 1)")
    assert "arm none" not in found
    assert "arm none" in cli("diff", "one", "two", "--all").out
    assert cli("diff", "one", "none0.10").code == 2


def test_a_narrow_terminal_folds_a_difference_between_words(cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study_record(runs, "one", "11", ["none0.10", "batch0.10"])
    study_record(runs, "another_with_a_long_name", "22", ["none0.20", "batch0.20"])
    console = Console(width=60, force_terminal=True, color_system=None, highlight=False)
    monkeypatch.setattr("bnexp.cli.diff.stdout", lambda: console)
    lines = cli("diff", "one", "another_with_a_long_name").out.splitlines()
    place = next(n for n, line in enumerate(lines) if "Is another_with_a_long_name" in line)
    assert lines[place].endswith("Is another_with_a_long_name")
    assert lines[place + 1].strip() == "better?"
    assert lines[place + 1].index("better?") == lines[place].index("Is another")


def test_show_never_breaks_a_name_that_one_may_copy(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = record(tmp_path / "runs", "abc")
    row = {
        "epoch": 1,
        "step": 9,
        "train/accuracy": 0.5,
        "val/ece": 0.1,
        "learning_rate": 0.1,
        "time/images_per_second": 12345.6,
    }
    (path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    console = Console(stderr=True, width=60, force_terminal=True, color_system=None, highlight=False)
    monkeypatch.setattr("bnexp.cli.output.stderr", lambda: console)
    narrow(monkeypatch, 60)
    lines = cli("show", "abc").err.splitlines()
    assert max(map(len, lines)) <= 60
    assert "time/images_per_second" in " ".join(lines)
    narrow(monkeypatch, 200)
    assert "12,346" in cli("show", "abc").out


def test_runs_that_failed_are_listed_when_asked_for(cli: Cli, tmp_path: Path) -> None:
    for seed in (0, 1):
        path = record(tmp_path / "runs", f"lost{seed}", seed=seed, optim__lr=0.5)
        (path / "summary.json").unlink()
        (path / "failure.json").write_text(json.dumps({"error": "no memory", "traceback": ""}))
    record(tmp_path / "runs", "good")
    assert [line.split() for line in cli("runs", "--status", "failed").out.splitlines()] == [
        ["run", "seed"],
        ["lost0", "0"],
        ["lost1", "1"],
    ]
    assert "bnexp show RUN says how a run failed." in cli("runs", "--status", "failed").err
    (row,) = json.loads(cli("runs", "--json").out)
    assert row["run"] == "good"
    rows = json.loads(cli("runs", "--status", "failed", "--where", "seed = 1", "--json").out)
    assert [(row["run"], row["optim.lr"], row["seconds"]) for row in rows] == [("lost1", 0.5, None)]


def test_a_terminal_says_how_long_ago_and_a_document_when(cli: Cli, tmp_path: Path) -> None:
    for seed in (0, 1):
        record(tmp_path / "runs", f"run{seed}", seed=seed, seconds=seed + 1, finished_at=f"2020-01-0{seed + 1}T00:00:00+0000")
    header, first, _ = cli("runs").out.splitlines()
    assert header.split()[-2:] == ["time", "age"]
    assert first.split()[-4:-1] == ["1.00", "s", str((datetime.now(UTC) - datetime(2020, 1, 1, tzinfo=UTC)).days)]
    rows = [line.split("|")[-3:-1] for line in cli("runs", "--md").out.splitlines()]
    assert [cell.strip() for cell in rows[0]] == ["time", "finished_at"]
    assert rows[2][1].strip() == "2020-01-01T00:00:00+0000"
    chosen = [line.split() for line in cli("runs", "--columns", "run,seconds,finished_at").out.splitlines()]
    assert chosen[:2] == [["run", "seconds", "finished_at"], ["run0", "1.00", "s", "2020-01-01T00:00:00+0000"]]


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """Two runs of another tool: accuracies in per cent, no seed, no time, settings of their own."""
    for number, name in enumerate(("x1", "x2")):
        source = {"tool": "wandb", "path": "a.wandb", "id": name, "tags": ["a"], "name": f"try-{number}"}
        keys = {"arm": "try", "seed": None, "seconds": float("nan"), "finished_at": "", "class_names": [], "num_test": None}
        metrics = {"acc": 90.5 + number, "best epoch": 3}
        path = record(tmp_path / "runs", name, **(keys | {"metrics": metrics, "source": source, "status": "failed"}))
        (path / "config.yaml").write_text(f"lr: {0.1 * (number + 1)}\nlayers: [1, 2]\nstudy: {{name: made}}\n")
        (path / "metrics.jsonl").write_text('{"step": 0, "acc": 10.0}\n{"step": 5, "acc": 90.5}\n')
    return tmp_path / "runs"


@pytest.mark.usefixtures("imported")
def test_imported_runs_are_shown_in_their_own_columns_and_units(cli: Cli, tmp_path: Path) -> None:
    result = cli("runs", "--metric", "acc", "--where", "lr > 0.15")
    assert (result.code, "x2" in result.out) == (0, True)
    listed = cli("runs", "--columns", "run,lr,acc,source.name").out.splitlines()
    assert [line.split() for line in listed] == [
        ["run", "lr", "acc", "source.name"],
        ["x1", "0.1", "90.5", "try-0"],
        ["x2", "0.2", "91.5", "try-1"],
    ]
    assert [line.split() for line in cli("runs", "x1").out.splitlines()] == [["run", "acc"], ["x1", "90.5"]]
    record(tmp_path / "runs", "own", metrics={"acc": 0.5})
    assert ["91.5", "failed"] in [line.split()[-2:] for line in cli("runs", "x1", "x2", "own").out.splitlines()]
    assert [row["n"] for row in json.loads(cli("runs", "x1", "x2", "--group-by", "lr", "--metric", "acc", "--json").out)] == [
        1,
        1,
    ]
    shown = cli("show", "x1").out.splitlines()
    assert shown[:2] == ["x1  failed", "acc 90.5   best epoch 3"]
    assert "acc by step" in shown
    assert ["acc", "90.5", "91.5", "+1"] in [line.split() for line in cli("diff", "x1", "x2").out.splitlines()]
