"""What a value must be: an error names the field, what was found, and what is allowed."""

import difflib
import math
from collections.abc import Collection


def one_of(name: str, value, known: Collection) -> None:
    """Raise ValueError unless a value is among the known ones; the message names the nearest."""
    if value not in known:
        near = difflib.get_close_matches(str(value), map(str, known), 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(str, known))}{hint}")


def some_of(name: str, values, known: Collection) -> None:
    """Raise ValueError unless values are a list of one or more of the known ones; a text is no list."""
    if isinstance(values, str) or not isinstance(values, Collection) or not values:
        raise ValueError(f"{name} is {values!r}; it must be a list of some of {', '.join(map(str, known))}")
    for value in values:
        one_of(name, value, known)


def only(what: str, given: Collection[str], known: Collection[str]) -> None:
    """Raise ValueError for a name that is not among the known ones: `what` has no such field."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"{what} has no {name!r}; it has: {', '.join(known)}{hint}")


def number(
    name: str,
    value,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: float | None = None,
    whole: bool = False,
) -> None:
    """Raise ValueError unless a value is a finite number in a range.

    Args:
        low, high: the smallest and largest that is allowed.
        above: it must be larger than this.
        whole: it must be an int.
    """
    kind = "a whole number" if whole else "a number"
    ends = [f"above {above:g}"] if above is not None else [f"{low:g} or more"] if low > -math.inf else []
    ends += [f"{high:g} or less"] if high < math.inf else []
    wanted = " ".join([kind, " and ".join(ends)]).strip()
    types = int if whole else (int, float)
    right = isinstance(value, types) and not isinstance(value, bool) and math.isfinite(value)
    if not right or not low <= value <= high or above is not None and value <= above:
        text = isinstance(value, str) and "e" in value.lower()
        hint = f" (YAML reads {value} as text: write a dot, as in 1.0e-5)" if text else ""
        raise ValueError(f"{name} is {value!r}; it must be {wanted}{hint}")


def flag(name: str, value) -> None:
    """Raise ValueError unless a value is True or False; words like "no" are neither."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be True or False")
