"""Finds how much a YAML file holds before it is read: a few lines of aliases can stand for more than fits into memory."""

from __future__ import annotations

from pathlib import Path

from bnexp.config.schema import ConfigError

MAX_BYTES = 2**20
MAX_VALUES = 10_000  # keys and values in a file, counted as if each alias were written out
MAX_DEPTH = 50  # lists and mappings inside each other


def check_size(path: Path) -> None:
    """Raise ConfigError if the file holds too much or is not UTF-8. Other mistakes in it are found by whoever reads it next."""
    import yaml

    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} has more than {MAX_BYTES // 2**20} MiB; write a shorter one.")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    total = 0
    started: list[tuple[str | None, int]] = []  # open lists and mappings: anchor, number of values before it
    sizes: dict[str, int] = {}  # anchor -> the number of values that an alias of it stands for
    with path.open(encoding="utf-8") as file:
        try:
            for event in yaml.parse(file, Loader=loader):
                if isinstance(event, yaml.AliasEvent):
                    if any(anchor == event.anchor for anchor, _ in started):
                        raise ConfigError(
                            f"{path} contains *{event.anchor} inside &{event.anchor}, which never ends; remove it."
                        )
                    total += sizes.get(str(event.anchor), 1)
                elif isinstance(event, yaml.CollectionEndEvent):
                    anchor, before = started.pop()
                    sizes |= {anchor: total - before} if anchor else {}
                elif isinstance(event, yaml.NodeEvent):
                    total += 1
                    if isinstance(event, yaml.CollectionStartEvent):
                        started.append((event.anchor, total - 1))
                if total > MAX_VALUES:
                    raise ConfigError(
                        f"{path} holds more than {MAX_VALUES:,} values, with each alias (*name) counted in full; write fewer."
                    )
                if len(started) > MAX_DEPTH:
                    raise ConfigError(f"{path} has more than {MAX_DEPTH} lists and mappings inside each other; write fewer.")
        except UnicodeDecodeError:
            raise ConfigError(f"{path} is not text in UTF-8; save it as such.") from None
        except yaml.YAMLError:
            return
