"""How much a YAML file holds, known before it is read: a few lines of aliases can stand for more than any memory holds."""

from __future__ import annotations

from pathlib import Path

from bnexp.config.schema import ConfigError

MAX_VALUES = 10_000  # keys and values of a file, its aliases followed
MAX_DEPTH = 50  # lists and mappings inside each other


def check_size(path: Path) -> None:
    """Raise ConfigError if the file holds too much. Says nothing of a file that is not valid YAML: reading it does."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    total = 0
    started: list[tuple[str | None, int]] = []  # of each list and mapping around: its anchor, and the values before it
    sizes: dict[str, int] = {}  # anchor -> values that an alias of it stands for
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
                        f"{path} holds more than {MAX_VALUES:,} values, its aliases (*name) followed; write fewer."
                    )
                if len(started) > MAX_DEPTH:
                    raise ConfigError(f"{path} has more than {MAX_DEPTH} lists and mappings inside each other; write fewer.")
        except UnicodeDecodeError:
            raise ConfigError(f"{path} is not text in UTF-8; save it as such.") from None
        except yaml.YAMLError:
            return
