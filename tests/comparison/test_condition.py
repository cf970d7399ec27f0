"""Conditions on runs: what they may say, and what is said of one that does not fit."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from bnexp.comparison.condition import FUNCTIONS, matching
from bnexp.config.schema import ConfigError

RUNS = pl.DataFrame(
    {
        "run": ["a", "b", "c"],
        "seed": [0, 1, None],
        "seconds": [10.0, 20.0, 30.0],
        "norm.kind": ["none", "batch", "batch"],
        "norm.affine": [None, True, False],
        "optim.lr": [0.01, 0.1, 0.2],
        "test/accuracy": [0.5, 0.8, 0.9],
        "val loss": [1.0, 2.0, 3.0],
        "select": [1, 2, 3],
    }
)


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("optim.lr > 0.1 and norm.kind = 'batch'", "c"),
        ('"optim.lr" > 0.1 OR "norm.kind" == \'none\'', "ac"),
        ("test/accuracy > 0.6", "bc"),
        ("test/accuracy>6e-1 AND NOT(optim.lr >= .2)", "b"),
        ("seconds/200 < optim.lr", "c"),
        ("seed in (0, 1)", "ab"),
        ("seed is null", "c"),
        ("norm.affine", "b"),
        ("norm.affine = false", "c"),
        ("norm.kind like 'b%' and run <> 'b'", "c"),
        ("test/accuracy = max(test/accuracy)", "c"),
        ("starts_with(norm.kind, 'no')", "a"),
        ("seconds between 15 and 25", "b"),
        ("norm.kind = 'it''s'", ""),
        ('"val loss" = 2', "b"),
        ("select = 2", "b"),
        ("case when seed = 0 then false else true end", "bc"),
    ],
)
def test_a_condition_chooses_rows(condition: str, found: str) -> None:
    assert "".join(matching(RUNS, condition)["run"]) == found


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("optim.lrr > 1", "names optim.lrr, which is not a column of these runs. Did you mean optim.lr?"),
        ("test/acuracy > 1", "names test/acuracy, which is not a column of these runs. Did you mean test/accuracy?"),
        ("norm.kind = batch", "names batch, which is not a column of these runs. If it is text, write 'batch'."),
        ('norm.kind = "batch"', "names batch, which is not a column of these runs. If it is text, write 'batch'."),
        ("norm.kind > 3", "does not fit its columns: norm.kind is text, like 'none'. Compare numbers with numbers"),
        ("seed = '0'", "does not fit its columns: seed is a number, like 0."),
        ("optim.lr", "does not fit its columns: optim.lr is a number, like 0.01."),
        ("optim.lr >", "cannot be read; write it like: optim.lr > 0.1 and norm.kind = 'batch'."),
        ("", "cannot be read"),
        ("1 = 1", "names no column, so it is the same for every run."),
        ("seed = 0 && seed = 1", "has a '&&' that cannot stand there. Write and."),
        ("seed = 0 | seed = 1", "has a '|' that cannot stand there. Write or."),
        ("seed in [0]", "has a '[' that cannot stand there. Write (0, 1)."),
        ("seed = 0; drop", "has a ';' that cannot stand there."),
        ("run = 'a", 'has a "\'" that cannot stand there.'),
        ("lpad(run, 1000000000, 'x') = 'a'", "uses lpad(), which is not among the functions that it may use: abs, "),
        ("seed = 0 and (" + "(" * 200, "the condition is too long: at most 2,000 characters and 100 brackets are read."),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(condition: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        matching(RUNS, condition)
    assert said in str(raised.value)
    assert repr(condition) in str(raised.value) or "too long" in said
    assert "\n" not in str(raised.value)


CALLS = {  # of each function, true of the run c alone
    "abs": "abs(-seconds) > 20",
    "ceil": "ceil(optim.lr * 4) = 1 and optim.lr > 0.1",
    "exp": "exp(optim.lr) > 1.2",
    "floor": "floor(seconds / 30) = 1",
    "ln": "ln(seconds) > 3.1",
    "log10": "log10(seconds) > 1.4",
    "log2": "log2(seconds) > 4.5",
    "pow": "pow(seconds, 2) = 900",
    "round": "round(test/accuracy * 10, 0) = 9",
    "sign": "sign(seconds - 20) = 1",
    "sqrt": "sqrt(seconds) > 5",
    "ends_with": "ends_with(run, 'c')",
    "length": "length(run) = 1 and seed is null",
    "lower": "lower(upper(run)) = 'c'",
    "starts_with": "starts_with(run, 'c')",
    "upper": "upper(run) = 'C'",
    "coalesce": "coalesce(seed, 7) = 7",
    "greatest": "greatest(seconds, 25) = 30",
    "least": "least(seconds, 25) = 25",
    "nullif": "nullif(run, 'c') is null",
    "avg": "seconds > avg(seconds)",
    "count": "count(seed) = 2 and seed is null",
    "max": "seconds = max(seconds)",
    "median": "seconds > median(seconds)",
    "min": "-seconds = min(-seconds)",
    "stddev": "seconds > 2.5 * stddev(seconds)",
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_that_is_named_works(name: str) -> None:
    assert list(matching(RUNS, CALLS[name])["run"]) == ["c"]


@pytest.mark.parametrize(
    "query",
    ["seed in (select a from read_csv('{}'))", "seed in (from read_csv('{}'))", "exists (select 1 from read_csv('{}'))"],
)
def test_no_condition_reads_a_file(tmp_path: Path, query: str) -> None:
    path = tmp_path / "secret.csv"
    path.write_text("a\n0\n")
    with pytest.raises(ConfigError):
        matching(RUNS.drop("select"), query.format(path))
    with pytest.raises(ConfigError):
        matching(RUNS, query.format(path))


@pytest.mark.parametrize("condition", ["seed = null", "seed != NULL and norm.kind = 'a'", "norm.kind <> null"])
def test_comparing_with_null_is_answered_by_how_to_write_it(condition: str) -> None:
    with pytest.raises(ConfigError, match=r"is true for no run: write is null, or is not null\.$"):
        matching(RUNS, condition)
    assert matching(RUNS, "norm.kind = '= null' or seed is null")["run"].to_list() == ["c"]


@pytest.mark.parametrize(("condition", "meant"), [("norm = 'batch'", "norm.kind"), ("accuracy > 0.5", "test/accuracy")])
def test_the_column_that_people_mean_comes_before_one_that_is_spelt_alike(condition: str, meant: str) -> None:
    alike = RUNS.with_columns(pl.lit(1e-5).alias("norm.eps"), pl.lit(0.5).alias("val/accuracy"))
    with pytest.raises(ConfigError, match=rf"is not a column of these runs\. Did you mean {meant}\?"):
        matching(alike, condition)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (
            "norm.affine != true",
            "1 run is left out: norm.affine is null in it, so the condition is neither true nor false. To keep it, write: "
            "(norm.affine is null or ...)",
        ),
        ("norm.affine != true or norm.affine is null", ""),
        ("norm.kind = 'bacth'", "The condition is true for none of 3 runs. Values that there are: norm.kind: batch, none."),
        ("seed > 5", "The condition is true for none of 3 runs. Values that there are: seed: 0, 1, null."),
        (
            "optim.lr > 5 and run = 'a'",
            "The condition is true for none of 3 runs. Values that there are: optim.lr: 0.01, 0.1, 0.2; run: a, b, c.",
        ),
    ],
)
def test_what_a_condition_leaves_out_is_said(condition: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    matching(RUNS, condition)
    assert caplog.messages == ([said] if said else [])


def test_values_of_which_there_are_many_are_not_all_named(caplog: pytest.LogCaptureFixture) -> None:
    runs = pl.DataFrame({"rate": [n / 10 for n in range(50)], "name": [f"{n:02}" + 100 * "x" for n in range(50)]})
    matching(runs, "rate > 9 and name = 'a'")
    said = caplog.messages[0]
    assert "rate: 0 to 4.9; name: 00xx" in said
    assert ", 44 more." in said
    assert len(said) < 400
