"""Comparisons of any recorded runs: what ``bnexp.compare`` does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bnexp.comparison import stats
from bnexp.comparison.analyses import ANALYSES
from bnexp.comparison.answer import answer
from bnexp.comparison.columns import unit_of, unlike_units
from bnexp.comparison.contrast import Contrast
from bnexp.comparison.differing import Grouping, deciding_settings
from bnexp.comparison.dividing import Divided, arm_meant, grouping_of, measured, metric_of, refuse_columns
from bnexp.comparison.looks import FIRST
from bnexp.comparison.notes import notes
from bnexp.comparison.pairing import Results, Scale, listed
from bnexp.comparison.reason import reason
from bnexp.comparison.result import Comparison, StudyResult
from bnexp.comparison.rules import study_verdict
from bnexp.comparison.stats import MIN_PAIRS
from bnexp.comparison.unpaired import matched
from bnexp.comparison.verdict import judge, summaries
from bnexp.config.keys import ALWAYS_NAMED, NAMED_IF_CHANGED, in_args, of_split
from bnexp.config.options import Analysis, Direction
from bnexp.config.schema import ConfigError, RunConfig, StudyConfig, refuse_text
from bnexp.plan.deciding import arm_pairs
from bnexp.plan.spec import flatten, plain

if TYPE_CHECKING:
    import polars as pl

EXPLORATORY = "These runs were chosen for comparison after they had trained: read the verdicts as exploratory."
MOST_ARMS = 12  # that are compared each with each, in 66 pairs; more are only estimated


@dataclass(frozen=True, repr=False)
class RunComparison(StudyResult):
    """What comparing recorded runs found: a ``StudyResult`` of runs that were chosen after they had trained.

    Args:
        columns: the columns whose values make the arms.
        by: the columns whose values are kept apart.
        better: which values of the metric are better, ``more`` or ``less``; empty if that is not known.
    """

    columns: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    better: str = ""


def compare(
    runs: pl.DataFrame,
    *,
    arm: str | Sequence[str] | None = None,
    baseline: str | None = None,
    metric: str | None = None,
    by: Sequence[str] = (),
    margin: float | None = None,
) -> RunComparison:
    """Compare recorded runs, arm against arm, with the statistics of a study.

    Runs are paired by their seed. Arms that share too few seeds, or whose runs have none, are compared by Welch's test as two
    groups; ``Comparison.unpaired`` says so, and why.

    Args:
        runs: rows of :func:`bnexp.load_runs`, filtered as wanted.
        arm: the column or columns in which arms differ, such as ``norm.kind``. None: everything that differs between the runs
            but their seed. What each arm was run with, such as each learning rate, is then kept apart; runs of one study
            have its arms and levels.
        baseline: the arm that the others are compared with, by its name or by a value that only it has; None compares each with
            each, up to 12 arms. More are only estimated.
        metric: the column that is compared; None for ``test/accuracy``, else for the only metric that there is, or the only
            accuracy on test or validation images. A run that diverged counts at chance accuracy.
        by: more columns whose values are kept apart: arms are compared at each combination.
        margin: largest difference that counts as none, above 0, in pp for an accuracy, else in the metric's unit; None for the
            margin that the runs' data set has.

    Returns:
        The comparisons, with Holm's correction over all of them, marked as exploratory in ``notes``, which also name the
        settings besides the arms in which runs differ.

    Raises:
        ConfigError: an argument does not fit, or there are fewer than two arms.

    Example:
        >>> runs = bnexp.load_runs().filter(pl.col("data.name") == "mnist")
        >>> bnexp.compare(runs).answer
        >>> bnexp.compare(runs, arm="norm.kind", baseline="none", by=["optim.lr"]).answer
    """
    named = () if arm is None else (arm,) if isinstance(arm, str) else tuple(arm)
    refuse_text("by", by, str(by))
    refuse_columns(runs, (*named, *by))
    if twice := [name for name in by if name in named]:
        raise ConfigError(
            f"{twice[0]} makes the arms, so it cannot be kept apart too: each arm would stand alone at its value."
        )
    if margin is not None and not 0 < margin < math.inf:
        raise ConfigError(f"margin={margin} is out of range: allowed is a number above 0.")
    metric = metric_of(runs, metric)
    runs, told = measured(runs, metric)
    settings = {name: values for name, values in deciding_settings(runs).items() if name != metric}
    grouping = Grouping(named, tuple(by)) if named else grouping_of(runs, settings, tuple(by))
    divided = Divided.of(runs, grouping, settings, metric)
    return _result(divided, arm_meant(divided, baseline), margin, told)


def better(metric: str) -> str:
    """Which values of a metric are better, ``more`` or ``less``; empty if that is not known."""
    split, _, name = metric.rpartition("/")
    known = of_split(split) if split in ("train", "val", "test") else {}
    return {"min": "less", "max": "more"}.get(known.get(name, ""), "")


def _result(divided: Divided, baseline: str | None, margin: float | None, told: Sequence[str]) -> RunComparison:
    """Test the pairs of arms and say what was found."""
    rows, metric = divided.rows, divided.metric
    named = [*_FIXED, *filter(in_args, rows.columns)]
    fixed = {name: values[0] for name in named if name in rows.columns and len(values := rows[name].unique().to_list()) == 1}
    classes, unit = fixed.get("num_classes"), unit_of(rows, metric)
    results = Results(
        divided.outcomes, metric, 1 / classes if classes else None, divided.arms, metrics={}, scale=Scale.in_unit(unit)
    )
    usual = fixed.get("data.margin") if unit == "pp" else None
    half_width = float(margin if margin is not None else usual or math.nan)
    study = _as_study(divided, baseline, margin)
    contrasts = _contrasts(study, results, half_width, divided)
    method = ANALYSES[Analysis.levels]
    comparisons = [replace(c, reason=reason(c, method.none_trained)) for c in judge(contrasts)]
    settings = {name: text for name, text in map(_named, fixed.items()) if text}
    verdict = study_verdict(comparisons, one_is_enough=True)  # nobody claimed that all of them differ
    paired = [(c.arm, c.baseline, c.level) for c in comparisons if not c.unpaired]
    omnibus = _omnibus(results, comparisons)
    own = notes(study, results, comparisons, fixed.get("num_test")) if comparisons else []
    own = [text.replace("set study.margin", "give one with --margin") for text in own]
    sentence = answer(study, method, comparisons, verdict, settings, FIRST, results) if comparisons else _too_many(divided)
    return RunComparison(
        study=plain(asdict(study)),
        study_id="",
        question=study.question,
        answer=sentence,
        verdict=verdict,
        metric=results.measure,
        unit=results.scale.unit,
        margin=half_width,
        settings=settings,
        arms=summaries(results),
        comparisons=comparisons,
        omnibus_p=None if math.isnan(omnibus) else omnibus,
        outcomes=list(divided.outcomes),
        unpaired=results.problems(paired),
        notes=[EXPLORATORY, *told, *_grouping_notes(divided, comparisons), *own],
        columns=divided.grouping.arms,
        by=divided.grouping.by,
        better=better(metric),
    )


_FIXED = (*ALWAYS_NAMED, *NAMED_IF_CHANGED, "data.margin", "num_classes", "num_test")


def _named(setting: tuple[str, Any]) -> tuple[str, str]:
    """A setting that all runs share, as text; empty if it need not be named beside the verdict."""
    name, value = setting
    changed = in_args(name) or (name in NAMED_IF_CHANGED and value != flatten(RunConfig())[name])
    shown = name in ALWAYS_NAMED or changed
    return name, str(value) if shown and value is not None else ""


def _as_study(divided: Divided, baseline: str | None, margin: float | None) -> StudyConfig:
    return StudyConfig(
        name="comparison",
        question=f"Do runs that differ in {divided.what} differ in {divided.metric}{_at_each(divided.grouping)}?",
        arms={name: [] for name in divided.arms},
        factors={name: list(dict.fromkeys(o.levels[name] for o in divided.outcomes)) for name in divided.grouping.by},
        seeds=sorted({outcome.seed for outcome in divided.outcomes if outcome.seed is not None}),
        metric=divided.metric,
        baseline=baseline,
        direction=Direction.different,
        margin=margin,
    )


def _at_each(grouping: Grouping) -> str:
    """`` at each optim.lr``; empty if nothing is kept apart."""
    names = ["level" if name == "study.levels" else name for name in grouping.by]
    return f" at each {' and '.join(names)}" if names else ""


def _contrasts(study: StudyConfig, results: Results, margin: float, divided: Divided) -> list[Contrast]:
    """What is compared: each pair of arms at each level at which both were run. Nothing if that would be too many pairs."""
    if study.baseline is None and len(results.arms) > MOST_ARMS:
        return []
    return [
        Contrast(
            arm=arm,
            baseline=baseline,
            level=level,
            measure=results.measure,
            unit=results.scale.unit,
            margin=margin,
            pairs=matched(results, arm, baseline, level, divided.unseeded, divided.repeated),
            direction=Direction.different,
        )
        for level in results.levels
        for arm, baseline in arm_pairs(study, results.arms)
        if results.was_planned(arm, level) and results.was_planned(baseline, level)
    ]


def _omnibus(results: Results, comparisons: Sequence[Comparison]) -> float:
    """Friedman's test over three or more arms whose runs are all paired; NaN if it cannot be made."""
    if not comparisons or any(c.unpaired for c in comparisons):
        return math.nan
    blocks = results.blocks()
    return stats.friedman(blocks) if len(blocks) >= MIN_PAIRS else math.nan


def _too_many(divided: Divided) -> str:
    """The answer if nothing was tested."""
    count = len(divided.arms)
    if count > MOST_ARMS:
        pairs = count * (count - 1) // 2
        return (
            f"Not tested: {count} arms make {pairs:,} pairs, and after correction for so many hardly anything could be shown. "
            "Name the baseline that the others are compared with (--baseline), choose fewer runs (--where), or group them by "
            "fewer columns (--group-by)."
        )
    return f"Nothing to compare: no two arms were run at the same {', '.join(divided.grouping.by)}."


def _grouping_notes(divided: Divided, comparisons: Sequence[Comparison]) -> list[str]:
    """How runs were grouped and paired, and in what else they differ."""
    between, within = _other_differences(divided)
    of_study = divided.grouping.arms == ("arm",)
    what = (
        f"arms{f' (they differ in {_some(between)})' if between else ''}" if of_study else " and ".join(divided.grouping.arms)
    )
    found = [text] if (text := unlike_units(divided.rows, divided.metric)) else []
    if divided.num_copies:
        many = divided.num_copies > 1
        found.append(
            f"{divided.num_copies} run{'s are copies of others' if many else ' is a copy of another'} (same seed, settings and "
            f"results) and {'are' if many else 'is'} left out."
        )
    if comparisons:
        found.append(f"Compares {what}{_at_each(divided.grouping)}; {_how_paired(comparisons)}.")
    if own := divided.grouping.left_out:
        found.append(
            f"{listed(own, 'settings')} {'is' if len(own) == 1 else 'are'} different in every run, so no group shares it."
        )
    if between and not of_study:
        found.append(f"Runs that are compared also differ in {_some(between)}: that may be what made the difference.")
    if within:
        found.append(
            f"Arms mix runs that differ in {_some(within)}, which widens the intervals. Keep them apart (by) to compare like "
            "with like."
        )
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _how_paired(comparisons: Sequence[Comparison]) -> str:
    reasons = list(dict.fromkeys(c.unpaired for c in comparisons if c.unpaired))
    if not reasons:
        return "runs are paired by seed"
    why = "; ".join(reasons[:3]) + ("; and more" if len(reasons) > 3 else "")
    if all(c.unpaired for c in comparisons):
        return f"runs cannot be paired by seed ({why}), so groups are compared by Welch's t test"
    count = sum(bool(c.unpaired) for c in comparisons)
    return (
        f"runs are paired by seed, but not in {count} of {len(comparisons)} comparisons ({why}), where groups are compared by "
        "Welch's t test"
    )


def _other_differences(divided: Divided) -> tuple[list[str], list[str]]:
    """Settings besides the divided columns that differ between the arms of a level, and those that differ within arms.

    A setting that has no effect in a run says nothing there.
    """
    between, within = [], []
    used = {*divided.grouping.arms, *divided.grouping.by, *divided.grouping.left_out}
    places = {run_id: number for number, run_id in enumerate(divided.rows["run"])}
    for name, values in divided.settings.items():
        if name in used:
            continue
        cells: dict[str, dict[str, set[Any]]] = {}
        for outcome in divided.outcomes:
            value = values[places[outcome.run_id]]
            cells.setdefault(outcome.level, {}).setdefault(outcome.arm, set()).update([] if value is None else [value])
        arms = [own for level in cells.values() for own in level.values()]
        if any(len({frozenset(own) for own in level.values() if own}) > 1 for level in cells.values()):
            between.append(name)
        if any(len(own) > 1 for own in arms):
            within.append(name)
    return between, [name for name in within if name not in between]
