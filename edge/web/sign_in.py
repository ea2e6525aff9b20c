"""Signing in and out, and the first account, on a box's page and on the manager's."""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint, Response, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from edge import events
from edge.events import emit
from edge.store.audit import actions
from edge.web.accounts import Account, AccountError, Busy, Role
from edge.web.addresses import OWN_PAGE
from edge.web.audit import acting, record
from edge.web.credentials import Locked, guarded, verified
from edge.web.dependencies import entrance
from edge.web.languages import gettext
from edge.web.lockout import FIRST_ACCOUNT
from edge.web.sessions import new_secret

blueprint = Blueprint("sign_in", __name__)


class _Refused(Exception):  # noqa: N818 - an answer, not a defect
    pass


@blueprint.get("/sign-in")
def sign_in_form() -> BaseResponse:
    """The sign-in form."""
    if g.person:
        return redirect(entrance().home(g.person.role), HTTPStatus.SEE_OTHER)
    if entrance().accounts.awaits_first():
        return redirect(url_for("sign_in.first_account_form"), HTTPStatus.SEE_OTHER)
    return _form()


@blueprint.post("/sign-in")
def sign_in() -> BaseResponse:
    """With a right name and password, a session."""
    account = verified(request.form.get("name", ""), request.form.get("password", ""))
    if account is None:
        raise _Refused(gettext("The user name or the password is not right."))
    if account.role is Role.SENDER:
        record(actions.sign_in_refused(entrance().audit.source, acting(account.name), "an account for programs"))
        raise _Refused(gettext("This account is for programs that send images: it sees nothing here."))
    return _open_session(account, request.args.get("next", ""))


@blueprint.get("/first-account")
def first_account_form() -> BaseResponse:
    """The form for the first account; gone when there is one."""
    if not entrance().accounts.awaits_first():
        return redirect(url_for("sign_in.sign_in_form"), HTTPStatus.SEE_OTHER)
    return _form()


@blueprint.post("/first-account")
def first_account() -> BaseResponse:
    """Creates the first administrator with the code that stands on the console, and signs in."""
    code, name, password = (request.form.get(field, "") for field in ("code", "name", "password"))
    account = guarded(FIRST_ACCOUNT, lambda: entrance().accounts.create_first(code, name, password), "wrong code")
    if account is None:
        raise _Refused(gettext("This is not the code on the console."))
    emit(events.FIRST_ACCOUNT)
    what = f"created with the first-boot code, role {account.role}"
    record(actions.account_changed(entrance().audit.source, acting(account.name), account.name, what))
    return _open_session(account, "")


@blueprint.post("/sign-out")
def sign_out() -> BaseResponse:
    """Ends the session."""
    entrance().sessions.close(g.secret)
    record(actions.signed_out(entrance().audit.source, acting()))
    response = redirect(url_for("sign_in.sign_in_form"), HTTPStatus.SEE_OTHER)
    response.delete_cookie(entrance().session_cookie, httponly=True, samesite="Strict")
    return response


@blueprint.errorhandler(_Refused)
def _show_refusal(refused: _Refused) -> Response:
    return _form(str(refused), HTTPStatus.FORBIDDEN)


@blueprint.errorhandler(Locked)
def _show_lock(locked: Locked) -> Response:
    response = _form(str(locked), HTTPStatus.TOO_MANY_REQUESTS)
    response.headers.update(locked.headers)
    return response


@blueprint.errorhandler(AccountError)
def _show_account_error(error: AccountError) -> Response:
    return _form(f"{error}.", HTTPStatus.UNPROCESSABLE_ENTITY)


@blueprint.errorhandler(Busy)
def _show_busy(_busy: Busy) -> Response:
    return _form(gettext("Others are signing in at this moment. Try again."), HTTPStatus.SERVICE_UNAVAILABLE)


def _form(error: str = "", status: HTTPStatus = HTTPStatus.OK) -> Response:
    """This route's form for a browser without session, bound to its secret cookie (made here when it has none)."""
    fresh = not g.secret
    if fresh:
        g.secret = new_secret()
    page = render_template(
        "first_account.html" if request.path == "/first-account" else "sign_in.html",
        error=error,
        fields={name: request.form.get(name, "")[:64] for name in ("name", "code")},
    )
    response = Response(page, status)
    if fresh:
        _set_cookie(response, entrance().form_cookie, g.secret)
    return response


def _open_session(account: Account, target: str) -> BaseResponse:
    record(actions.signed_in(entrance().audit.source, acting(account.name)))
    home = entrance().home(account.role)
    own = OWN_PAGE.fullmatch(target) and account.role is not Role.SERVICE
    response = redirect(target if own else home, HTTPStatus.SEE_OTHER)
    _set_cookie(response, entrance().session_cookie, entrance().sessions.open(account, request.remote_addr or ""))
    response.delete_cookie(entrance().form_cookie, httponly=True, samesite="Strict")
    return response


def _set_cookie(response: BaseResponse, name: str, value: str) -> None:
    response.set_cookie(name, value, httponly=True, samesite="Strict", secure=request.is_secure)
