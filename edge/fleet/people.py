"""Who may see what of the manager's page: accounts, sessions and lock-outs are those of the status page."""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import sqlalchemy as sql
from flask import Blueprint, Flask, Response, current_app, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from edge import events
from edge.events import emit
from edge.store.audit import AuditTrail, actions
from edge.store.audit.actions import Person
from edge.store.audit.message import AuditMessage
from edge.web.accounts import Account, AccountError, Accounts, Busy, Role, normal_name
from edge.web.lockout import FIRST_ACCOUNT, Failures
from edge.web.problems import Problem
from edge.web.sessions import Sessions, form_token, form_token_fits, new_secret

SESSION_COOKIE = "scanside_fleet_session"
FORM_COOKIE = "scanside_fleet_form"
FORM_FIELD = "form_token"

OPEN: frozenset[Role] = frozenset()
"""For everybody, without a session."""

PEOPLE = frozenset(Role) - {Role.SENDER}
"""Nothing here is about a patient, so all roles of people see it."""

KEEPERS = frozenset((Role.ADMINISTRATOR, Role.SERVICE))

PERMISSIONS: dict[str, frozenset[Role]] = {
    "static": OPEN,
    "console.static": OPEN,
    "people.sign_in_form": OPEN,
    "people.sign_in": OPEN,
    "people.first_account_form": OPEN,
    "people.first_account": OPEN,
    "people.sign_out": PEOPLE,
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
"""Route and roles: what is not in the table is closed."""

BY_ITSELF = "auto"
"""A page that loads itself anew says so in its address: that is no use of the session, and does not keep it open."""

_NAME = "scanside-fleet"
blueprint = Blueprint("people", __name__)


@dataclass(frozen=True, kw_only=True)
class Dependencies:
    """What the routes work with; all of it is passed in.

    Attributes:
        engine: The database, for reading.
        writing: The same, for what is ordered.
        audit: Is told who does what.
        interval: Seconds between two health messages of a box.
        metrics_token: What a program brings that reads `/metrics`; empty for none.
        clock: Seconds since the epoch.
    """

    engine: sql.Engine
    writing: sql.Engine
    audit: AuditTrail
    accounts: Accounts
    sessions: Sessions
    failures: Failures
    interval: float
    clock: Callable[[], float]
    metrics_token: str = ""


class _Refused(Exception):  # noqa: N818 - an answer, not a defect
    def __init__(self, words: str, status: HTTPStatus = HTTPStatus.FORBIDDEN) -> None:
        super().__init__(words)
        self.status = status


def given() -> Dependencies:
    """Those of the app that handles this request."""
    dependencies = current_app.extensions[_NAME]
    assert isinstance(dependencies, Dependencies)  # noqa: S101 - narrows the type of Flask's open dictionary
    return dependencies


def tell(action: Callable[..., AuditMessage], *details: object, name: str | None = None, **more: object) -> None:
    """Tell the trail what the person who is signed in, or named, does."""
    who = Person(g.person.name if name is None else name, request.remote_addr or "")
    given().audit.record(action(given().audit.source, who, *details, **more))


def register(app: Flask, dependencies: Dependencies) -> None:
    """Check every request of the app, and let people sign in."""
    app.extensions[_NAME] = dependencies
    app.before_request(_check)
    app.register_blueprint(blueprint)
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
    token = request.cookies.get(SESSION_COOKIE, "")
    if request.endpoint == "console.metrics" and _brings_token():
        g.person, g.secret = None, ""
        return None
    g.person = given().sessions.person(token, renew=BY_ITSELF not in request.args) if token else None
    g.secret = token if g.person else request.cookies.get(FORM_COOKIE, "")
    if request.endpoint is None:
        return None  # 404 or 405: Flask's own answer
    roles = PERMISSIONS.get(request.endpoint)
    if roles is None:
        raise Problem(HTTPStatus.FORBIDDEN, "this route is in no permission: it is closed")
    if roles and g.person is None:
        return Response(status=HTTPStatus.SEE_OTHER, headers={"Location": url_for("people.sign_in_form")})
    if roles and g.person.role not in roles:
        tell(actions.restricted, f"{request.method} {request.url_rule}")
        detail = f"the role {g.person.role} does not see this: ask an administrator for another role"
        raise Problem(HTTPStatus.FORBIDDEN, detail)
    own = bool(g.secret) and form_token_fits(g.secret, request.form.get(FORM_FIELD, ""))
    if request.method == "POST" and not own:
        detail = "the form is not, or no longer, this page's: load the page anew and try again"
        raise Problem(HTTPStatus.FORBIDDEN, detail)
    return None


def _brings_token() -> bool:
    brought, wanted = request.authorization, given().metrics_token
    token = (brought.token or "") if brought and brought.type == "bearer" else ""
    return bool(wanted) and hmac.compare_digest(token.encode(), wanted.encode())


@blueprint.get("/sign-in")
def sign_in_form() -> BaseResponse:
    """The sign-in form."""
    if g.person:
        return redirect(url_for("console.overview"), HTTPStatus.SEE_OTHER)
    if given().accounts.awaits_first():
        return redirect(url_for("people.first_account_form"), HTTPStatus.SEE_OTHER)
    return _form()


@blueprint.post("/sign-in")
def sign_in() -> BaseResponse:
    """With a right name and password, a session."""
    name, password = request.form.get("name", ""), request.form.get("password", "")
    account = _guarded(normal_name(name), lambda: given().accounts.verify(name, password))
    if account is None:
        raise _Refused("The user name or the password is not right.")
    if account.role is Role.SENDER:
        tell(actions.sign_in_refused, "an account for programs", name=account.name)
        raise _Refused("This account is for programs that send images: it sees nothing here.")
    return _open_session(account)


@blueprint.get("/first-account")
def first_account_form() -> BaseResponse:
    """The form for the first account; gone when there is one."""
    if not given().accounts.awaits_first():
        return redirect(url_for("people.sign_in_form"), HTTPStatus.SEE_OTHER)
    return _form()


@blueprint.post("/first-account")
def first_account() -> BaseResponse:
    """Creates the first administrator with the code that stands on the console, and signs in."""
    code, name, password = (request.form.get(field, "") for field in ("code", "name", "password"))
    account = _guarded(FIRST_ACCOUNT, lambda: given().accounts.create_first(code, name, password))
    if account is None:
        raise _Refused("This is not the code on the console.")
    emit(events.FIRST_ACCOUNT)
    tell(
        actions.account_changed,
        account.name,
        f"created with the first-boot code, role {account.role}",
        name=account.name,
    )
    return _open_session(account)


@blueprint.post("/sign-out")
def sign_out() -> BaseResponse:
    """Ends the session."""
    given().sessions.close(g.secret)
    tell(actions.signed_out)
    response = redirect(url_for("people.sign_in_form"), HTTPStatus.SEE_OTHER)
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="Strict")
    return response


@blueprint.errorhandler(_Refused)
def _show_refusal(refused: _Refused) -> Response:
    return _form(str(refused), refused.status)


@blueprint.errorhandler(AccountError)
def _show_account_error(error: AccountError) -> Response:
    return _form(f"{error}.", HTTPStatus.UNPROCESSABLE_ENTITY)


@blueprint.errorhandler(Busy)
def _show_busy(_busy: Busy) -> Response:
    return _form("Others are signing in at this moment. Try again.", HTTPStatus.SERVICE_UNAVAILABLE)


def _guarded(subject: str, attempt: Callable[[], Account | None]) -> Account | None:
    """What an attempt to prove who one is gives; a failure (None) is counted against subject and address."""
    failures, now, address = given().failures, given().clock(), request.remote_addr or "unknown"
    if wait := failures.locked_for(subject, address, now):
        minutes = math.ceil(wait / 60)
        words = f"Too many failed tries. Try again in {minutes} minute{'s' if minutes > 1 else ''}."
        raise _Refused(words, HTTPStatus.TOO_MANY_REQUESTS)
    account = attempt()
    if account:
        failures.clear(subject)
        return account
    count = failures.count(subject, address, now)
    if wait := failures.locked_for(subject, address, now):
        emit(events.SIGN_IN_LOCKED, seconds=wait, failures=count)
        tell(actions.sign_in_locked, wait, name=subject)
    else:
        emit(events.SIGN_IN_FAILED, error="wrong name, password or code")
        tell(actions.sign_in_refused, "wrong name, password or code", name=subject)
    return None


def _form(error: str = "", status: HTTPStatus = HTTPStatus.OK) -> Response:
    """This route's form for a browser without session, bound to its secret cookie (made here when it has none)."""
    fresh = not g.secret
    if fresh:
        g.secret = new_secret()
    first = request.path == url_for("people.first_account_form")
    fields = {name: request.form.get(name, "")[:64] for name in ("name", "code")}
    page = render_template("fleet_account.html" if first else "fleet_sign_in.html", error=error, fields=fields)
    response = Response(page, status)
    if fresh:
        _set_cookie(response, FORM_COOKIE, g.secret)
    return response


def _open_session(account: Account) -> BaseResponse:
    tell(actions.signed_in, name=account.name)
    response = redirect(url_for("console.overview"), HTTPStatus.SEE_OTHER)
    _set_cookie(response, SESSION_COOKIE, given().sessions.open(account))
    response.delete_cookie(FORM_COOKIE, httponly=True, samesite="Strict")
    return response


def _set_cookie(response: BaseResponse, name: str, value: str) -> None:
    response.set_cookie(name, value, httponly=True, samesite="Strict", secure=request.is_secure)
