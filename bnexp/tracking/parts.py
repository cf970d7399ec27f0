"""Reads the configurations of many runs quickly: they differ in a few lines, and every other part is parsed once.

PyYAML takes 2 ms for the configuration of a run, so 20 s for ten thousand. The text is divided at the keys of its first two
levels; equal parts have equal values. What is written in any other way than runs write it is left to the ordinary reader, which
also says what is wrong with a damaged file.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from bnexp.plan.spec import flatten

_KEY = re.compile(r"^([A-Za-z_]\w*):(?= |$)", re.MULTILINE)
_INSIDE = (" ", "- ")  # how a line begins that belongs to the key above it
LONGEST = 20_000  # characters of a part that is kept; those of a study have 3,000
MOST_PARTS = 4096  # that are kept, at most 80 MB

Items = tuple[tuple[str, Any], ...]


def flat_settings(text: str) -> tuple[set[str], dict[str, Any]] | None:
    """A configuration as ``{dotted key: value}``, with the names of its first level; None if it has to be read as a whole.

    Args:
        text: YAML, as ``StoreSink`` writes it.
    """
    parts = _divided(text)
    if parts is None:
        return None
    found: dict[str, Any] = {}
    for _, part in parts:
        items = _items(part, "", True)
        if items is None:
            return None
        found.update(items)
    return {name for name, _ in parts}, found


def _divided(text: str) -> list[tuple[str, str]] | None:
    """Each key of the outermost level with its part of the text; None if the text is not simply one key after another."""
    starts = list(_KEY.finditer(text))
    if not starts or starts[0].start() or not text.endswith("\n"):
        return None
    names = [found[1] for found in starts]
    ends = [found.start() for found in starts[1:]] + [len(text)]
    if len(set(names)) < len(names):
        return None
    parts = [text[found.start() : end] for found, end in zip(starts, ends, strict=True)]
    if any(not line.startswith(_INSIDE) for part in parts for line in part.splitlines()[1:]):
        return None
    return list(zip(names, parts, strict=True))


def _items(part: str, prefix: str, divide: bool) -> Items | None:
    """The dotted keys and values of a part; None if it has to be read with the rest."""
    return _kept(part, prefix, divide) if len(part) <= LONGEST else None


@lru_cache(MOST_PARTS)
def _kept(part: str, prefix: str, divide: bool) -> Items | None:
    first, _, rest = part.partition("\n")
    inner = "".join(line[2:] + "\n" for line in rest.splitlines()) if divide and first.endswith(":") else ""
    if inner and all(line.startswith("  ") for line in rest.splitlines()) and (inside := _divided(inner)):
        items = [_items(own, f"{prefix}{first}"[:-1] + ".", False) for _, own in inside]
        return None if None in items else tuple(item for own in items if own is not None for item in own)
    value = _plain(part)
    return None if value is None else tuple(flatten(value, prefix).items())


def _plain(text: str) -> dict[str, Any] | None:
    """A mapping of plain values; None if the text is anything else, is nested deeply, or has aliases."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > 6 or isinstance(event, yaml.AliasEvent):
                return None
        value = yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError):
        return None
    return value if isinstance(value, dict) else None
