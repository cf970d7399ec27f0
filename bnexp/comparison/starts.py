"""What the arms of a study do not share at the start, so that their seeds do not pair it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bnexp.comparison.result import PlannedRun
from bnexp.tracking.records import RecordedRun

NAMED = 5  # at most so many tensors are named in a sentence

Start = Mapping[str, str]  # of a run: parameter or buffer outside norm layers -> its shape, a space and a hash of its values


def start_notes(runs: Iterable[PlannedRun], records: Mapping[str, RecordedRun]) -> list[str]:
    """What arms do not share, one sentence for each way in which they differ; none if the runs do not tell.

    Args:
        runs: the planned runs of a study.
        records: run id -> its record.
    """
    cells: dict[tuple[str, int], dict[str, Start]] = {}
    for run in runs:
        record = records.get(run.run_id)
        if record is not None and record.finished and record.summary.initial:
            cells.setdefault((str(run.levels), run.seed), {})[run.arm] = record.summary.initial
    return unshared_lines(cells.values())


def unshared_lines(starts: Iterable[Mapping[str, Start]]) -> list[str]:
    """``unshared`` as sentences, each once.

    Args:
        starts: for each combination of levels and seed: arm -> what its run starts from.
    """
    return list(dict.fromkeys(_sentence(found) for arms in starts if (found := unshared(arms))))


def unshared(starts: Mapping[str, Start]) -> dict[str, str]:
    """Name of each parameter or buffer that arms do not have in common -> why, in a few words.

    Norm layers are left out: what they have depends on the arm.

    Args:
        starts: arm -> what its run starts from, with one seed for all.
    """
    found = {}
    for name in dict.fromkeys(name for start in starts.values() for name in start):
        having = {arm: start[name] for arm, start in starts.items() if name in start}
        if len(having) < len(starts):
            found[name] = f"only in {', '.join(having)}"
        elif len({value.partition(" ")[0] for value in having.values()}) > 1:
            found[name] = "of another shape"
        elif len(set(having.values())) > 1:
            found[name] = "with other values"
    return found


def _sentence(found: Mapping[str, str]) -> str:
    shown = [f"{name} ({why})" for name, why in list(found.items())[:NAMED]]
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"The arms start alike, but not in {', '.join(shown)}{more}: these are not paired by seed."
