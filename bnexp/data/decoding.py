"""An image file, as training and prediction read it: whole, upright, 8 bits per channel, without transparency."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bnexp.data.download import DataError

if TYPE_CHECKING:
    from PIL import Image

GREY_MODES = ("1", "L", "LA")
DEEP_MODES = ("I", "F")  # how their names start; Pillow would clip them at 255
SEVERAL_IMAGES = ("MPO",)  # a photograph with its preview or depth, which is no animation


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image as it is read.

    Args:
        image: upright and opaque; in any mode that converts to RGB and to L.
        grey: whether the file has one channel, or one besides transparency.
        notes: what of the file is left out, as clauses that follow "of FILE".
    """

    image: Image.Image
    grey: bool
    notes: tuple[str, ...] = ()


def decode(path: Path, size: int, most_pixels: int | None = None) -> Decoded:
    """Read an image file.

    A photograph is turned as its EXIF tag says. Transparency is dropped; the colours below it stay. Of an animation the first
    image is taken.

    Args:
        path: the file, in any format that Pillow reads but EPS, which runs a program.
        size: side that the image will be resized to, pixels; a JPEG is decoded with about twice as many, if it has them.
        most_pixels: the largest number of pixels that is decoded; None for Pillow's limit.

    Raises:
        DataError: it cannot be read.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.init()  # else only the commonest formats are known
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("no ordinary file")
        with Image.open(path, formats=[name for name in Image.OPEN if name != "EPS"]) as image:
            grey = image.mode in GREY_MODES
            if image.mode.startswith(DEEP_MODES):
                raise ValueError(f"more than 8 bits per channel, mode {image.mode}")
            has_clear_colour = image.mode == "P" and "transparency" in image.info
            moving = image.format not in SEVERAL_IMAGES and getattr(image, "is_animated", False)
            image.draft(None, (2 * size, 2 * size))  # the JPEG decoder may skip detail that resizing would drop
            if most_pixels is not None and image.width * image.height > most_pixels:
                raise ValueError(
                    f"{image.width:,} x {image.height:,} pixels, and at most {most_pixels / 1e6:.0f} million are decoded"
                )
            upright = ImageOps.exif_transpose(image)
            opaque = upright.convert("RGBA") if has_clear_colour else upright  # else Pillow warns
            clear = "A" in opaque.getbands() and opaque.getchannel("A").getextrema()[0] != 255
            opaque.load()
    except Exception as error:  # Pillow's plugins raise many kinds for a broken file
        why = "cannot identify image file" if isinstance(error, UnidentifiedImageError) else error  # else the path again
        raise DataError(f"{shown(path)} cannot be read as an image ({why}): repair, convert or remove it.") from error
    notes = [text for text, is_so in (("all images but the first", moving), ("the transparency", clear)) if is_so]
    return Decoded(opaque, grey, tuple(notes))


def shown(path: str | Path) -> str:
    """The path as text that can be printed, even if its bytes are not UTF-8."""
    return os.fsencode(path).decode(errors="backslashreplace")
