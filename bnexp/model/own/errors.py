"""What went wrong in a network of the user's, as one sentence that names a line of their code."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import bnexp
from bnexp.config.factory import blame, on_stderr
from bnexp.config.schema import ConfigError

_OTHERS = (*(str(Path(module.__file__).parent) for module in (bnexp, torch) if module.__file__), contextlib.__file__)


@contextmanager
def told_of(label: str, doing: str = "") -> Iterator[None]:
    """Turn an exception of the user's code into ConfigError; clear ones pass. What the code prints goes to stderr.

    Args:
        label: what the code is, for the message, such as ``model.factory=nets.py:build``.
        doing: what it was asked for, in words; empty: nothing is said of it.
    """
    try:
        with on_stderr():
            yield
    except (ConfigError, torch.OutOfMemoryError):
        raise
    except (Exception, SystemExit) as error:
        lines = traceback.extract_tb(error.__traceback__)
        files = {line.filename: Path(line.filename).resolve() for line in lines if not line.filename.startswith(_OTHERS)}
        where = "".join(f" {part}" for part in (doing, *getattr(error, "__notes__", ())) if part)
        raise ConfigError(f"{label} failed{where}: {blame(error, files)}.") from error
