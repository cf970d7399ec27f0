"""``bnexp predict``: classify images with recorded runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnexp.cli import complete
from bnexp.cli.output import (
    OK,
    SOME_FAILED,
    CsvFlag,
    Format,
    JsonFlag,
    MdFlag,
    Row,
    message,
    pick_format,
    print_rows,
    sentence,
    stdout,
    table_width,
)
from bnexp.config.schema import ConfigError

if TYPE_CHECKING:
    from bnexp.run.answers import Answers

MOST_PROBLEMS = 10  # unreadable images that are named
MOST_VOICES = 8  # that are shown side by side; of more, such as a study with many levels, the predictions are counted
MOST_OTHERS = 4  # classes that are named besides the one that most voices predict


def predict(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Run id or its beginning, path of a run's directory, or a study: each of its arms, averaged over seeds.",
            autocompletion=complete.recorded,
        ),
    ],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="More runs to ask, then image files and folders. Images in subfolders named like classes are also marked.",
        ),
    ] = None,
    factory: Annotated[
        str | None,
        typer.Option(
            "--factory",
            metavar="FILE.py:FUNCTION",
            help="Of runs with model=python: your function that makes the network; code that a record names never runs.",
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, metavar="K", help="Number of guesses per image.")] = 2,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
) -> None:
    """Classify images with a recorded run, prepared as the run's own images were.

    Several runs, or the arms of a study, are shown side by side, images on which they disagree first.
    PNG, JPEG and whatever else Pillow reads; no data set is needed.

    Examples: bnexp predict 3f2a digit.png  ·  bnexp predict 3f2a 91bc photos/  ·  bnexp predict batchnorm photos/
    """
    from bnexp.run.answers import ask
    from bnexp.run.voices import voices_and_images

    format = pick_format(json, csv, md)
    voices, places, notes = voices_and_images([run, *(images or [])])
    answers = ask(voices, places, factory)
    if top > len(answers.class_names):
        raise ConfigError(f"--top {top} is more than there is: the run knows {len(answers.class_names)} classes.")
    if format in (Format.json, Format.csv):
        print_rows(data_rows(answers, top), format)
    else:
        _print_people(answers, top, format)
    for note in [*notes, *answers.notes, *_summary(answers)]:
        sentence(note)
    for problem in answers.problems[:MOST_PROBLEMS]:
        message(problem)
    if num_more := len(answers.problems[MOST_PROBLEMS:]):
        message(f"{num_more} more images cannot be read.")
    raise typer.Exit(SOME_FAILED if answers.problems else OK)


def data_rows(answers: Answers, top: int) -> list[Row]:
    """One row per image and voice, images on which voices disagree first.

    Columns: ``image``; ``by`` (run or arm), ``runs`` (how many are averaged), ``agreeing`` (of those); ``prediction``,
    ``confidence`` (0 to 1), then ``guess_2``, ``confidence_2`` and so on; ``truth`` and ``correct``, null if not known;
    ``agreed`` (whether all voices predict the same).
    """
    rows: list[Row] = []
    for i in answers.order():
        for v, (name, count) in enumerate(answers.voices.items()):
            row: dict[str, Any] = {"image": answers.pictures[i].name, "by": name, "runs": count}
            row["agreeing"] = int(answers.agreeing[v, i])
            for rank, (guess, confidence) in enumerate(_guesses(answers, v, i, top), 1):
                names = ("prediction", "confidence") if rank == 1 else (f"guess_{rank}", f"confidence_{rank}")
                row |= dict(zip(names, (guess, confidence), strict=True))
            rows.append(row | _truth(answers, v, i) | {"agreed": bool(answers.agreed[i])})
    return rows


def _guesses(answers: Answers, voice: int, image: int, top: int) -> list[tuple[str, float]]:
    """The most probable classes, with their probabilities."""
    p = answers.probabilities[voice, image]
    return [(answers.class_names[k], float(p[k])) for k in (-p).argsort(kind="stable")[:top]]


def _truth(answers: Answers, voice: int, image: int) -> dict[str, Any]:
    label = int(answers.labels[image])
    if label < 0:
        return {"truth": None, "correct": None}
    return {"truth": answers.class_names[label], "correct": bool(answers.classes[voice, image] == label)}


def _print_people(answers: Answers, top: int, format: Format) -> None:
    """A table: of one voice its guesses, of several their predictions side by side, or below each other if there is no room."""
    if len(answers.voices) == 1:
        rows = [_line(answers, 0, i, top) for i in answers.order()]
    else:
        few = len(answers.voices) <= MOST_VOICES
        rows = [_side_by_side(answers, i, top) if few else _counted(answers, i) for i in answers.order()]
    if format is Format.md or table_width(rows) <= stdout().width:
        print_rows(rows, format, right=("confidence",))
    else:
        _print_blocks(rows)


def _line(answers: Answers, voice: int, image: int, top: int) -> dict[str, str]:
    (guess, confidence), *others = _guesses(answers, voice, image, top)
    row = {"image": answers.pictures[image].name, "prediction": guess, "confidence": percent(confidence)}
    row |= {f"guess {rank}": f"{name} {percent(p)}" for rank, (name, p) in enumerate(others, 2)}
    return row | _seeds(answers, voice, image) | _truth_for_people(answers, voice, image)


def _side_by_side(answers: Answers, image: int, top: int) -> dict[str, str]:
    row = {"image": answers.pictures[image].name}
    for v, name in enumerate(answers.voices):
        guesses = ", ".join(f"{guess} {percent(p)}" for guess, p in _guesses(answers, v, image, top if top > 2 else 1))
        row[name] = " ".join([guesses, *_seeds(answers, v, image).values()])
    row |= _truth_of(answers, image)
    return row | {"agree": "yes" if answers.agreed[image] else "no"}


def _counted(answers: Answers, image: int) -> dict[str, str]:
    """How many voices predict which class, the most frequent one first."""
    counts = Counter(answers.class_names[k] for k in answers.classes[:, image].tolist()).most_common()
    (most, count), *others = counts
    told = [f"{name} ({number})" for name, number in others[:MOST_OTHERS]]
    told += [f"{len(others) - MOST_OTHERS} more"] if len(others) > MOST_OTHERS else []
    row = {"image": answers.pictures[image].name, "prediction": most, "by": f"{count} of {len(answers.voices)}"}
    return row | {"others": ", ".join(told)} | _truth_of(answers, image)


def _truth_of(answers: Answers, image: int) -> dict[str, str]:
    return {"truth": _truth(answers, 0, image)["truth"] or ""} if (answers.labels >= 0).any() else {}


def _seeds(answers: Answers, voice: int, image: int) -> dict[str, str]:
    """``{"seeds": "4/5"}``: how many seeds predict what their average does; nothing if there is a single one."""
    count = list(answers.voices.values())[voice]
    return {"seeds": f"{answers.agreeing[voice, image]}/{count}"} if count > 1 else {}


def _truth_for_people(answers: Answers, voice: int, image: int) -> dict[str, str]:
    if (answers.labels < 0).all():
        return {}
    truth = _truth(answers, voice, image)
    return {"truth": truth["truth"] or "", "correct": {True: "yes", False: "no", None: ""}[truth["correct"]]}


def _print_blocks(rows: Sequence[Row]) -> None:
    """Each image on a line of its own, so that its path is not folded, with what is said of it below."""
    out = stdout()
    for row in rows:
        out.print(str(row["image"]), markup=False, soft_wrap=True, style="bold")
        for name, value in row.items():
            if name != "image" and value:
                out.print(f"    {name}: {value}", markup=False, soft_wrap=True)


def percent(value: float) -> str:
    """A probability for people: ``97.9 %``; 100.0 and 0.0 only if it is exactly that."""
    if 0.9995 <= value < 1:
        return "> 99.9 %"
    if 0 < value < 0.0005:
        return "< 0.1 %"
    return f"{100 * value:.1f} %"


def _summary(answers: Answers) -> list[str]:
    """Accuracy if truths are known, and how far voices agree."""
    labels, names = answers.labels, list(answers.voices)
    known = labels >= 0
    lines = []
    many = len(names) > MOST_VOICES
    if many:
        lines.append(f"Counts how many of {len(names)} predict a class; --json and --csv have what each of them predicts.")
    elif max(answers.voices.values()) > 1:
        lines.append("Probabilities are averaged over seeds; 4/5 says that 4 of 5 seeds alone predict the same.")
    if known.any():
        right = (answers.classes == labels)[:, known]
        shown = [*range(len(names))]
        if many:
            ranked = sorted(shown, key=lambda v: -int(right[v].sum()))
            shown = [*ranked[:2], *ranked[-2:]]
            lines.append("The two that are right most often and the two that are so least often:")
        for name, each in ((names[v], right[v]) for v in shown):
            by = f"{name}: " if len(names) > 1 else ""
            lines.append(f"{by}{each.sum()} of {len(each)} right, {_accuracy(int(each.sum()), len(each))}")
        if len(names) == 2:
            first, second = right
            lines.append(
                f"Only {names[0]} is right on {(first & ~second).sum()}, only {names[1]} on {(second & ~first).sum()}."
            )
    if len(names) > 1:
        which = "Both" if len(names) == 2 else f"All {len(names)}"
        lines.append(f"{which} predict the same class on {answers.agreed.sum()} of {len(answers.pictures)} images.")
    return lines


def _accuracy(right: int, count: int) -> str:
    """``96.9 % (95 % interval 94.6 to 98.3 %)``, by Wilson's method."""
    from scipy.stats import binomtest

    interval = binomtest(right, count).proportion_ci(method="wilson")
    return f"{100 * right / count:.1f} % (95 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f} %)."
