"""Accuracies so high or so low that no number of seeds would show a difference between arms: the task is at fault."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, auto

from bnexp.comparison.pairing import Results, listed, place
from bnexp.comparison.result import Comparison
from bnexp.comparison.text import ACCURACY, level_unit, quantity
from bnexp.comparison.untrained import guessing_limit
from bnexp.config.keys import is_accuracy


class Edge(Enum):
    """``ceiling``: no arm can be better by more than the margin. ``floor``: no arm is better than guessing."""

    ceiling = auto()
    floor = auto()


def edge_of(c: Comparison, results: Results, num_test: int | None) -> Edge | None:
    """Whether both arms of a comparison of accuracies are at the ceiling or at the floor, by their means over the seeds.

    Args:
        c: the comparison. If neither run of any pair trained, it is at no edge: that is told elsewhere.
        results: the runs.
        num_test: number of test images; None if it is not known, and with it what guessing can reach.

    Returns:
        None as well if the comparison shows a difference: then the task does tell its arms apart.
    """
    is_level = c.measure == results.measure and is_accuracy(c.measure) and level_unit(c.measure, c.unit) == "%"
    if not is_level or not c.measured or c.shows_difference:
        return None
    low, high = sorted(_means(c, results))
    if low >= 100 - c.margin:
        return Edge.ceiling
    limit = _guessing(results, num_test)
    return Edge.floor if limit and high <= limit else None


def shared_edge(comparisons: Iterable[Comparison], results: Results, num_test: int | None) -> Edge | None:
    """The edge that all of some comparisons are at; None if they are not at the same one."""
    edges = {edge_of(c, results, num_test) for c in comparisons}
    return edges.pop() if len(edges) == 1 else None


def edge_notes(comparisons: Sequence[Comparison], results: Results, num_test: int | None) -> list[str]:
    """Sentences on the comparisons at either edge, and on what that means for their verdicts."""
    found = {edge: [c for c in comparisons if edge_of(c, results, num_test) is edge] for edge in Edge}
    notes = []
    if easy := found[Edge.ceiling]:
        wrong = 100 - min(min(_means(c, results)) for c in easy)
        notes.append(
            f"Too easy to tell apart: {_named(easy)} are on average wrong on at most {quantity(wrong, '%')} of the images, and "
            f"the margin is {quantity(easy[0].margin, 'pp')}, so none can be better by more. On harder data, or with fewer "
            "training images (data.train_size), they may differ."
        )
    if hard := found[Edge.floor]:
        right = max(max(_means(c, results)) for c in hard)
        notes.append(
            f"No better than guessing: {_named(hard)} are on average right on at most {quantity(right, '%')} of the images, "
            f"and guessing reaches up to {quantity(_guessing(results, num_test), '%')}, so they say nothing of the arms."
        )
    return notes


def _means(c: Comparison, results: Results) -> list[float]:
    return [float(results.cell(arm, c.level).mean()) for arm in (c.arm, c.baseline)]


def _guessing(results: Results, num_test: int | None) -> float:
    """The test accuracy in per cent that guessing exceeds in 5 % of all test sets; 0 if that is not known."""
    if results.measure not in ACCURACY or not results.chance or not num_test:
        return 0.0
    return 100 * guessing_limit(results.chance / 100, num_test, 1)


def _named(comparisons: Sequence[Comparison]) -> str:
    return listed([place(f"{c.arm} and {c.baseline}", c.level) for c in comparisons], "comparisons")
