"""The distributions of a W&B sweep file: which keys each takes, its values, and how a uniform number becomes one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnexp.config.keys import alternatives, did_you_mean
from bnexp.config.schema import ConfigError

Value = str | int | float | bool | None  # of one parameter
DIGITS = 6  # significant digits of a drawn number: enough, and short enough to be typed again
GRID_VALUES = 1_000  # most values of one range in a grid


@dataclass(frozen=True)
class Kind:
    """A distribution.

    Args:
        needs: keys that must be given.
        defaults: keys that may be given, with their defaults.
        to_value: a number from 0 to 1 and the keys -> the value with that cumulative probability; None for a list of values.
        is_log: whether values are spread evenly over their logarithms.
    """

    needs: tuple[str, ...] = ("min", "max")
    defaults: Mapping[str, float] | None = None
    to_value: Callable[[float, Mapping[str, float]], float] | None = None
    is_log: bool = False


def _between(u: float, p: Mapping[str, float]) -> float:
    return p["min"] + u * (p["max"] - p["min"])


def _between_logs(u: float, p: Mapping[str, float]) -> float:
    return math.exp(_between(u, {"min": math.log(p["min"]), "max": math.log(p["max"])}))


def _integer(u: float, p: Mapping[str, float]) -> float:
    return min(math.floor(p["min"] + u * (p["max"] - p["min"] + 1)), int(p["max"]))


def _normal(u: float, p: Mapping[str, float]) -> float:
    from scipy import special

    return float(p["mu"] + p["sigma"] * special.ndtri(min(max(u, 1e-12), 1 - 1e-12)))


def _beta(u: float, p: Mapping[str, float]) -> float:
    from scipy import special

    return float(special.betaincinv(p["a"], p["b"], u))


_NORMAL, _SHAPES = {"mu": 0.0, "sigma": 1.0}, {"a": 1.0, "b": 1.0}
_SMOOTH = {
    "uniform": Kind(to_value=_between),
    "log_uniform": Kind(to_value=lambda u, p: math.exp(_between(u, p)), is_log=True),
    "log_uniform_values": Kind(to_value=_between_logs, is_log=True),
    "normal": Kind((), _NORMAL, _normal),
    "log_normal": Kind((), _NORMAL, lambda u, p: math.exp(_normal(u, p)), is_log=True),
    "beta": Kind((), _SHAPES, _beta),
}

# Name -> what W&B's documentation says of it. ``q_NAME`` rounds to multiples of ``q``, which is 1 if it is not given.
KINDS: dict[str, Kind] = {
    "categorical": Kind(("values",)),
    "categorical_w_probabilities": Kind(("values", "probabilities")),
    "constant": Kind(("value",)),
    "int_uniform": Kind(to_value=_integer),
    **_SMOOTH,
    **{f"q_{name}": Kind(kind.needs, {**(kind.defaults or {}), "q": 1.0}, kind.to_value) for name, kind in _SMOOTH.items()},
    "inv_log_uniform": Kind(to_value=lambda u, p: math.exp(-_between(1 - u, p)), is_log=True),
    "inv_log_uniform_values": Kind(to_value=_between_logs, is_log=True),
}
KEYS = tuple(dict.fromkeys(key for kind in KINDS.values() for key in (*kind.needs, *(kind.defaults or ()))))


@dataclass(frozen=True)
class Parameter:
    """What a sweep varies in one key.

    Args:
        name: the key or config group.
        kind: the name of its distribution.
        values: the values of a list or a constant; empty for a range.
        numbers: key of the distribution -> its number.
        probabilities: of each value; empty if all are equally likely.
    """

    name: str
    kind: str
    values: tuple[Value, ...] = ()
    numbers: Mapping[str, float] | None = None
    probabilities: tuple[float, ...] = ()

    @property
    def varies(self) -> bool:
        """Whether it has more than one value."""
        return len(self.values) != 1

    @property
    def is_log(self) -> bool:
        """Whether its axis is best drawn by logarithms."""
        return KINDS[self.kind].is_log

    def grid(self) -> list[Value]:
        """Every value. Raises ConfigError for a range that has no end of them."""
        if self.values:
            return list(self.values)
        numbers = self.numbers or {}
        if self.kind == "int_uniform" or self.kind == "q_uniform":
            step = numbers.get("q", 1)
            first, last = math.ceil(numbers["min"] / step), math.floor(numbers["max"] / step)
            if last - first >= GRID_VALUES:
                raise ConfigError(f"{self.name} has {last - first + 1:,} values for a grid: allowed are {GRID_VALUES:,}.")
            return [_tidy(number * step) for number in range(first, last + 1)]
        raise ConfigError(
            f"{self.name} is a continuous range ({self.kind}), of which method: grid cannot try every value; give values: "
            "[...], or use method: random or bayes."
        )

    def at(self, u: float) -> Value:
        """The value with cumulative probability ``u``, from 0 to 1."""
        if self.values:
            shares = self.probabilities or (1.0,) * len(self.values)
            bounds = np.cumsum(shares) / sum(shares)
            return self.values[min(int(np.searchsorted(bounds, u, side="right")), len(self.values) - 1)]
        numbers, to_value = self.numbers or {}, KINDS[self.kind].to_value
        assert to_value is not None
        value = to_value(u, numbers)
        return _tidy(round(value / q) * q if (q := numbers.get("q")) else value)


def _tidy(value: float) -> int | float:
    """A number to ``DIGITS`` digits, as an integer if it is one."""
    number = float(f"{value:.{DIGITS}g}")
    return int(number) if number.is_integer() and abs(number) < 10**DIGITS else number


def parameter(name: str, given: Any, place: str) -> Parameter:
    """A parameter as a sweep file describes it.

    Args:
        name: the key or config group.
        given: the mapping that the file has for it.
        place: the file, for messages.

    Raises:
        ConfigError: the file says it in a way that is not possible.
    """
    if isinstance(given, dict) and "parameters" in given:
        raise ConfigError(
            f"{place}: {name} holds parameters of its own, which an override cannot name; write the dotted key, such as "
            f"{name}.lr, with its own values."
        )
    if not isinstance(given, dict) or not given:
        raise ConfigError(
            f"{place}: {name} is {given!r}, not a mapping; write {name}: {{values: [...]}}, {{value: ...}}, or {{min: ..., "
            "max: ...}."
        )
    for key in given:
        if key not in (*KEYS, "distribution"):
            hint = did_you_mean(str(key), KEYS)
            raise ConfigError(f"{place}: {name} has no key {key!r}{alternatives(hint, f'are distribution, {listed(KEYS)}')}")
    chosen = str(given.get("distribution", _usual_kind(given)))
    if chosen not in KINDS:
        hint = did_you_mean(chosen, list(KINDS))
        raise ConfigError(f"{place}: {name} has no distribution {chosen!r}{alternatives(hint, f'are {listed(KINDS)}')}")
    kind = KINDS[chosen]
    allowed = (*kind.needs, *(kind.defaults or ()), "distribution")
    allowed += ("probabilities",) if chosen == "categorical" else ()
    for key in given:
        if key not in allowed:
            raise ConfigError(f"{place}: {name} ({chosen}) has no key {key!r}: allowed are {listed(allowed)}.")
    for key in kind.needs:
        if key not in given:
            raise ConfigError(f"{place}: {name} ({chosen}) lacks {key}: it needs {listed(kind.needs)}.")
    return _of_values(name, chosen, given, place) if kind.to_value is None else _of_range(name, chosen, given, place)


def _usual_kind(given: Mapping[str, Any]) -> str:
    """The distribution that W&B takes if the file names none."""
    if "values" in given:
        return "categorical_w_probabilities" if "probabilities" in given else "categorical"
    if "value" in given:
        return "constant"
    whole = all(isinstance(given.get(key), int) for key in ("min", "max"))
    return "int_uniform" if whole and "min" in given else "uniform"


def _of_values(name: str, kind: str, given: Mapping[str, Any], place: str) -> Parameter:
    values = [given["value"]] if kind == "constant" else given["values"]
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{place}: {name} has no values; write values: [A, B, ...] with at least one.")
    for value in values:
        if isinstance(value, dict | list):
            raise ConfigError(f"{place}: {name} has a list or mapping among its values; write plain values: numbers or words.")
    shares = given.get("probabilities", [])
    numbers = isinstance(shares, list) and all(is_number(share) and share >= 0 for share in shares)
    if shares and not (numbers and len(shares) == len(values) and sum(shares) > 0):
        raise ConfigError(f"{place}: {name} needs one probability of at least 0 for each of its {len(values)} values.")
    return Parameter(name, kind, tuple(map(_as_number, values)), probabilities=tuple(map(float, shares)))


def _of_range(name: str, kind: str, given: Mapping[str, Any], place: str) -> Parameter:
    numbers = dict(KINDS[kind].defaults or {})
    for key, value in given.items():
        if key == "distribution":
            continue
        if not is_number(value):
            meant = _as_number(value)
            hint = f"; YAML reads {value} as text, write {meant:g}" if isinstance(value, str) and is_number(meant) else ""
            raise ConfigError(f"{place}: {key} of {name} is {value!r}, not a number{hint}.")
        numbers[key] = value
    low, high = numbers.get("min"), numbers.get("max")
    if low is not None and high is not None and low >= high:
        raise ConfigError(f"{place}: min of {name} is {low:g}, and has to be below its max of {high:g}.")
    if kind.endswith("log_uniform_values") and low is not None and low <= 0:
        raise ConfigError(f"{place}: min of {name} is {low:g}, and {kind} needs it above 0.")
    if kind in ("log_uniform", "q_log_uniform", "inv_log_uniform") and max(abs(low or 0), abs(high or 0)) > 50:
        raise ConfigError(
            f"{place}: min and max of {name} are exponents of e with {kind}, so {low:g} and {high:g} are too large; for the "
            f"values themselves use distribution: {kind}_values."
        )
    if kind == "int_uniform" and not all(float(number).is_integer() for number in numbers.values()):
        raise ConfigError(f"{place}: {name} is int_uniform, which needs whole numbers for min and max.")
    for key in ("q", "sigma", "a", "b"):
        if numbers.get(key, 1.0) <= 0:
            raise ConfigError(f"{place}: {key} of {name} is {numbers[key]:g}: allowed is a number above 0.")
    item = Parameter(name, kind, numbers=numbers)
    try:
        if all(math.isfinite(float(str(item.at(u)))) for u in (0.0, 1.0)):
            return item
    except OverflowError:  # of an exponential
        pass
    raise ConfigError(
        f"{place}: {name} ({kind}) has values beyond the largest number with these keys; they are exponents of e."
    )


def is_number(value: Any) -> bool:
    """Whether a value of a file is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _as_number(value: Any) -> Any:
    """The number that a text like ``1e-3`` stands for, which YAML leaves as text; any other value as it is."""
    try:
        return float(value) if isinstance(value, str) and value[:1] in "+-.0123456789" else value
    except ValueError:
        return value


def listed(names: Iterable[str]) -> str:
    """Names with commas between them."""
    return ", ".join(names)
