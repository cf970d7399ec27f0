"""What would settle a question that is open, as a command: more seeds, a finer grid, longer training or another task."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from bnexp.comparison.edge import Edge
from bnexp.comparison.looks import Look
from bnexp.comparison.prospects import is_open, settled_at, within_plan
from bnexp.comparison.result import Comparison, Remedy, Verdict
from bnexp.comparison.sequential import Rule
from bnexp.comparison.stats import MIN_PAIRS
from bnexp.comparison.words import at_level
from bnexp.config.schema import StudyConfig
from bnexp.config.validate import resolve_seeds

USUAL_SEEDS = 10  # that a study plans for
MOST_SEEDS = 100  # beyond which more seeds are no sensible advice


def remedy(
    study: StudyConfig,
    deciding: Sequence[Comparison],
    verdict: Verdict,
    look: Look,
    settings: Mapping[str, str],
    overrides: Sequence[str] | None,
    whole: bool = True,
    edge: Edge | None = None,
) -> Remedy | None:
    """What would settle the study.

    Args:
        study: the study.
        deciding: the comparisons that decide it.
        verdict: that of the study.
        look: how often the question has been looked at.
        settings: dotted key -> text, of what was held fixed.
        overrides: those that it was run with; None if no command can run it.
        whole: whether every planned run has a result.
        edge: where the accuracies of all open comparisons are, if that is too high or too low to tell the arms apart.

    Returns:
        None if it is settled.
    """
    open_ones = [c for c in deciding if is_open(c)]
    if verdict not in (Verdict.INCONCLUSIVE, Verdict.ESTIMATE) or not open_ones:
        return None
    if look.unfinished:
        text = "Some of its runs are gone: this trains them again." if look.whole else "Some planned runs are not made yet."
        return Remedy(text, _command(study, overrides, []))
    if "budget=smoke" in (overrides or ()):
        kept = [text for text in overrides or () if not text.startswith("study.seeds=")]
        text = "budget=smoke only shows that the study runs; this asks the question with enough images and seeds."
        return Remedy(text, _command(study, kept, ["budget=quick"]))
    enough_planned = whole and len(resolve_seeds(study.seeds)) >= MIN_PAIRS
    if untrained := [c for c in open_ones if c.measured < MIN_PAIRS and (c.n >= MIN_PAIRS or enough_planned)]:
        return _longer(study, untrained[0], settings, overrides)
    # Nearly perfect arms may still be shown to be equivalent, with enough seeds.
    if edge is Edge.floor or (edge and not all(c.tolerates and not c.unresolved for c in open_ones)):
        return _other_task(edge, study, settings, overrides)
    if verdict is Verdict.ESTIMATE:
        most = max(c.n_needed or 0 for c in open_ones)
        if USUAL_SEEDS < most <= MOST_SEEDS:
            text, seeds = f"At this estimate about {most} seeds would be needed.", most
        else:
            text, seeds = f"{USUAL_SEEDS} seeds are usual.", USUAL_SEEDS
        if seeds <= len(resolve_seeds(study.seeds)):  # so many are planned already
            return Remedy("Too many runs lack a result: mend what fails, then run it again.", _command(study, overrides, []))
        return Remedy(text, _command(study, overrides, [f"study.seeds={seeds}"]))
    if coarse := [c for c in open_ones if c.resolved_by and c.unresolved]:
        return Remedy("Finer or wider levels would resolve it.", _command(study, overrides, [coarse[0].resolved_by]))
    return _more_seeds(study, open_ones, len(deciding), look, overrides)


def _longer(study: StudyConfig, c: Comparison, settings: Mapping[str, str], overrides: Sequence[str] | None) -> Remedy:
    """Longer training, for a comparison whose runs did not train or are nowhere as far as each other."""
    lacking = f"Neither {c.arm} nor {c.baseline} trains{at_level(c)}"
    if c.n < MIN_PAIRS:
        lacking = f"Too few seeds have runs of {c.arm} and {c.baseline} that trained far enough to be compared{at_level(c)}"
    return Remedy(f"{lacking}: train longer, or change what is held fixed.", _twice_as_long(study, settings, overrides))


def _twice_as_long(study: StudyConfig, settings: Mapping[str, str], overrides: Sequence[str] | None) -> str:
    epochs = settings.get("train.epochs", "")
    return _command(study, overrides, [f"train.epochs={2 * int(epochs)}"]) if epochs.isdecimal() else ""


def _other_task(edge: Edge, study: StudyConfig, settings: Mapping[str, str], overrides: Sequence[str] | None) -> Remedy:
    """Another task or metric, for arms that are all nearly perfect or all no better than guessing."""
    if edge is Edge.floor:
        return Remedy(
            "No arm is better than guessing on new images, so more seeds would not help: train longer, take more training "
            "images, or check that the labels fit the images.",
            _twice_as_long(study, settings, overrides),
        )
    known = overrides is not None and study.metric in ("test/accuracy", "val/accuracy")
    loss = f"bnexp report {study.name} --metric {study.metric.replace('accuracy', 'loss')}" if known else ""
    return Remedy(
        "The task is too easy to tell the arms apart, so more seeds would not help: take harder data or fewer training images "
        f"(data.train_size).{' Another metric may still differ:' if loss else ''}",
        loss,
    )


def _more_seeds(
    study: StudyConfig, open_ones: Sequence[Comparison], family: int, look: Look, overrides: Sequence[str] | None
) -> Remedy:
    """How many seeds would settle every open comparison, by the test that a further look uses."""
    rule = look.rule or Rule.again()
    needed = [_needed(c, rule, family) for c in open_ones]
    known = [number for number in needed if number is not None]
    if len(known) < len(needed) or max(known) > MOST_SEEDS:
        return Remedy(
            f"At this estimate more than {MOST_SEEDS} seeds would be needed. Other settings or another margin would be a new "
            "question."
        )
    most = max(known)
    # Another plan than the declared one would be a further look, with a stricter test.
    goes_on = rule.max_seeds is not None and max(c.n for c in open_ones) < rule.max_seeds >= most
    changes = [] if goes_on else ["--until-settled", "--max-seeds", str(min(MOST_SEEDS, 2 * most))]
    return Remedy(f"About {most} seeds would settle it at this estimate.", _command(study, overrides, changes))


def _needed(c: Comparison, rule: Rule, family: int) -> int | None:
    return within_plan(rule, lambda rule: settled_at(c, Look(rule), family))


def _command(study: StudyConfig, overrides: Sequence[str] | None, changes: Sequence[str]) -> str:
    """The command that runs the study with changes; an override of the same key is replaced."""
    if overrides is None:
        return ""
    keys = {change.partition("=")[0] for change in changes if "=" in change}
    adding = "--until-settled" in changes
    kept = [
        text
        for text in overrides
        if text.partition("=")[0] not in keys and not (adding and text.startswith(("study.seeds=", "study.max_seeds=")))
    ]
    return shlex.join(["bnexp", "study", study.name, *kept, *changes])
