"""The book of claims: what sources claim of batch norm, each claim with what was measured, as one HTML page and as Markdown.

``<runs>/book/book-<id>/`` is the book of one ``bnexp study --all`` with its overrides. It holds ``book.json`` (which studies,
and why others are not there), ``book.html``, ``book.md`` and ``figures/``, which the Markdown shows.
``<runs>/book/book-recorded/`` is the book of everything recorded. Its studies are gathered anew each time, so it has no
``book.json``.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bnexp.comparison.record import StudyRecord
from bnexp.comparison.result import StudyResult, Verdict
from bnexp.config.schema import ConfigError
from bnexp.plan.spec import digest
from bnexp.report import markdown, style
from bnexp.report.claims import Contents, arrange, errata, tell
from bnexp.report.html import page
from bnexp.tracking.reading import MIB, DamagedRecord, read_as
from bnexp.tracking.store import Store, write_atomic, write_if_allowed, write_json

RECORDED = "recorded"  # the id of the book of everything recorded
TEMPLATE = Path(__file__).parent / "book.html.jinja"


@dataclass(frozen=True)
class _Content:
    """What ``book.json`` holds."""

    overrides: list[str]
    studies: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Book(_Content):
    """What a book is made of.

    Args:
        overrides: those of all its studies.
        studies: ``name-id`` of each study in it.
        missing: each other study -> why it is not in the book.
        folder: where ``book.json`` was read, or is to be written.
    """

    folder: Path = field(kw_only=True)

    @property
    def id(self) -> str:
        return self.folder.name.removeprefix("book-")

    @property
    def command(self) -> str:
        """The command that makes the book again."""
        return "bnexp report --book" if self.id == RECORDED else shlex.join(["bnexp", "study", "--all", *self.overrides])

    def save(self) -> None:
        content = asdict(self)
        del content["folder"]
        write_json(self.folder / "book.json", content)


def planned(overrides: list[str], store: Store) -> Book:
    """The book of ``bnexp study --all`` with these overrides, still empty."""
    return Book(overrides, folder=store.root / "book" / f"book-{digest(sorted(overrides), 8)}")


def recorded(studies: list[str], older: dict[str, str], store: Store) -> Book:
    """The book of everything recorded: these studies, and why others are not in it."""
    return Book([], studies, older, folder=store.root / "book" / f"book-{RECORDED}")


def find_book(book_id: str, store: Store) -> Path:
    """The folder of the book of the ``bnexp study --all`` with this id. Raises ConfigError if there is none."""
    found = sorted(store.root.glob("book/book-*/book.json"), key=lambda path: path.stat().st_mtime)
    ids = {path.parent.name.removeprefix("book-"): path.parent for path in found}
    if not ids:
        raise ConfigError(f"no book of bnexp study --all is recorded in {store.root}; leave out {book_id} for all studies.")
    if book_id not in ids:
        raise ConfigError(f"{book_id} is not a recorded book: allowed are {', '.join(ids)}; without one all studies are taken.")
    return ids[book_id]


def load(folder: Path) -> Book:
    """Read the ``book.json`` of ``folder``. Raises DamagedRecord if it cannot be used."""
    path = folder / "book.json"
    content = read_as(_Content, path, MIB)
    for study in content.studies:
        if not re.fullmatch(r"[\w-][\w.-]*-\w+", study):  # it becomes a path
            raise DamagedRecord(path, f"studies has {study!r}, which is no name and id of a study")
    return Book(**vars(content), folder=folder)


def write(book: Book, studies: Sequence[tuple[StudyRecord, StudyResult]], store: Store) -> Path | None:
    """Write ``book.html``, ``book.md`` and the figures. Returns the path of the page, or None if the folder is read-only."""
    contents = arrange(tell(record, result, store, book.folder) for record, result in studies)
    if not write_if_allowed(book.folder / "book.html", render(book, contents)):
        return None
    pictures = book.folder / "figures"
    if pictures.is_symlink() or pictures.is_file():
        pictures.unlink()  # a link could lead anywhere
    shutil.rmtree(pictures, ignore_errors=True)
    for claim in contents.claims:
        for figure in claim.figures:
            write_atomic(pictures / f"{figure.id}.png", style.png(figure.chart))
    write_atomic(book.folder / "book.md", markdown.render(book.command, contents, book.missing))
    return book.folder / "book.html"


def render(book: Book, contents: Contents) -> str:
    """The book as the text of one HTML document."""
    verdicts = Counter(claim.result.verdict.value for claim in contents.claims)
    return page(
        TEMPLATE,
        "book",
        book=book,
        contents=contents,
        errata=errata(contents.claims),
        verdicts={verdict.value: verdicts[verdict] for verdict in Verdict if verdicts[verdict]},
    )
