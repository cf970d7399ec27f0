"""How the mixture t process of ``sequential`` is distributed if there is no difference, when it is looked at up to a last seed.

References: Siegmund (1976), "Importance sampling in the Monte Carlo study of sequential tests"; Ville (1939), "Étude critique
de la notion de collectif".
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np

from bnexp.comparison.stats import MIN_PAIRS, Array
from bnexp.rng import numpy_generator

DECLARED_G = 4.0  # variance of the standardised effects that the declared rule bets on
TABLE_FILE = Path(__file__).with_name("null_p.csv")
LISTED = (10, 12, 16, 20, 30, 40, 60, 100)  # values of max_seeds in the table
# From the least value that the process can have at the first look, so that p is 1 there, up to where p is below 1e-6.
GRID = np.geomspace((1 + MIN_PAIRS * DECLARED_G) ** -0.5, 1e6, 128)
PATHS, BATCH = 200_000, 10_000
LEAST = 1e-12  # p is never below
LARGEST_LOG = 700.0  # exp of more overflows


def log_t_process(x: Array, g: float) -> Array:
    """Logarithm of the mixture t process of ``sequential`` along the first axis; ``-log(K) / 2`` while all values are 0.

    Args:
        x: (n, ...) differences.
        g: variance of the standardised effects that the process bets on.

    Returns:
        (n, ...) values of log E_k.
    """
    sums, squares = np.cumsum(x, axis=0), np.cumsum(x**2, axis=0)
    w2 = np.divide(sums**2, squares, out=np.zeros_like(sums), where=squares != 0)
    k = np.arange(1.0, len(x) + 1).reshape(-1, *[1] * (x.ndim - 1))
    total = 1 + k * g
    return np.asarray(-np.log(total) / 2 - k / 2 * np.log1p(-w2 * g / total), float)


def null_p(x: float, max_seeds: int) -> float:
    """Chance that the declared process (g = 4) reaches ``x`` at any look from 6 to ``max_seeds``, if the mean is 0.

    It is exact for independent normal differences up to the error of simulation, about 1 % of p. Usual numbers of seeds
    are read from a table; for others ``simulate_null`` takes seconds, 20 for 200 seeds, once per process.

    Args:
        x: a value of the process; NaN gives NaN.
        max_seeds: the last look, at least 6.

    Returns:
        The chance, never rising in x. Above 1e6, the end of the table, it is Ville's bound ``1 / x`` or the last value of the
        table, whichever is less.
    """
    if x <= GRID[0]:
        return 1.0
    p = _chances(max_seeds)
    if x > GRID[-1]:
        return min(float(p[-1]), 1 / x)
    return float(np.exp(np.interp(math.log(x), np.log(GRID), np.log(p))))


def null_boundary(alpha: float, max_seeds: int) -> float:
    """The value of the process whose ``null_p`` is ``alpha``."""
    p = _chances(max_seeds)
    if alpha < p[-1]:
        return 1 / alpha
    return float(np.exp(np.interp(-math.log(alpha), -np.log(p), np.log(GRID))))


def simulate_null(max_seeds: int) -> Array:
    """``null_p`` on ``GRID``, from 200,000 simulated paths of fixed generators.

    Large values are rare under the null. So the paths are drawn with the effects that the process bets on, and each counts
    ``1 / E`` at its first E that reaches x (importance sampling, Siegmund 1976): the error relative to p is the same for all p.

    Args:
        max_seeds: the last look, at least 6.

    Returns:
        (128,) chances, for each value of ``GRID``.
    """
    total = np.zeros(GRID.size + 1)
    for batch in range(PATHS // BATCH):
        generator = numpy_generator(batch, "comparison/sequential_null")
        effects = generator.normal(0, math.sqrt(DECLARED_G), BATCH)
        # Seeds come first, so that a larger max_seeds continues the same paths: p then never falls with max_seeds.
        paths = effects + generator.normal(size=(max_seeds, BATCH))
        looks = log_t_process(paths, DECLARED_G)[MIN_PAIRS - 1 :]
        highest = np.exp(np.minimum(np.maximum.accumulate(looks), LARGEST_LOG))
        # A new maximum is the first to reach every x between the old one and itself.
        end = np.searchsorted(GRID, highest)
        start = np.concatenate([np.zeros_like(end[:1]), end[:-1]])
        weights = (1 / highest).ravel()
        for places, sign in ((start, 1), (end, -1)):
            total += sign * np.bincount(places.ravel(), weights, total.size)
    # No value of so few looks as 6 to 8 reaches the end of GRID: there the sum is 0 up to rounding.
    return np.minimum.accumulate(np.clip(np.cumsum(total)[:-1] / PATHS, LEAST, 1.0))


def table_text() -> str:
    """The text of the table file ``null_p.csv``: one column per value of ``LISTED``, one row per value of ``GRID``."""
    rows = np.stack([simulate_null(max_seeds) for max_seeds in LISTED], axis=1)
    lines = [",".join(map(str, LISTED)), *(",".join(f"{p:.6g}" for p in row) for row in rows)]
    return "\n".join(lines) + "\n"


@cache
def _chances(max_seeds: int) -> Array:
    """``null_p`` on ``GRID``: from the table, or simulated for a number of seeds that it does not list."""
    if max_seeds not in LISTED:
        return simulate_null(max_seeds)
    return np.loadtxt(TABLE_FILE, delimiter=",", skiprows=1, usecols=LISTED.index(max_seeds))
