"""Curves drawn with the dots of braille characters: eight to a character, so that a few lines of a terminal hold a training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

Points = Sequence[tuple[float, float]]

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille character, by row and column
BLANK = 0x2800


def chart(curves: Mapping[str, Points], *, width: int, height: int = 8) -> list[str]:
    """Draw curves over a common axis, each named at its end.

    Args:
        curves: name -> points (x, y), x rising. Points that are not finite are left out.
        width: characters of a line.
        height: lines of the drawing; one more follows with the range of x.

    Returns:
        The lines; none if no curve has two points.
    """
    known = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in curves.items()}
    known = {name: points for name, points in known.items() if len(points) > 1}
    if not known:
        return []
    xs, ys = ([point[axis] for points in known.values() for point in points] for axis in (0, 1))
    low, high = min(ys), max(ys)
    marks = [_mark(high - (high - low) * row / (height - 1), high - low) for row in range(height)]
    left, right = max(map(len, marks)), max(map(len, known)) + 1
    columns = max(10, width - left - right - 2)
    canvas = _Canvas(columns, height, (min(xs), max(xs)), (low, high))
    for points in known.values():
        canvas.draw(points)
    names = _named({name: canvas.row(points[-1][1]) for name, points in known.items()}, height)
    lines = [
        f"{mark:>{left}} ┤{text} {names.get(row, '')}".rstrip()
        for row, (mark, text) in enumerate(zip(marks, canvas.lines(), strict=True))
    ]
    first, last = f"{min(xs):g}", f"{max(xs):g}"
    return [*lines, f"{'':{left}}  {first}{last:>{columns - len(first)}}"]


class _Canvas:
    """Dots of ``columns`` x ``rows`` characters, for values of x and y in these ranges."""

    def __init__(self, columns: int, rows: int, x: tuple[float, float], y: tuple[float, float]) -> None:
        self._cells = [[BLANK] * columns for _ in range(rows)]
        self._across, self._down = 2 * columns - 1, 4 * rows - 1
        self._x, self._y = x, y

    def draw(self, points: Points) -> None:
        """Join the points with straight lines."""
        dots = [self._dot(*point) for point in points]
        for (x, y), (to_x, to_y) in itertools.pairwise(dots):
            steps = max(abs(to_x - x), abs(to_y - y), 1)
            for step in range(steps + 1):
                self._set(round(x + (to_x - x) * step / steps), round(y + (to_y - y) * step / steps))

    def row(self, y: float) -> int:
        """The line of characters on which a value lies."""
        return self._dot(self._x[0], y)[1] // 4

    def lines(self) -> list[str]:
        return ["".join(map(chr, row)).replace(chr(BLANK), " ") for row in self._cells]

    def _dot(self, x: float, y: float) -> tuple[int, int]:
        (left, right), (low, high) = self._x, self._y
        along = (x - left) / (right - left) if right > left else 0.0
        up = (y - low) / (high - low) if high > low else 0.5
        return round(along * self._across), round((1 - up) * self._down)

    def _set(self, x: int, y: int) -> None:
        self._cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]


def _named(rows: Mapping[str, int], height: int) -> dict[int, str]:
    """Row -> the name written there: where its curve ends, or on the nearest free row."""
    found: dict[int, str] = {}
    for name, row in rows.items():
        free = [other for other in range(height) if other not in found]
        if free:
            found[min(free, key=lambda other: abs(other - row))] = name
    return found


def _mark(value: float, span: float) -> str:
    """A number at the axis, with the decimals that tell it from its neighbours."""
    decimals = 0 if span >= 20 else 1 if span >= 2 else 2 if span >= 0.2 else 4
    return f"{value:.{decimals}f}"
