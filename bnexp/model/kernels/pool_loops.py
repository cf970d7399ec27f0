"""The compiled loops of 2x2 max pooling + ReLU, forward and backward.

LLVM turns the passes over a whole map into vector instructions. They compare each value with the one beside it, then each
result with the one below, also where no window begins: that is quicker than to pick the windows first.

Letters: K k maps, M values j of a map; HP WP p q height, width, row and column of the pooled map.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bnexp.model.kernels.compiling import compiled
from bnexp.model.kernels.loops import NONE


@compiled
def pool(x: Any, beside: int, below: int, step: int, y: Any, winners: Any) -> None:
    """ReLU of the largest value of each 2x2 window, and which of its four corners that is.

    Corners are counted by row. The first of equal ones wins, and the last NaN before all numbers, as in torch's max pooling.

    Args:
        x: (K, M).
        beside: from the left to the right corner of a window, in places of a map.
        below: from the upper to the lower corner.
        step: from a window to the next one of its row; a row of windows begins 2 * ``below`` after the one above.
        y: result, (K, HP, WP).
        winners: result, like y but uint8: the largest corner, 0 to 3, or ``NONE`` if ReLU makes it 0.
    """
    K, M = x.shape
    _, HP, WP = y.shape
    rows, values = np.empty((2, M), x.dtype)
    sides, corners = np.empty((2, M), np.uint8)
    for k in range(K):
        left, right = x[k], x[k, beside:]
        for j in range(M - beside):
            wins = (right[j] > left[j]) | (right[j] != right[j])
            rows[j] = right[j] if wins else left[j]
            sides[j] = wins
        lower, lower_sides = rows[below:], sides[below:]
        for j in range(M - beside - below):
            wins = (lower[j] > rows[j]) | (lower[j] != lower[j])
            largest = lower[j] if wins else rows[j]
            corner = np.uint8(2) + lower_sides[j] if wins else sides[j]
            is_zero = largest <= 0  # NaN is not
            values[j] = x.dtype.type(0) if is_zero else largest
            corners[j] = np.uint8(NONE) if is_zero else corner
        for p in range(HP):
            for q in range(WP):
                y[k, p, q] = values[2 * p * below + q * step]
                winners[k, p, q] = corners[2 * p * below + q * step]


@compiled
def pool_backward(dy: Any, winners: Any, beside: int, below: int, step: int, dx: Any) -> None:
    """The gradient of ``pool``: that of a window goes to its largest corner, if ReLU has left it.

    Args:
        dy: (K, HP, WP).
        winners: of ``pool``.
        beside, below, step: as for ``pool``.
        dx: result, (K, M).
    """
    K, HP, WP = dy.shape
    left = np.empty((HP, WP), dy.dtype)
    for k in range(K):
        for p in range(HP):
            for q in range(WP):
                left[p, q] = dy.dtype.type(0) if winners[k, p, q] == NONE else dy[k, p, q]
        dx[k] = 0
        for p in range(HP):
            for q in range(WP):
                corner = np.intp(winners[k, p, q])
                at = 2 * p * below + q * step + corner % 2 * beside + corner // 2 % 2 * below
                dx[k, at] = left[p, q]
