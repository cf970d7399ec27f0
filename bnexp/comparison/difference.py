"""What two runs, or two studies, do not have in common: settings first, then results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bnexp.comparison.listing import HEADERS
from bnexp.comparison.record import StudyRecord
from bnexp.comparison.shown_run import deciding, default_settings, metric_value, shown_unit
from bnexp.comparison.text import elapsed_text, quantity
from bnexp.comparison.varying import setting_text
from bnexp.config.keys import metric_unit
from bnexp.plan.spec import plain
from bnexp.plan.study import levels_text
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.store import Store

SETTING, RESULT = "setting", "result"
SECONDS = "seconds"


@dataclass(frozen=True)
class Line:
    """One thing in which two runs or studies may differ.

    Args:
        kind: ``setting`` or ``result``.
        name: a configuration key, a metric, or another fact.
        a: its value in the first one; None if it has none.
        b: its value in the second one.
        metric: whether they are values of a metric, in the unit that bnexp records it in.
        lacking: whether the first and the second one have no such thing at all; a value may also be null.
    """

    kind: str
    name: str
    a: Any
    b: Any
    metric: bool = False
    lacking: tuple[bool, bool] = (False, False)

    @property
    def label(self) -> str:
        """The name as tables for people have it."""
        return HEADERS.get(self.name, self.name) if self.kind == RESULT and not self.metric else self.name

    @property
    def differs(self) -> bool:
        both_nan = all(isinstance(value, float) and math.isnan(value) for value in (self.a, self.b))
        return self.a != self.b and not both_nan

    @property
    def difference(self) -> float | None:
        """``b`` minus ``a`` of numbers; None of anything else."""
        numbers = [value for value in (self.a, self.b) if isinstance(value, int | float) and not isinstance(value, bool)]
        return numbers[1] - numbers[0] if len(numbers) == 2 and all(map(math.isfinite, numbers)) else None

    def texts(self) -> tuple[str, str, str]:
        """Both values and the difference of results, with units: levels in per cent, differences in pp. An en dash for none."""
        first, second = (
            "–" if lacks else self._text(value) for value, lacks in zip((self.a, self.b), self.lacking, strict=True)
        )
        if self.kind != RESULT or self.difference is None:
            return first, second, ""
        unit = (metric_unit(self.name) or shown_unit(self.name)) if self.metric else "s" * (self.name == SECONDS)
        return first, second, quantity((100 if unit == "pp" else 1) * self.difference, unit, sign=True)

    def _text(self, value: Any) -> str:
        if self.metric:
            return metric_value(self.name, math.nan if value is None else value)
        return elapsed_text(value) if self.name == SECONDS and value is not None else setting_text(value)


def run_difference(a: RecordedRun, b: RecordedRun) -> list[Line]:
    """All settings, facts and results of two runs, in that order.

    Raises:
        DamagedRecord: a record cannot be used.
        FileNotFoundError: a run has no configuration.
    """
    pair = (a, b)
    facts = [_facts(run) for run in pair]
    return [
        *_lines(SETTING, [{key: known[key] for key in ("study", "arm", "levels")} for known in facts]),
        *_lines(SETTING, _without_usual(deciding(a.settings), deciding(b.settings))),
        *_lines(RESULT, [{key: known[key] for key in ("status", "seconds")} for known in facts]),
        *_lines(RESULT, [run.summary.metrics if run.finished else {} for run in pair], metric=all(map(_is_own, pair))),
    ]


def _is_own(run: RecordedRun) -> bool:
    """Whether bnexp recorded the run, so that the units of its metrics are known."""
    return not run.finished or run.summary.source is None


def _without_usual(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    """Both, without what only one has and at its default: like the ``eps`` of a norm layer that the other run lacks."""
    usual = default_settings()
    return [
        {name: value for name, value in own.items() if name in other or name not in usual or value != usual[name]}
        for own, other in ((a, b), (b, a))
    ]


def _facts(run: RecordedRun) -> dict[str, Any]:
    if not run.finished:
        return {"study": run.path.parent.name, "arm": None, "levels": None, "status": run.unfinished, "seconds": None}
    summary = run.summary
    values = (summary.study, summary.arm, levels_text(summary.levels) or None, summary.status, summary.seconds)
    return dict(zip(("study", "arm", "levels", "status", "seconds"), values, strict=True))


def _lines(kind: str, pair: Sequence[Mapping[str, Any]], metric: bool = False) -> list[Line]:
    a, b = pair
    return [
        Line(kind, name, a.get(name), b.get(name), metric, (name not in a, name not in b)) for name in dict.fromkeys((*a, *b))
    ]


def study_difference(a: StudyRecord, b: StudyRecord, store: Store) -> list[Line]:
    """What two studies ask, compare and found: definition, arms, settings, and the mean of each arm.

    Args:
        a: the first study.
        b: the second one.
        store: where their runs are.
    """
    pair = (a, b)
    defined = [plain(asdict(record.study)) for record in pair]
    means = [_means(record, store) for record in pair]
    return [
        *_lines(SETTING, [{name: study[name] for name in _ASKED} for study in defined]),
        *_lines(SETTING, [{"seeds": len({run.seed for run in record.runs})} for record in pair]),
        *_lines(SETTING, [{f"arm {arm}": " ".join(own) for arm, own in study["arms"].items()} for study in defined]),
        *_lines(SETTING, [record.settings for record in pair]),
        *_lines(RESULT, means),
    ]


_ASKED = ("question", "metric", "baseline", "direction", "analysis", "margin", "factors")


def _means(record: StudyRecord, store: Store) -> dict[str, str]:
    """Metric and arm -> the mean over all runs of the arm, with their number, as text."""
    metric = record.study.metric
    runs = store.finished([run.run_id for run in record.runs])
    found = {}
    for arm in record.study.arms:
        ids = dict.fromkeys(run.run_id for run in record.runs if run.arm == arm and run.run_id in runs)
        values = [runs[run_id].summary.metric(metric) for run_id in ids]
        known = [value for value in values if math.isfinite(value)]
        if known:
            found[f"mean {metric} of {arm}"] = f"{metric_value(metric, sum(known) / len(known))} (n = {len(known)})"
    return found
