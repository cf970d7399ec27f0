"""What earlier commands have recorded of the same sweep. A command that tries fewer points, or other ones, loses none of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bnexp.comparison.sweep.record import Confirmed, SweepRecord, load
from bnexp.plan.sweep.distribution import Parameter
from bnexp.plan.sweep.points import point_text
from bnexp.tracking.reading import DamagedRecord


def earlier_record(folder: Path, varied: Mapping[str, Parameter]) -> SweepRecord | None:
    """The record of the same sweep from an earlier command, with the points that it tried; None without a whole one.

    A point with a value that the sweep does not list is left out: its runs may be trained again, and a record must not name
    code of its own.

    Args:
        folder: of the sweep.
        varied: the parameters that points have values of, by name. Older records have also those with one value.
    """
    try:
        found = load(folder)
    except DamagedRecord:
        return None
    trials = [
        replace(trial, params={name: trial.params.get(name) for name in varied})
        for trial in found.trials
        if trial.state != "missing"
        and all(trial.params.get(name) in item.values for name, item in varied.items() if item.values)
    ]
    return replace(found, trials=trials)


def with_earlier(record: SweepRecord, earlier: SweepRecord | None) -> SweepRecord:
    """The record with the points that only the earlier one has, at its end, and the best points that it trained again.

    Args:
        record: the sweep so far.
        earlier: ``earlier_record`` of it.
    """
    if earlier is None:
        return record
    known = {point_text(trial.params) for trial in record.trials}
    others = [trial for trial in earlier.trials if point_text(trial.params) not in known]
    trials = [*record.trials, *(replace(trial, number=number) for number, trial in enumerate(others, len(record.trials) + 1))]
    numbers = {point_text(trial.params): trial.number for trial in reversed(trials)}
    renumbered = {trial.number: numbers[point_text(trial.params)] for trial in earlier.trials}
    return replace(record, trials=trials, confirmed=_renumbered(earlier.confirmed, renumbered))


def _renumbered(confirmed: Confirmed | None, numbers: dict[int, int]) -> Confirmed | None:
    if confirmed is None:
        return None
    run_ids = {numbers[number]: confirmed.run_ids[str(number)] for number in confirmed.numbers if number in numbers}
    return Confirmed(list(run_ids), confirmed.seeds, {str(number): own for number, own in run_ids.items()})


def merged(new: Confirmed, old: Confirmed | None) -> Confirmed:
    """The best points that were trained again now, then those of earlier commands. Of the same point more seeds count."""
    if old is None:
        return new
    run_ids = dict(new.run_ids)
    for number, own in old.run_ids.items():
        shared = min(len(own), len(run_ids.get(number, [])))
        if own[:shared] == run_ids.get(number, [])[:shared] and len(own) > shared:
            run_ids[number] = own
    return Confirmed(list(map(int, run_ids)), max(new.seeds, old.seeds), run_ids)
