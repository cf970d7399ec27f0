"""How recorded runs are divided if nobody says it: by what differs, in the shortest names that tell arms apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pytest

import bnexp
from bnexp.comparison.differing import Grouping, deciding_settings, usual_grouping
from bnexp.comparison.frame import EXPLORATORY


def frame(rows: Sequence[Mapping[str, Any]], seeds: int = 6, **shared: Any) -> pl.DataFrame:
    """Each row ``seeds`` times, as ``load_runs`` would give it; ``norm__kind`` stands for ``norm.kind``."""
    found = [
        {"run": f"r{number}-{seed}", "study": "train", "arm": "x", "seed": seed, "status": "finished"}
        | {name.replace("__", "."): value for name, value in (shared | row).items()}
        | {"study.levels": "", "test/accuracy": 0.8 + 0.01 * number + 0.001 * ((seed * (number + 2)) % 5)}
        for number, row in enumerate(rows)
        for seed in range(seeds)
    ]
    return pl.DataFrame(found, infer_schema_length=None)


def grouping(runs: pl.DataFrame) -> Grouping:
    return usual_grouping(runs, deciding_settings(runs))


def arms(runs: pl.DataFrame, **options: Any) -> list[str]:
    return list(dict.fromkeys(summary.arm for summary in bnexp.compare(runs, **options).arms))


def test_a_rate_at_which_every_norm_was_run_is_a_level() -> None:
    runs = frame([{"norm__kind": kind, "optim__lr": lr} for kind in ("batch", "none") for lr in (0.1, 0.01)])
    found = bnexp.compare(runs)
    assert (found.columns, found.by) == (("norm.kind",), ("optim.lr",))
    assert [(c.level, c.arm, c.baseline) for c in found.comparisons] == [
        ("lr=0.01", "batch", "none"),
        ("lr=0.1", "batch", "none"),
    ]
    assert found.notes[1] == "Compares norm.kind at each optim.lr; runs are paired by seed."
    assert found.question == "Do runs that differ in norm.kind differ in test/accuracy at each optim.lr?"


def test_what_norms_are_put_into_is_a_level() -> None:
    runs = frame([{"norm__kind": k, "model__activation": act} for k in ("none", "batch") for act in ("relu", "tanh")])
    assert grouping(runs) == Grouping(("norm.kind",), ("model.activation",))
    together = frame(
        [{"model__activation": "relu", "norm__kind": "none"}, {"model__activation": "tanh", "norm__kind": "batch"}]
    )
    assert grouping(together) == Grouping(("norm.kind",))
    foreign = frame([{"depth": "deep", "use_bn": False}, {"depth": "flat", "use_bn": True}])
    assert arms(foreign) == ["use_bn=false", "use_bn=true"]


def test_a_rate_that_some_norm_lacks_is_a_part_of_the_name() -> None:
    runs = frame([{"norm__kind": "none", "optim__lr": 0.01}, *({"norm__kind": "batch", "optim__lr": lr} for lr in (0.01, 0.1))])
    assert grouping(runs) == Grouping(("norm.kind", "optim.lr"))
    assert arms(runs) == ["norm=none lr=0.01", "norm=batch lr=0.01", "norm=batch lr=0.1"]


def test_what_has_no_effect_is_no_difference_and_in_no_name() -> None:
    """Without a norm its placement means nothing, and a norm is named besides the placement that only it has."""
    rows = [
        {"norm__kind": "none", "norm__placement": "after_pool"},
        {"norm__kind": "none", "norm__placement": "both"},
        {"norm__kind": "batch", "norm__placement": "after_pool"},
        {"norm__kind": "batch", "norm__placement": "both"},
    ]
    assert arms(frame(rows)) == ["norm=none", "norm=batch placement=after_pool", "norm=batch placement=both"]


def test_settings_that_change_together_are_named_by_the_first_and_the_others_are_told() -> None:
    rows = [{"norm__kind": "none", "optim__lr": 0.01}, {"norm__kind": "batch", "optim__lr": 0.1}]
    found = bnexp.compare(frame(rows, data__train_size=200, optim__momentum=0.9, optim__weight_decay=0.0))
    assert found.settings == {"optim.momentum": "0.9", "data.train_size": "200"}  # the others are at their defaults
    assert found.columns == ("norm.kind",)
    assert "Runs that are compared also differ in optim.lr: that may be what made the difference." in found.notes


def test_presentation_keys_and_seeds_are_no_difference() -> None:
    runs = frame([{"train__device": "cpu"}, {"train__device": "cuda"}], norm__kind="none")
    with pytest.raises(
        bnexp.ConfigError, match=r"^nothing differs between the settings of these 12 runs but the seed: choose more"
    ):
        bnexp.compare(runs)
    found = bnexp.compare(runs, arm="train.device")
    assert [summary.arm for summary in found.arms] == ["cpu", "cuda"]


def test_text_that_differs_in_every_run_divides_nothing() -> None:
    runs = frame([{"norm": "bn"}, {"norm": "none"}], seeds=6)
    runs = runs.with_columns(pl.Series("out_dir", [f"out/{n}" for n in range(12)]))
    found = bnexp.compare(runs)
    assert (found.columns, found.comparisons[0].n) == (("norm",), 6)
    assert "out_dir is different in every run, so no group shares it." in found.notes


def test_numbers_alone_make_arms_in_their_order() -> None:
    assert arms(frame([{"optim__lr": lr} for lr in (1.0, 0.1, 10.0)])) == ["lr=0.1", "lr=1.0", "lr=10.0"]


def test_runs_of_one_study_have_its_arms_and_levels() -> None:
    runs = frame([{"norm__kind": kind, "optim__lr": lr} for kind in ("none", "batch") for lr in (0.1, 0.01)])
    named = runs.with_columns(
        pl.lit("rates").alias("study"),
        pl.when(pl.col("norm.kind") == "none").then(pl.lit("plain")).otherwise(pl.lit("normed")).alias("arm"),
        pl.format("rate={}", "optim.lr").alias("study.levels"),
    )
    found = bnexp.compare(named)
    assert [(c.level, c.arm, c.baseline) for c in found.comparisons] == [
        ("rate=0.1", "normed", "plain"),
        ("rate=0.01", "normed", "plain"),
    ]
    assert found.notes[1] == "Compares arms (they differ in norm.kind) at each level; runs are paired by seed."
    mixed = named.with_columns(pl.lit("").alias("study.levels"))  # its levels do not tell the runs apart
    assert bnexp.compare(mixed).columns == ("norm.kind",)


@pytest.mark.parametrize("baseline", ["lr=0.1", "0.1", "0.10", "1e-1"])
def test_a_baseline_may_be_named_by_a_value_that_it_alone_has(baseline: str) -> None:
    found = bnexp.compare(frame([{"optim__lr": lr} for lr in (0.01, 0.1, 1.0)]), baseline=baseline)
    assert [(c.arm, c.baseline) for c in found.comparisons] == [("lr=0.01", "lr=0.1"), ("lr=1.0", "lr=0.1")]


def test_a_baseline_that_is_none_or_several_arms_is_one_sentence() -> None:
    runs = frame([{"norm__kind": k, "optim__lr": lr} for k, lr in (("none", 0.1), ("batch", 0.1), ("batch", 1.0))])
    with pytest.raises(bnexp.ConfigError, match=r"^batch fits several arms: norm=batch lr=0.1, norm=batch lr=1.0; name one"):
        bnexp.compare(runs, baseline="batch")
    with pytest.raises(
        bnexp.ConfigError, match=r"^bacth is not a value of norm.kind and optim.lr: allowed are norm=none lr=0.1,"
    ):
        bnexp.compare(runs, baseline="bacth")


def test_arms_that_mix_settings_are_compared_as_groups_and_say_so() -> None:
    runs = frame([{"norm__kind": kind, "optim__lr": lr} for kind in ("none", "batch") for lr in (0.1, 0.01)])
    found = bnexp.compare(runs, arm="norm.kind")
    (c,) = found.comparisons
    assert (c.sizes, c.unpaired) == ([12, 12], "several runs of batch have seeds 0, 1, 2")
    assert found.notes[1].startswith(
        "Compares norm.kind; runs cannot be paired by seed (several runs of batch have seeds 0, 1, 2"
    )
    assert any(note.startswith("Arms mix runs that differ in optim.lr, which widens the intervals.") for note in found.notes)


def test_copies_of_three_runs_are_left_out_and_give_no_verdict() -> None:
    runs = frame([{"norm__kind": "none"}, {"norm__kind": "batch"}], seeds=3)
    twice = pl.concat([runs, runs.with_columns(("copy-" + pl.col("run")).alias("run"))])
    found = bnexp.compare(twice)
    (c,) = found.comparisons
    assert (c.n, c.unpaired, c.verdict) == (3, "", "ESTIMATE")
    assert "6 runs are copies of others (same seed, settings and results) and are left out." in found.notes


def test_seeds_that_were_trained_twice_are_no_further_seeds() -> None:
    """Six runs of three seeds must not give a verdict: their noise is that of three."""
    rows = [{"norm__kind": kind, "optim__lr": lr} for kind in ("none", "batch") for lr in (0.1, 0.01)]
    found = bnexp.compare(frame(rows, seeds=3), arm="norm.kind")
    (c,) = found.comparisons
    assert (c.sizes, c.n, c.verdict) == ([6, 6], 3, "ESTIMATE")
    assert "(n = 6 and 6 runs of 3 seeds, unpaired, and a verdict needs 6 each)" in found.answer
    assert bnexp.compare(frame(rows, seeds=6), arm="norm.kind").comparisons[0].verdict == "SUPPORTED"


def test_arms_that_differ_answer_the_question_even_if_others_are_equivalent_to_the_baseline() -> None:
    """Nobody claimed that all arms differ, so one that does not is no "No"."""
    runs = frame([{"norm__kind": kind} for kind in ("none", "batch", "layer")])
    same = runs.with_columns(
        pl.when(pl.col("norm.kind") == "layer")
        .then(0.8 + 0.0001 * (pl.col("seed") % 2) + 0.001 * ((pl.col("seed") * 2) % 5))
        .otherwise("test/accuracy")
        .alias("test/accuracy")
    )
    found = bnexp.compare(same, baseline="none", margin=0.5)
    assert [c.verdict for c in found.comparisons] == ["SUPPORTED", "EQUIVALENT"]
    assert found.verdict == "SUPPORTED"
    assert found.answer.startswith("Yes: batch is ")
    assert "of 2 pairs 1 differs and 1 is equivalent" in found.answer


def test_runs_without_a_seed_are_compared_as_groups() -> None:
    runs = frame([{"norm": "bn"}, {"norm": "none"}]).with_columns(pl.lit(None, pl.Int64).alias("seed"))
    found = bnexp.compare(runs, margin=5.0)
    (c,) = found.comparisons
    assert (c.sizes, c.unpaired, c.verdict) == ([6, 6], "no seed is recorded for none", "SUPPORTED")
    assert "more accurate than bn (n = 6 and 6 runs, unpaired, Welch's t test p < .001" in found.answer
    assert found.unpaired == []


def test_too_many_arms_are_estimated_and_not_tested() -> None:
    runs = frame([{"optim__lr": lr / 10} for lr in range(1, 14)], seeds=3)
    found = bnexp.compare(runs)
    assert (found.comparisons, len(found.arms)) == ([], 13)
    assert found.answer.startswith("Not tested: 13 arms make 78 pairs")
    assert found.notes == [EXPLORATORY]
    assert len(bnexp.compare(runs, baseline="0.1").comparisons) == 12


def test_runs_without_the_metric_are_left_out_and_counted() -> None:
    runs = frame([{"norm__kind": "none"}, {"norm__kind": "batch"}]).with_columns(
        pl.when(pl.col("seed") < 5).then(pl.lit(0.5)).alias("val/loss")
    )
    found = bnexp.compare(runs, metric="val/loss")
    assert (found.comparisons[0].n, found.better, found.unit) == (5, "less", "nats")
    assert "2 of 12 runs have not recorded val/loss and are left out." in found.notes
    with pytest.raises(bnexp.ConfigError, match=r"^none of the 2 runs has recorded val/loss; choose another metric"):
        bnexp.compare(runs.filter(pl.col("seed") == 5), metric="val/loss")


def test_imported_runs_have_their_own_metrics_and_units() -> None:
    runs = frame([{"model": "a"}, {"model": "b"}]).rename({"test/accuracy": "acc"})
    runs = runs.with_columns(pl.lit("wandb").alias("source"), pl.lit('["acc"]').alias("source.metrics"))
    found = bnexp.compare(runs.with_columns(pl.col("acc") * 100))  # the only metric there is, of unknown unit
    assert (found.metric, found.unit, found.better) == ("acc", "", "")
    assert found.comparisons[0].difference == pytest.approx(1.0, abs=0.4)
    two = runs.with_columns(pl.lit(1.0).alias("f1"), pl.lit('["acc", "f1"]').alias("source.metrics"))
    assert bnexp.compare(two).metric == "acc"
    none = two.rename({"acc": "recall"}).with_columns(pl.lit('["recall", "f1"]').alias("source.metrics"))
    with pytest.raises(
        bnexp.ConfigError, match=r"^the runs have no test/accuracy; name the metric to compare, one of recall, f1"
    ):
        bnexp.compare(none)


@pytest.mark.parametrize("metric", ["test/accuracy", "valAcc", "top1", "macro precision", "recall", "F1", "roc_auc"])
def test_fractions_against_per_cent_are_told(metric: str) -> None:
    """A table with 0.92 and one with 92.0 would else differ by 91 "SUPPORTED" points without a word."""
    runs = frame([{"norm": "bn"}, {"norm": "none"}]).with_columns(
        pl.lit("csv").alias("source"),
        pl.lit(f'["{metric}"]').alias("source.metrics"),
        pl.when(pl.col("norm") == "bn").then(pl.lit("old")).otherwise(pl.lit("new")).alias("study"),
        pl.col("test/accuracy").alias(metric),
    )
    warning = f"{metric} seems to be a fraction in new and in per cent in old: if so, these runs cannot be compared."
    of_old = pl.when(pl.col("study") == "old").then(100.0).otherwise(1.0)
    mixed = runs.with_columns(pl.col(metric) * of_old)
    assert any(note.startswith(warning) for note in bnexp.compare(mixed, metric=metric).notes)
    for factor in (1.0, 100.0):
        alike = bnexp.compare(runs.with_columns(pl.col(metric) * factor), metric=metric)
        assert not any("per cent" in note for note in alike.notes)


def test_the_seed_is_no_metric() -> None:
    with pytest.raises(bnexp.ConfigError, match=r"^seed is no metric: it is a fact about the run; give a column like test/acc"):
        bnexp.compare(frame([{"norm__kind": "none"}, {"norm__kind": "batch"}]), metric="seed")


def test_pretrained_runs_are_not_mixed_with_runs_from_scratch() -> None:
    rows = [{"norm__kind": kind, "train__init_from": start} for kind in ("none", "batch") for start in (None, "run")]
    start = pl.when(pl.col("train.init_from").is_not_null()).then(pl.format("run-{}", "seed"))
    found = bnexp.compare(frame(rows).with_columns(start.alias("train.init_from")))
    assert "train.init_from" in (*found.columns, *found.by)
    assert all(not c.unpaired for c in found.comparisons)
    pretrained = frame(rows).with_columns(pl.format("run-{}", "seed").alias("train.init_from"))
    assert bnexp.compare(pretrained).columns == ("norm.kind",)


def test_a_column_that_says_what_the_levels_of_a_study_say_is_not_told_twice() -> None:
    runs = frame([{"norm__kind": kind, "optim__lr": lr} for kind in ("none", "batch") for lr in (0.1, 0.01)])
    named = runs.with_columns(
        pl.lit("rates").alias("study"),
        pl.col("norm.kind").alias("arm"),
        pl.format("rate={}", "optim.lr").alias("study.levels"),
    )
    found = bnexp.compare(named, by=["optim.lr"])
    assert [c.level for c in found.comparisons] == ["lr=0.01", "lr=0.1"]
    kept = bnexp.compare(named, by=["seed"], baseline="none")  # a level that says something else stays
    assert {c.level.split(",")[0] for c in kept.comparisons} == {"levels=rate=0.1", "levels=rate=0.01"}


def test_one_equivalent_pair_is_no_answer_while_others_are_open() -> None:
    runs = frame([{"norm__kind": kind, "optim__lr": lr} for kind in ("none", "batch") for lr in (0.1, 0.01)], data__margin=1.0)
    near = pl.col("optim.lr") == 0.1
    noise = pl.when(near).then(0.0002 * (pl.col("seed") % 3)).otherwise(0.03 * (pl.col("seed") % 2) - 0.01)
    value = 0.9 + pl.when(pl.col("norm.kind") == "batch").then(noise).otherwise(0.0)
    found = bnexp.compare(runs.with_columns(value.alias("test/accuracy")), baseline="none")
    assert {c.verdict for c in found.comparisons} == {"EQUIVALENT", "INCONCLUSIVE"}
    assert found.verdict == "INCONCLUSIVE"
    assert found.answer.startswith("Not settled: ")
    assert found.answer.endswith("; of 2 pairs 1 is equivalent and 1 is open.")


def test_a_level_at_which_one_arm_was_not_run_is_not_compared() -> None:
    rows = [{"norm__kind": "none", "optim__lr": 0.1}, *({"norm__kind": "batch", "optim__lr": lr} for lr in (0.1, 0.01))]
    for baseline in ("none", "batch"):
        found = bnexp.compare(frame(rows), arm="norm.kind", by=["optim.lr"], baseline=baseline)
        assert [c.level for c in found.comparisons] == ["lr=0.1"]


def test_a_misspelt_metric_is_answered_by_the_one_that_was_meant() -> None:
    with pytest.raises(bnexp.ConfigError, match=r"^test/acuracy is not a column of these runs\. Did you mean test/accuracy\?"):
        bnexp.compare(frame([{"norm__kind": "none"}, {"norm__kind": "batch"}]), metric="test/acuracy")


def test_what_is_compared_names_the_seeds_that_are_known() -> None:
    assert bnexp.compare(frame([{"norm__kind": "none"}, {"norm__kind": "batch"}])).study["seeds"] == list(range(6))
