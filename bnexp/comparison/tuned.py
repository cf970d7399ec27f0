"""What a reader must know of tuned values: which were chosen, among which, and whether the best may lie beyond them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bnexp.comparison.pairing import listed, place, seed_text
from bnexp.comparison.text import number
from bnexp.config.schema import TuneConfig
from bnexp.plan.study import Choice, levels_text


def tuned_setting(choices: Sequence[Choice]) -> dict[str, str]:
    """The tuned key among the settings of a study: each cell's value, or their range if there are more than four."""
    if not choices:
        return {}
    values = [f"{_cell(choice)} {choice.value:g}" for choice in choices]
    spread = f"{min(choice.value for choice in choices):g} to {max(choice.value for choice in choices):g}"
    return {choices[0].setting: f"tuned ({', '.join(values) if len(values) <= 4 else spread})"}


def tuning_rows(choices: Sequence[Choice]) -> list[dict[str, Any]]:
    """One row per cell: ``arm``, ``level``, the value chosen, its mean validation accuracy, whether it lies at the edge."""
    return [
        {
            "arm": choice.arm,
            "level": levels_text(choice.levels),
            choice.setting: f"{choice.value:g}",
            "mean val/accuracy (%)": number(100 * choice.accuracy, "%") if not choice.rule else choice.rule,
            "edge": "yes" if choice.at_edge else "no",
        }
        for choice in choices
    ]


def tuning_notes(choices: Sequence[Choice], tune: TuneConfig) -> list[str]:
    """One sentence on what was chosen for each cell, and one on each best value at the edge of what was tried.

    Args:
        choices: the best value of each cell; empty if nothing was tuned.
        tune: how it was tuned.
    """
    if not choices:
        return []
    tuned = [choice for choice in choices if not choice.rule]
    tried = list(tuned[0].accuracies)
    chosen = ", ".join(f"{_cell(choice)} {choice.value:g} ({100 * choice.accuracy:.2f} %)" for choice in tuned)
    by_rule = [f"{_cell(choice)} {choice.value:g} ({choice.rule})" for choice in choices if choice.rule]
    found = [
        f"{tune.setting} was chosen for each by the mean validation accuracy of {seed_text(tune.seeds)}, the same "
        f"{len(tried)} values from {min(tried):g} to {max(tried):g} tried for all: {chosen}."
    ]
    if by_rule:
        anchor = f"from that of {tune.linear.of} at batches of {tune.linear.batch_size}"
        found.append(f"{tune.setting} by the linear rule, {anchor}: {', '.join(by_rule)}.")
    if edges := [f"{_cell(choice)} ({choice.value:g})" for choice in choices if choice.at_edge]:
        found.append(
            f"The best {tune.setting} lies at the edge of what was tried for {listed(edges, 'cells')}; a better one may lie "
            "beyond. Raise study.tune.extensions."
        )
    return found


def _cell(choice: Choice) -> str:
    return place(choice.arm, levels_text(choice.levels))
