"""How a person wants to see the page: its language and its light.

Kept in cookies of the browser, so that it works without a script and before signing in. Links `?language=fr` and
`?theme=dark` choose; any page takes them.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import get_args
from urllib.parse import urlencode

from flask import Flask, Response, request

from edge.config_section import Language
from edge.web.addresses import is_own

CHOICES: dict[str, tuple[str, ...]] = {"language": get_args(Language), "theme": ("auto", "light", "dark")}
"""What may be chosen, and how each is named in cookies and links. `auto` follows the device's own setting."""

_A_YEAR = 365 * 24 * 3600


def register(app: Flask) -> None:
    """Take choices before everything else, and give templates the links to them."""
    app.before_request(_take)
    app.context_processor(lambda: {"theme": chosen("theme") or "auto", "themes": CHOICES["theme"], "link_to": link_to})


def chosen(name: str) -> str | None:
    """What this browser has chosen; None when it has not."""
    value = request.cookies.get(f"scanside_{name}")
    return value if value in CHOICES[name] else None


def link_to(name: str, value: str) -> str:
    """Where a choice is made: this same address with one parameter more."""
    return "?" + urlencode([*_other_parameters(), (name, value)])


def _other_parameters() -> list[tuple[str, str]]:
    """Those of the page itself: what else somebody typed is not repeated."""
    return [(name, value) for name, value in request.args.items(multi=True) if is_own(name, value)]


def _take() -> Response | None:
    """Keep what the address chooses, and lead back to the same page without it."""
    taken = {name: request.args[name] for name in CHOICES if request.args.get(name) in CHOICES[name]}
    if request.method != "GET" or not taken:
        return None
    rest = urlencode(_other_parameters())
    target = "/" + request.path.lstrip("/") + (f"?{rest}" if rest else "")  # never //host, which would lead elsewhere
    response = Response(status=HTTPStatus.SEE_OTHER, headers={"Location": target})
    for name, value in taken.items():
        response.set_cookie(
            f"scanside_{name}", value, max_age=_A_YEAR, httponly=True, samesite="Strict", secure=request.is_secure
        )
    return response
