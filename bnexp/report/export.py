"""Figures as files of their own: PNG and SVG, with names that tell what they show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnexp.config.schema import ConfigError
from bnexp.report import style
from bnexp.report.charts import Figure
from bnexp.tracking.store import write_atomic

LONGEST = 100  # characters of a file name


def slug(text: str) -> str:
    """``text`` as a part of a file name: letters, digits, dots and hyphens, whatever it was."""
    return re.sub(r"[^\w.]+", "-", text).strip("-._").lower()[:LONGEST].rstrip("-._")


def file_name(prefix: str, figure: Figure) -> str:
    """``blog-training-loss``: the name of a figure's file, without ending."""
    what = f"confusion of {figure.title}" if figure.id.startswith("confusion-") else figure.title
    return slug(f"{prefix} {what}") or "figure"


@dataclass(frozen=True)
class Pictures:
    """Where figures are written as files of their own.

    Args:
        png: the folder of PNG files, made if it is not there; None writes none.
        svg: the folder of SVG files; None writes none.
    """

    png: Path | None = None
    svg: Path | None = None

    @property
    def wanted(self) -> bool:
        return self.png is not None or self.svg is not None

    def write(self, figures: Sequence[Figure], prefix: str) -> list[str]:
        """Write each figure on white, with its legend.

        Args:
            figures: what is written.
            prefix: how the names of the files begin.

        Returns:
            How many files lie where, one sentence per folder.

        Raises:
            ConfigError: a folder cannot be written to.
        """
        names = _distinct([file_name(prefix, figure) for figure in figures])
        for name, figure in zip(names, figures, strict=True):
            if self.png is not None:
                _write(self.png / f"{name}.png", style.png(figure.chart))
            if self.svg is not None:
                _write(self.svg / f"{name}.svg", style.svg(figure.chart, figure.description))
        folders = {"PNG": self.png, "SVG": self.svg}
        return [f"Figures: {len(names)} {kind} files in {folder}" for kind, folder in folders.items() if folder is not None]


NO_PICTURES = Pictures()


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number after each that stands for another figure too."""
    counts: dict[str, int] = {}
    found = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        found.append(f"{name}-{counts[name]}" if counts[name] > 1 else name)
    return found


def _write(path: Path, content: str | bytes) -> None:
    try:
        write_atomic(path, content)
    except OSError as error:
        raise ConfigError(
            f"{path.parent} cannot be written to ({error.strerror}): give another folder for pictures."
        ) from error
