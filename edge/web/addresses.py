"""Addresses that this box has made: what a page may lead to, or repeat in its links."""

from __future__ import annotations

import re

OWN_PAGE = re.compile(r"/(device|access|audit|results/[0-9a-f-]{1,80})?")
"""Where a person may be led after signing in: an address that this box has made, and nothing that somebody typed."""


def is_own(name: str, value: str) -> bool:
    """Whether a parameter of an address is one of the page's own: a way back, or a number to go on from."""
    return bool(OWN_PAGE.fullmatch(value)) if name == "next" else name == "before" and value.isdecimal()
