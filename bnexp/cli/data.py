"""``bnexp data``: list the data sets; fetch, verify and describe one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bnexp.cli import complete
from bnexp.cli.output import CsvFlag, JsonFlag, MdFlag, pick_format, print_rows, sentence, stderr
from bnexp.config.options import DataName
from bnexp.config.schema import DataConfig
from bnexp.data.catalogue import CATALOGUE
from bnexp.data.presence import Presence, presence

NAMES = {  # of facts, for people
    "image": "channels x height x width",
    "train_images": "training images",
    "validation_images": "validation images",
    "test_images": "test images",
    "test_images_trained_on": "test images that are also training images",
    "validation_images_trained_on": "validation images that are also training images",
    "images_with_two_labels": "images that are under two labels",
    "mean": "mean of each channel",
    "std": "standard deviation of each channel",
}
HERE = {Presence.packed: "packed", Presence.raw: "raw files", Presence.absent: "no"}


def data(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Fetch, verify and describe this data set.", autocompletion=complete.files("data")),
    ] = None,
    overrides: complete.Overrides = None,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
) -> None:
    """List the data sets, or fetch, verify and describe one.

    Example: bnexp data mnist
    """
    format = pick_format(json, csv, md)
    if name is None:
        print_rows([_row(kind) for kind in DataName], format, right=("images",))
        sentence(
            "\nUse one with data=NAME. Images are resized to data.size, by default 32x32. What is not here is downloaded once; "
            "raw files are looked for in BNEXP_DATA_DIR. bnexp data NAME fetches one now."
        )
        return
    from bnexp.data.shown import prepare_shown
    from bnexp.plan.compose import compose

    config = compose([f"data={name}", *(overrides or [])]).data
    resident = prepare_shown(config, stderr())
    counts = {"train": len(resident.train_index), "validation": len(resident.val_index), "test": len(resident.test_labels)}
    source = CATALOGUE[DataName(resident.name)].source
    facts: dict[str, Any] = {
        "data": resident.name,
        **({"source": source} if source else {}),
        "classes": ", ".join(resident.class_names),
        "image": f"{resident.in_channels}x{resident.size}x{resident.size}",
        **{f"{split}_images": count for split, count in counts.items()},
        "test_images_trained_on": resident.overlap.test,
        "validation_images_trained_on": resident.overlap.val,
        "images_with_two_labels": resident.overlap.two_labels,
        "mean": " ".join(f"{value:.4f}" for value in resident.mean),
        "std": " ".join(f"{value:.4f}" for value in resident.std),
        "fingerprint": resident.fingerprint,
    }
    names = {} if format.for_programs else NAMES
    print_rows([{"fact": names.get(fact, fact), "value": value} for fact, value in facts.items()], format)
    if warning := resident.overlap_warning(config.margin):
        sentence(warning)


def _row(name: DataName) -> dict[str, str]:
    """One row of the list of data sets."""
    known = CATALOGUE[name]
    if name.is_own:
        return {"data": name.value, "what": known.title, "images": "yours", "here": ""}
    colour = "grey" if known.channels == 1 else "colour"
    return {
        "data": name.value,
        "what": f"{known.title}; {known.size}x{known.size} {colour}",
        "images": f"{known.num_train:,} + {known.num_test:,}",
        "here": HERE[presence(DataConfig(name))],
    }
