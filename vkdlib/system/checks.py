"""What a value must be: an error names the field, what was found, and what is allowed."""

import difflib
import numbers
import re
import typing
from collections.abc import Collection
from dataclasses import MISSING, Field, field, fields
from math import inf, isfinite
from numbers import Integral


def one_of(name: str, value, known: Collection) -> None:
    """Raise ValueError unless a value is among the known ones; the message names the nearest."""
    if value not in list(known):
        allowed = ", ".join(map(str, known))
        raise ValueError(f"{name} is {value!r}; it must be one of {allowed}{did_you_mean(value, known)}")


def some_of(name: str, values, known: Collection) -> None:
    """Raise ValueError unless values are a list of one or more of the known ones; a text is no list."""
    if isinstance(values, str) or not isinstance(values, Collection) or not values:
        raise ValueError(f"{name} is {values!r}; it must be a list of some of {', '.join(map(str, known))}")
    for value in values:
        one_of(name, value, known)


def check_names(what: str, names: Collection[str], known: Collection[str]) -> None:
    """Raise ValueError for a name that is not among the known ones: `what` has no such field."""
    for name in names:
        if name not in known:
            raise ValueError(f"{what} has no {name!r}; it has: {', '.join(known)}{did_you_mean(name, known)}")


def did_you_mean(value, known: Collection) -> str:
    """A question for the known name nearest to a value, whatever the case of its letters; "" if none is."""
    names = {str(name).lower(): str(name) for name in known}
    near = difflib.get_close_matches(str(value).lower(), names, 1)
    return f" (did you mean {names[near[0]]!r}?)" if near else ""


def number(
    name: str, value, low: float = -inf, high: float = inf, *, above: float = -inf, whole: bool = False
) -> None:
    """Raise ValueError unless a value is a finite number in a range.

    Args:
        low, high: the smallest and the largest that are allowed.
        above: the value must be larger than this.
        whole: it must be a whole number in type, too: Python's int, or one of numpy's.
    """
    is_number = isinstance(value, numbers.Integral if whole else numbers.Real) and not isinstance(value, bool)
    if is_number and -inf < value < inf and above < value and low <= value <= high:
        return
    kind = "a whole number" if whole else "a number"
    limits = {f"above {above:g}": above, f"{low:g} or more": low, f"{high:.10g} or less": high}
    ends = " and ".join(end for end, limit in limits.items() if isfinite(limit))
    hint = ", and finite" if isinstance(value, float) and not isfinite(value) else ""
    if isinstance(value, str) and re.fullmatch(r"[-+]?[\d.]+e[-+]?\d+", value, re.IGNORECASE):
        hint = f" (YAML reads {value} as text: write a dot, as in 1.0e-5)"
    raise ValueError(f"{name} is {value!r}; it must be {kind} {ends}".strip() + hint)


def whole_number(name: str, value, low: float = -inf) -> int:
    """A whole number as an int, for example one of numpy's; raise ValueError for anything else."""
    value = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value
    number(name, value, low, whole=True)
    return value


def flag(name: str, value) -> None:
    """Raise ValueError unless a value is True or False; words like "no" are neither."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be True or False")


def check_type(name: str, value, kind: type) -> None:
    """Raise ValueError unless a value is of a type: bool, int, float (finite numbers), str, list or dict."""
    words = {str: "text", list: "a list", dict: "names and values"}
    if kind is bool:
        flag(name, value)
    elif kind in (int, float):
        number(name, value, whole=kind is int)
    elif not isinstance(value, kind):
        raise ValueError(f"{name} is {value!r}; it must be {words[kind]}")


def make(record: type, what: str, values: dict):
    """A dataclass of named values, for example those of a file.

    Raises:
        ValueError: a value is missing, has a name that is not known, or is not allowed.
    """
    check_names(what, values, [f.name for f in fields(record)])
    for f in fields(record):
        if f.default is f.default_factory is MISSING and f.name not in values:
            raise ValueError(f"{what} has no {f.name}: it is needed")
    return record(**values)


def setting(default=MISSING, **allowed) -> Field:
    """A field of a dataclass, with what `check_fields` allows in it.

    Args:
        allowed: `known`, the values it may have; or `low`, `high`, `above` of `number`.
    """
    return field(default=default, metadata=allowed)


def check_fields(record) -> None:
    """Raise ValueError unless each field of a dataclass fits its annotation and its `setting`; make its
    values `plain`.

    Annotations may be bool, int, float, str, a tuple of one of these, or one of these or None; or dict, from
    names to any of these values and lists of numbers or texts.
    """
    for f in fields(record):
        value = getattr(record, f.name)
        _check_field(f.name, value, f.type, f.metadata)
        object.__setattr__(record, f.name, plain(value))  # it may be frozen


def plain(value):
    """The same value in Python's own types, which JSON can keep: numbers of numpy become int or float. A list
    becomes a tuple."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _check_field(name: str, value, kind, allowed: dict) -> None:
    """Raise ValueError unless a value fits an annotation and what `setting` allows."""
    parts = typing.get_args(kind)
    if type(None) in parts:
        if value is not None:
            _check_field(name, value, parts[0], allowed)
    elif parts:  # a tuple
        check_type(name, list(value) if isinstance(value, tuple) else value, list)
        for place, item in enumerate(value):
            _check_field(f"{name}[{place}]", item, parts[0], allowed)
    elif kind is dict:
        check_type(name, value, dict)
        for key, item in value.items():
            text(f"a name in {name}", key)
            if isinstance(item, list | tuple):
                check = text if item and all(isinstance(part, str) for part in item) else number
                for place, part in enumerate(item):
                    check(f"{key}[{place}] in {name}", part)
            elif not isinstance(item, (bool, str, type(None))):
                number(f"{key} in {name}", item)
    elif "known" in allowed:
        one_of(name, value, allowed["known"])
    elif kind is bool:
        flag(name, value)
    elif kind is str:
        text(name, value)
    else:
        number(name, value, whole=kind is int, **allowed)


def text(name: str, value) -> None:
    """Raise ValueError unless a value is text, and not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {value!r}; it must be text")


def folder_name(name: str, value) -> None:
    """Raise ValueError unless a value can be the name of one folder: letters, digits and signs, no slash."""
    text(name, value)
    if not re.fullmatch(r"[\w][\w .,+=@%-]{0,99}", value) or value.endswith((" ", ".")):
        raise ValueError(
            f"{name} is {value!r}; it names a folder: up to 100 letters, digits, blanks or .,+=@%-_, "
            "beginning with a letter or digit"
        )
