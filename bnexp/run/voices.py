"""Who is asked about images: runs, or the arms of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnexp.comparison.record import StudyRecord
from bnexp.comparison.selection import one_study
from bnexp.config.keys import did_you_mean
from bnexp.config.schema import ConfigError
from bnexp.plan.study import levels_text
from bnexp.run.recorded import TrainedRun, is_run_directory, load_run
from bnexp.tracking.store import Store


@dataclass(frozen=True)
class Voice:
    """Who is asked: one run, or the runs of one arm with different seeds, whose probabilities are averaged.

    Args:
        name: unique among the voices.
        runs: at least one.
    """

    name: str
    runs: list[TrainedRun]


def voices_and_images(words: Sequence[str], store: Store | None = None) -> tuple[list[Voice], list[str], list[str]]:
    """Tell the runs at the beginning of a command line from the images behind them.

    The first word is a run or a study. A later one is an image if a file or folder has that path, unless a run is recorded
    in the folder. From the first image on, all are images.

    Args:
        words: run ids or their beginnings, paths of run directories, studies by name or name-id; then images.
        store: where runs are recorded; None: ``BNEXP_RUNS_DIR`` or its default.

    Returns:
        The voices, the images as typed, and sentences on runs of a study that cannot be asked.

    Raises:
        ConfigError: a word is none of that, or there are no images, or a run cannot be asked.
    """
    store = store or Store()
    runs: list[TrainedRun] = []
    voices: list[Voice] = []
    notes: list[str] = []
    count = 0
    for word in words:
        if count and Path(word).expanduser().exists() and not is_run_directory(word):
            break
        if study := one_study(word, store):
            found, told = _arms(study, store)
            voices, notes = voices + found, notes + told
        else:
            runs.append(_run(word, store, first=not count))
        count += 1
    if count == len(words):
        raise ConfigError("there are no images: name image files or folders behind the run, as in bnexp predict RUN digit.png.")
    voices = [*(Voice(name, [run]) for name, run in zip(_names(runs), runs, strict=True)), *voices]
    return _distinct(voices), list(words[count:]), notes


def _run(word: str, store: Store, first: bool) -> TrainedRun:
    known = [record.run_id for record in store.folders()]
    if is_run_directory(word) or any(run_id.startswith(word) for run_id in known):
        return load_run(word, store.root)
    if first and Path(word).exists():
        raise ConfigError(f"{word} is no recorded run: the run comes first, then the images, as in bnexp predict RUN {word}.")
    what = "no recorded run or study" if first else "no file or folder, and no recorded run or study"
    names = [*known, *(path.name for path in store.root.glob("[!.]*/"))]
    raise ConfigError(f"{word!r} is {what} (in {store.root}).{did_you_mean(word, names)} See runs with bnexp runs.")


def _arms(study: StudyRecord, store: Store) -> tuple[list[Voice], list[str]]:
    """The arms of a study, at each combination of its levels, with the runs of all seeds that have weights."""
    records = store.records([run.run_id for run in study.runs])
    cells: dict[str, dict[str, TrainedRun]] = {}
    lost = set()
    for run in study.runs:
        record = records.get(run.run_id)
        if record is None or not record.finished or record.summary.status == "diverged":
            lost.add(run.run_id)
            continue
        name = " ".join(filter(None, (run.arm, levels_text(run.levels))))
        cells.setdefault(name, {})[run.run_id] = TrainedRun(record.path)
    if not cells:
        raise ConfigError(f"no run of the study {study.study.name} can be asked: none has finished with weights of numbers.")
    all_runs = {run.run_id for run in study.runs}
    note = f"{len(lost)} of {len(all_runs)} runs of {study.study.name} are not asked: diverged, failed or not recorded."
    return [Voice(name, list(runs.values())) for name, runs in cells.items()], [note] if lost else []


def _names(runs: Sequence[TrainedRun]) -> list[str]:
    """A different name for each run: its arm, or arm and seed, or else its id."""
    summaries = [run.summary for run in runs]
    seeds = [f"{summary.arm} seed={summary.seed}" for summary in summaries]
    for names in ([run.run_id for run in runs[:1]], [summary.arm for summary in summaries], seeds):
        if len(set(names)) == len(runs):
            return names
    return [run.run_id for run in runs]


def _distinct(voices: Sequence[Voice]) -> list[Voice]:
    """The voices without those that have the same runs as an earlier one, with names that differ."""
    by_runs: dict[tuple[Path, ...], Voice] = {}
    for voice in voices:
        by_runs.setdefault(tuple(run.path.resolve() for run in voice.runs), voice)
    taken: dict[str, Voice] = {}
    for voice in by_runs.values():
        name, number = voice.name, 2
        while name in taken:
            name, number = f"{voice.name} ({number})", number + 1
        taken[name] = Voice(name, voice.runs)
    return list(taken.values())
