"""Comparing a fact with the value a rule names."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from services.compliance import versions
from services.compliance.rules import Operator

_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


def holds(how: Operator, observed: Any, wanted: Any) -> bool | None:
    """Whether the comparison holds; None when values of these types cannot be compared."""
    if how in _ORDERS:
        if _kind(observed) != "number":
            return None
        return _ORDERS[how](observed, wanted)
    if how in {"contains", "version_at_least"}:
        if not isinstance(observed, str):
            return None
        return wanted in observed if how == "contains" else versions.at_least(observed, wanted)
    return _equal(how, observed, wanted if isinstance(wanted, list) else [wanted])


def _equal(how: str, observed: Any, wanted: list[Any]) -> bool | None:
    """Compare with values of the same type only: text never equals a number, nor 1 true."""
    comparable = [value for value in wanted if _kind(value) == _kind(observed)]
    if not comparable:
        return None
    return (observed in comparable) == (how in {"eq", "in"})


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "flag"
    return "number" if isinstance(value, int | float) else type(value).__name__
