"""Whether values keep the rules of their Value Representation: length, repertoire and form (PS3.5 6.2)."""

from __future__ import annotations

from typing import Any

from pydicom import DataElement, config
from pydicom.multival import MultiValue
from pydicom.valuerep import IS, DSclass, PersonName, validate_value

_STRUCTURED = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI"})


def fits(element: DataElement) -> bool:
    """Whether each value of an element is one of its VR; what is empty is."""
    if element.VR not in _STRUCTURED or element.is_empty:
        return True
    values = element.value if isinstance(element.value, MultiValue | list) else [element.value]
    return all(_fits(element.VR, value) for value in values)


def _fits(vr: str, value: Any) -> bool:
    if isinstance(value, DSclass | IS):
        value = getattr(value, "original_string", None) or str(value)
    elif not isinstance(value, str | bytes | PersonName):
        value = str(value)
    try:
        validate_value(vr, value, config.RAISE)
    except ValueError:
        return False
    return True
