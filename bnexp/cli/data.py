"""``bnexp data``: list the data sets; fetch, verify and describe one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bnexp.cli import complete
from bnexp.cli.output import CsvFlag, JsonFlag, MdFlag, message, pick_format, print_rows, stderr
from bnexp.config.options import DataName

DESCRIPTIONS = {
    DataName.digits: ("handwritten digits, 8x8 upscaled; ships with bnexp", "1,797"),
    DataName.mnist: ("handwritten digits, 28x28 grey, padded to 32x32", "60,000 + 10,000"),
    DataName.fashion_mnist: ("clothing, 28x28 grey, padded to 32x32", "60,000 + 10,000"),
    DataName.kmnist: ("Japanese characters, 28x28 grey, padded to 32x32", "60,000 + 10,000"),
    DataName.cifar10: ("10 kinds of objects, 32x32 colour", "50,000 + 10,000"),
    DataName.cifar100: ("100 kinds of objects, 32x32 colour", "50,000 + 10,000"),
    DataName.svhn: ("house numbers, 32x32 colour", "73,257 + 26,032"),
    DataName.image_folder: ("your images: data.root=FOLDER with train/ and test/, or one folder a class", "yours"),
    DataName.npz: ("your arrays: data.root=FILE.npz with x_train y_train x_test y_test", "yours"),
}


def data(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Fetch, verify and describe this data set.", autocompletion=complete.data),
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
        rows: list[dict[str, Any]] = [
            {"data": kind.value, "what": what, "images": images} for kind, (what, images) in DESCRIPTIONS.items()
        ]
        print_rows(rows, format, right=("images",))
        message(
            "\nUse one with data=NAME. Raw files are looked for in BNEXP_DATA_DIR and downloaded once where they are missing."
        )
        return
    from bnexp.data.shown import prepare_shown
    from bnexp.plan.compose import compose

    resident = prepare_shown(compose([f"data={name}", *(overrides or [])]).data, stderr())
    counts = {"train": len(resident.train_index), "validation": len(resident.val_index), "test": len(resident.test_labels)}
    facts: dict[str, Any] = {
        "data": resident.name,
        "classes": ", ".join(resident.class_names),
        "image": f"{resident.in_channels}x{resident.size}x{resident.size}",
        **{f"{split}_images": count for split, count in counts.items()},
        "mean": " ".join(f"{value:.4f}" for value in resident.mean),
        "std": " ".join(f"{value:.4f}" for value in resident.std),
        "fingerprint": resident.fingerprint,
    }
    print_rows([{"fact": fact, "value": value} for fact, value in facts.items()], format)
