"""Finds recorded studies by what a person types: name, name-id, id, a beginning of one of them, study-id, or a path."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from bnexp.comparison.record import STUDY, VERDICT
from bnexp.config.keys import alternatives, did_you_mean
from bnexp.config.schema import ConfigError
from bnexp.tracking.store import Store

MOST_NAMED = 12  # names in an error


def recorded_studies(store: Store) -> list[Path]:
    """The folders of all recorded studies, the one concluded last at the end; those never concluded come first."""
    return _by_age(store.root.glob(f"[!.]*/study-*/{STUDY}"))


def studies_named(text: str, store: Store) -> list[Path]:
    """The folders of the recorded studies with this name, id, name-id or study-id, the one concluded last at the end.

    A beginning of ``name-id`` with a part of the id will do if it fits one study.
    """
    folders = recorded_studies(store)
    if whole := [folder for folder in folders if _is_called(text, folder)]:
        return whole
    begun = [folder for folder in folders if label(folder).startswith(text) and len(text) > len(folder.parent.name) + 1]
    return begun if len(begun) == 1 else []


def label(folder: Path) -> str:
    """``name-id`` of the study in a folder."""
    return f"{folder.parent.name}-{folder.name.removeprefix('study-')}"


def find_study(text: str | None, store: Store) -> list[Path]:
    """The folders of the studies that ``text`` fits, the one concluded last first.

    There are several only for a name, or for all studies. The first is the one that is meant; the others stand in for it if its
    record is damaged.

    Args:
        text: a study's name, ``name-id``, id, a beginning of one of these that fits one study or name, ``study-id``, or the
            path of a study's folder, of a file in it, or of a folder with studies, wherever it lies. None for all studies.
        store: where names and ids are looked up.

    Raises:
        ConfigError: nothing fits, or several do.
    """
    if text is not None and (os.sep in text or text in (".", "..")):
        return _at(Path(text))
    folders = recorded_studies(store)[::-1]
    if not folders:
        if text and Path(text).is_dir():
            return _at(Path(text))
        raise ConfigError(f"no study is recorded in {store.root}; run one first: bnexp study batchnorm data=digits.")
    if text is None:
        return folders
    whole = [folder for folder in folders if _is_called(text, folder)]
    found = whole or [folder for folder in folders if text and any(name.startswith(text) for name in _names(folder))]
    if not found and text and Path(text).is_dir():
        return _at(Path(text))
    if not found:
        known = [label(folder) for folder in folders]
        some = ", ".join(known[:MOST_NAMED]) + (f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else "")
        hint = did_you_mean(text, [*dict.fromkeys(folder.parent.name for folder in folders), *known])
        raise ConfigError(f"{text or 'An empty name'} is not a recorded study{alternatives(hint, f'are {some}')}")
    if len(found) > 1 and len({folder.parent.name for folder in found}) > 1:
        some = ", ".join(label(folder) for folder in found[:MOST_NAMED])
        raise ConfigError(f"{text} fits several recorded studies: {some}. Give more of its name or id.")
    return found


def store_of(folder: Path, store: Store) -> Store:
    """The store that the study in ``folder`` was recorded in: ``store`` if the folder lies in it."""
    root = folder.parents[1]
    return store if root.resolve() == store.root.resolve() else Store(root)


def _is_called(text: str, folder: Path) -> bool:
    """Whether ``text`` names the study in a folder: one of its names, or the folder's own."""
    return text in (*_names(folder), folder.name)


def _names(folder: Path) -> Sequence[str]:
    """What a study may be called: its name, its id, and both."""
    return folder.parent.name, folder.name.removeprefix("study-"), label(folder)


def _at(path: Path) -> list[Path]:
    """The study of a folder or of a file in it, or the studies in a folder. Raises ConfigError."""
    place = path.absolute()
    place = place.parent if place.is_file() else place
    found = _by_age([place / STUDY] if (place / STUDY).is_file() else place.glob(f"study-*/{STUDY}"))[::-1]
    if not found:
        problem = "has no recorded study" if place.is_dir() else "does not exist"
        raise ConfigError(f"{path} {problem}; give a folder with {STUDY}, such as runs/batchnorm/study-1a2b3c4d.")
    return found


def _by_age(studies: Iterable[Path]) -> list[Path]:
    """The folders of files ``study.json``: those without a verdict first, then by the time of their conclusion."""

    def age(study: Path) -> tuple[bool, float]:
        verdict = study.with_name(VERDICT)
        return verdict.exists(), (verdict if verdict.exists() else study).stat().st_mtime

    return [study.parent for study in sorted(studies, key=age)]
