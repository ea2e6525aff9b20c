"""Who may see what of the manager's page. Accounts, sessions, lock-outs and signing in are those of the boxes' page."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import sqlalchemy as sql
from flask import Flask, Response, g, request, url_for

from edge.store.audit import actions
from edge.store.audit.message import AuditMessage
from edge.web import sign_in
from edge.web.accounts import Role
from edge.web.audit import acting, record
from edge.web.dependencies import Entrance, entrance, provide
from edge.web.permissions import FORM_FIELD, OPEN, PEOPLE, comes_from_own_page, recognise
from edge.web.problems import Problem
from edge.web.sessions import form_token

KEEPERS = frozenset((Role.ADMINISTRATOR, Role.SERVICE))

PERMISSIONS: dict[str, frozenset[Role]] = {
    "static": OPEN,
    "console.static": OPEN,
    "sign_in.sign_in_form": OPEN,
    "sign_in.sign_in": OPEN,
    "sign_in.first_account_form": OPEN,
    "sign_in.first_account": OPEN,
    "sign_in.sign_out": PEOPLE,
    "console.overview": PEOPLE,
    "console.sites": PEOPLE,
    "console.answers": PEOPLE,
    "console.box": PEOPLE,
    "console.metrics": PEOPLE,
    "console.apart": KEEPERS,
    "console.audit": frozenset((Role.ADMINISTRATOR,)),
    "orders.overview": PEOPLE,
    "orders.watch": PEOPLE,
    "orders.form": KEEPERS,
    "orders.order": KEEPERS,
    "orders.stop": KEEPERS,
}
"""Route and roles: what is not in the table is closed. Nothing here is about a patient: all people see most of it."""

BY_ITSELF = "auto"
"""A page that loads itself anew says so in its address: that is no use of the session, and does not keep it open."""


@dataclass(frozen=True, kw_only=True)
class Dependencies(Entrance):
    """What the routes work with; all of it is passed in.

    Attributes:
        engine: The database, for reading.
        writing: The same, for what is ordered.
        interval: Seconds between two health messages of a box.
        wanted: The digest that each of these models is to have, by the model's id.
        metrics_token: What a program brings that reads `/metrics`; empty for none.
    """

    session_cookie = "scanside_fleet_session"
    form_cookie = "scanside_fleet_form"

    engine: sql.Engine
    writing: sql.Engine
    interval: float
    wanted: Mapping[str, str] = field(default_factory=dict)
    metrics_token: str = ""

    def home(self, role: Role) -> str:  # noqa: ARG002 - one page for all
        """All boxes."""
        return url_for("console.overview")


def given() -> Dependencies:
    """Those of the app that handles this request."""
    dependencies = entrance()
    assert isinstance(dependencies, Dependencies)  # noqa: S101 - narrows the type of Flask's open dictionary
    return dependencies


def tell(action: Callable[..., AuditMessage], *details: object) -> None:
    """Tell the trail what the person who is signed in does."""
    record(action(given().audit.source, acting(), *details))


def register(app: Flask, dependencies: Dependencies) -> None:
    """Check every request of the app, and let people sign in."""
    provide(app.extensions, dependencies)
    app.before_request(_check)
    app.register_blueprint(sign_in.blueprint)
    app.context_processor(
        lambda: {
            "person": g.get("person"),
            "keeper": bool(g.get("person")) and g.person.role in KEEPERS,
            "form_field": FORM_FIELD,
            "form_token": form_token(g.secret) if g.get("secret") else "",
        }
    )


def _check() -> Response | None:
    """Let the request through, or answer it: sign in first, not for this role, or not from this page's own form."""
    if request.endpoint == "console.metrics" and _brings_token():
        g.person, g.secret = None, ""
        return None
    recognise(request.cookies.get(given().session_cookie, ""), renew=BY_ITSELF not in request.args)
    if request.endpoint is None:
        return None  # 404 or 405: Flask's own answer
    roles = PERMISSIONS.get(request.endpoint)
    if roles is None:
        raise Problem(HTTPStatus.FORBIDDEN, "this route is in no permission: it is closed")
    if roles and g.person is None:
        return Response(status=HTTPStatus.SEE_OTHER, headers={"Location": url_for("sign_in.sign_in_form")})
    if roles and g.person.role not in roles:
        tell(actions.restricted, f"{request.method} {request.url_rule}")
        detail = f"the role {g.person.role} does not see this: ask an administrator for another role"
        raise Problem(HTTPStatus.FORBIDDEN, detail)
    if request.method == "POST" and not comes_from_own_page():
        detail = "the form is not, or no longer, this page's: load the page anew and try again"
        raise Problem(HTTPStatus.FORBIDDEN, detail)
    return None


def _brings_token() -> bool:
    brought, wanted = request.authorization, given().metrics_token
    token = (brought.token or "") if brought and brought.type == "bearer" else ""
    return bool(wanted) and hmac.compare_digest(token.encode(), wanted.encode())
