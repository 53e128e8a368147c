"""Declarations, as study files write them: what is no field, or of another type, is refused where it is written."""

import dataclasses
import types
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, get_args, get_origin, get_type_hints

from harness.errors import UserError, unknown_name

PLAIN = {str: "text", int: "a whole number", bool: "True or False"}


class Declared(type):
    """The type of dataclasses whose values users write by hand."""

    def __call__(cls, *values: Any, **words: Any) -> Any:
        """Make one.

        Raises:
            UserError: a word that is no field, a value of another type than its field's, or a field that is missing.
        """
        kinds = _kinds(cls)
        for name in words:
            if name not in kinds:
                raise unknown_name(f"field of {cls.__name__}", name, kinds)
        given = {**dict(zip(kinds, values, strict=False)), **words}
        for name, value in given.items():
            for place, found, allowed in _wrong(name, value, kinds[name]):
                raise UserError(f"{cls.__name__}: {place}={found!r:.60} is not possible; allowed: {allowed}")
        if lacking := [name for name in _required(cls) if name not in given]:
            raise UserError(f"{cls.__name__}({_named(given)}) lacks {', '.join(lacking)}")
        return super().__call__(*values, **words)


def _named(given: Mapping[str, Any]) -> str:
    """By what its writer knows a declaration, where that is said."""
    return next((f"{name}={given[name]!r}" for name in ("name", "key", "label") if name in given), "...")


@lru_cache
def _required(cls: type) -> list[str]:
    """The fields without which there is none."""
    nothing = dataclasses.MISSING
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # cls is a dataclass
    return [f.name for f in fields if f.init and f.default is nothing and f.default_factory is nothing]


@lru_cache
def _kinds(cls: type) -> dict[str, Any]:
    """Field -> its type, in the order in which values without names are given."""
    hints = get_type_hints(cls)
    fields = [field for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]  # cls is a dataclass
    return {field.name: hints[field.name] for field in sorted(fields, key=lambda field: bool(field.kw_only))}


def _wrong(place: str, value: Any, kind: Any) -> Iterator[tuple[str, Any, str]]:
    """What does not fit a type, inside too: where it stands, what stands there, and what may."""
    outer, inside = get_origin(kind), get_args(kind)
    if kind in PLAIN:
        if type(value) is not kind:
            yield place, value, PLAIN[kind]
    elif kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield place, value, "a number"
    elif outer is tuple:
        if isinstance(value, tuple | list):
            for number, one in enumerate(value):
                yield from _wrong(f"{place}[{number}]", one, inside[0])
        else:
            yield place, value, "a tuple, which has a comma even where it holds one: (..., )"
    elif outer is Mapping:
        if isinstance(value, Mapping):
            for key, one in value.items():
                yield from _wrong(f"{place}[{key!r}]", one, inside[1])
        else:
            yield place, value, "a dict"
    elif outer is types.UnionType:
        if not isinstance(value, kind):
            yield place, value, " or ".join("None" if one is type(None) else one.__name__ for one in inside)
    elif isinstance(kind, type) and not isinstance(value, kind):
        yield place, value, f"a {kind.__name__}(...)"
