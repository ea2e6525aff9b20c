"""Who may use which route, and which tokens: two tables, and the check before every request. The rest is closed."""

from __future__ import annotations

from http import HTTPStatus
from typing import NoReturn

from flask import Flask, Response, g, request, url_for

from edge.store.audit import actions
from edge.web.accounts import Role
from edge.web.addresses import OWN_PAGE
from edge.web.audit import acting
from edge.web.bodies import admit
from edge.web.credentials import BASIC_CHALLENGE, basic_person, bearer_token
from edge.web.dependencies import Dependencies, entrance, given
from edge.web.languages import gettext
from edge.web.problems import Problem, for_program
from edge.web.sessions import Person, form_token_fits
from edge.web.tokens import Scope

SESSION_COOKIE = Dependencies.session_cookie
FORM_COOKIE = Dependencies.form_cookie

FORM_FIELD = "form_token"
FORM_HEADER = "X-Form-Token"

OPEN: frozenset[Role] = frozenset()
"""For everybody, without a session."""

PEOPLE = frozenset(Role) - {Role.SENDER}
PATIENT_DATA = PEOPLE - {Role.SERVICE}
SENDING = PATIENT_DATA | {Role.SENDER}
ADMINISTRATION = frozenset({Role.ADMINISTRATOR})

PERMISSIONS: dict[str, frozenset[Role]] = {
    "static": OPEN,
    "sign_in.sign_in_form": OPEN,
    "sign_in.sign_in": OPEN,
    "sign_in.first_account_form": OPEN,
    "sign_in.first_account": OPEN,
    "probes.healthz": OPEN,
    "probes.readyz": OPEN,
    "probes.alert": OPEN,
    "sign_in.sign_out": PEOPLE,
    "access.page": PEOPLE,
    "access.end_session": PEOPLE,
    "access.make_token": ADMINISTRATION,
    "access.revoke_token": ADMINISTRATION,
    "access.audit_trail": ADMINISTRATION,
    "access.veil": PATIENT_DATA,
    "pages.device": PEOPLE,
    "live.device_page": PEOPLE,
    "api.health": PEOPLE,
    "api.history": PEOPLE,
    "api.trends": PEOPLE,
    "api.errors": PEOPLE,
    "api.models": PEOPLE,
    "api.openapi": PEOPLE,
    "probes.metrics": PEOPLE,
    "pages.worklist": PATIENT_DATA,
    "pages.study": PATIENT_DATA,
    "pages.acknowledge": PATIENT_DATA,
    "pages.find_patient": PATIENT_DATA,
    "live.row": PATIENT_DATA,
    "live.study": PATIENT_DATA,
    "live.device": PATIENT_DATA,
    "live.changes": PATIENT_DATA,
    "live.events": PATIENT_DATA,
    "api.results": PATIENT_DATA,
    "api.find": PATIENT_DATA,
    "api.result": PATIENT_DATA,
    "api.image": PATIENT_DATA,
    "api.overlay": PATIENT_DATA,
    "api.acknowledge": PATIENT_DATA,
    "upload.form": PATIENT_DATA,
    "upload.take": PATIENT_DATA,
    "upload.received": PATIENT_DATA,
    "stow.store_instances": SENDING,
    "stow.store_in_study": SENDING,
}

SCOPES: dict[str, Scope] = {
    "api.results": Scope.READ_RESULTS,
    "api.find": Scope.READ_RESULTS,
    "api.result": Scope.READ_RESULTS,
    "api.image": Scope.READ_RESULTS,
    "api.overlay": Scope.READ_RESULTS,
    "live.events": Scope.READ_RESULTS,
    "api.acknowledge": Scope.ACKNOWLEDGE,
    "stow.store_instances": Scope.SEND,
    "stow.store_in_study": Scope.SEND,
    "api.health": Scope.READ_DEVICE,
    "api.history": Scope.READ_DEVICE,
    "api.trends": Scope.READ_DEVICE,
    "api.errors": Scope.READ_DEVICE,
    "api.models": Scope.READ_DEVICE,
    "api.openapi": Scope.READ_DEVICE,
    "probes.metrics": Scope.READ_DEVICE,
}
"""Which scope of an API token opens a route, for an account whose role may use it. No token opens any other."""

UNASKED = frozenset(("static", "probes.healthz", "probes.readyz", "probes.alert"))
"""Where it makes no difference who asks, so that no file is opened to find it out."""

BY_PASSWORD = frozenset(("stow.store_instances", "stow.store_in_study"))
"""Programs may bring name and password (HTTP Basic) instead of a session. No page of another site can have a browser do
it: the request must have a Content-Type that forms cannot have, and that scripts may not send to another origin."""

BRINGS_IMAGES = BY_PASSWORD | {"upload.take"}
BY_ITSELF = frozenset(("upload.received",))
"""Pages that look again by themselves; the fragments of `live` are fetched by a script likewise."""

_CHANGES_NOTHING = ("GET", "HEAD", "OPTIONS")


def register(app: Flask) -> None:
    """Check every request of the app."""
    app.before_request(check)


def check() -> Response | None:
    """Let the request through, or answer it: sign in first, not for this role, or not from this box's own form.

    Sets `g.person` (None without a session), `g.secret` (the cookie that forms are bound to, empty without one) and
    `g.still` (whether whoever asks may still see what a stream goes on telling).
    """
    endpoint = request.endpoint
    program = _program()
    if not program:
        _recognise_session()
    if endpoint is None:
        return None  # 404 or 405: Flask's own answer
    roles = PERMISSIONS.get(endpoint)
    if roles is None:
        raise Problem(HTTPStatus.FORBIDDEN, gettext("this route is in no permission: it is closed"))
    if roles and g.person is None:
        return _ask_to_sign_in()
    if roles and g.person.role not in roles:
        detail = gettext(
            "the role %(role)s does not see this: ask an administrator for another role", role=gettext(g.person.role)
        )
        _refuse("not for this role", detail)
    if endpoint in BRINGS_IMAGES:
        admit(form=endpoint not in BY_PASSWORD)
    if not program and request.method not in _CHANGES_NOTHING and not comes_from_own_page():
        detail = gettext("the form is not, or no longer, this page's: load the page anew and try again")
        raise Problem(HTTPStatus.FORBIDDEN, detail)
    return None


def _program() -> bool:
    """Whether a program asks, by a token or a password of its own; what it may not do is refused."""
    token = bearer_token() if PERMISSIONS.get(request.endpoint or "") else None
    if token:
        g.person, g.secret, brought = Person(name=token.name, role=token.role), "", request.authorization
        secret = (brought.token if brought else None) or ""
        tokens = given().tokens
        g.still = lambda: tokens.find(secret) is not None
        scope = SCOPES.get(str(request.endpoint))
        if scope not in token.scopes:
            needs = f"this needs a token with the scope {scope}" if scope else "no token opens this: sign in instead"
            _refuse("not in the token's scopes", needs)
        return True
    person = basic_person() if request.endpoint in BY_PASSWORD else None
    if person:
        g.person, g.secret, g.still = person, "", lambda: True
    return person is not None


def _recognise_session() -> None:
    token = "" if request.endpoint in UNASKED else request.cookies.get(SESSION_COOKIE, "")
    sessions = given().sessions
    recognise(token, renew=request.blueprint != "live" and request.endpoint not in BY_ITSELF)
    g.still = lambda: sessions.person(token, renew=False) is not None


def recognise(token: str, *, renew: bool) -> None:
    """Set `g.person` and `g.secret` by the token of a session; `renew` as in `Sessions.person`."""
    g.person = entrance().sessions.person(token, renew=renew) if token else None
    g.secret = token if g.person else request.cookies.get(entrance().form_cookie, "")


def _refuse(why: str, detail: str) -> NoReturn:
    source, route = given().audit.source, str(request.url_rule)
    refused = actions.restricted(source, acting(), f"{request.method} {route}", why)
    given().audit.record_once({f"restricted {acting()} {request.endpoint}": refused})
    raise Problem(HTTPStatus.FORBIDDEN, detail)


def _ask_to_sign_in() -> Response:
    if for_program():
        by_password = request.endpoint in BY_PASSWORD
        challenge = BASIC_CHALLENGE if by_password else {"WWW-Authenticate": 'Cookie realm="Scanside"'}
        raise Problem(
            HTTPStatus.UNAUTHORIZED, "not signed in, or signed out after idling: sign in at /sign-in", challenge
        )
    wanted = request.path if request.method == "GET" and OWN_PAGE.fullmatch(request.path) else None
    target = url_for("sign_in.sign_in_form", next=wanted)
    return Response(status=HTTPStatus.SEE_OTHER, headers={"Location": target})


def comes_from_own_page() -> bool:
    """Whether a form brings the token that this page gave to this browser."""
    token = request.headers.get(FORM_HEADER) or request.form.get(FORM_FIELD, "")
    return bool(g.secret) and form_token_fits(g.secret, token)
