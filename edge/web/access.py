"""Who has access: open sessions and API tokens, and the page on which an administrator reads the audit trail."""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint, Response, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from edge.store.audit import actions
from edge.web.accounts import Role
from edge.web.addresses import OWN_PAGE
from edge.web.audit import acting, record
from edge.web.dependencies import given
from edge.web.languages import gettext
from edge.web.problems import Problem
from edge.web.sessions import session_id
from edge.web.tokens import DEFAULT_DAYS, Scope, TokenError
from edge.web.trail_view import line_of

blueprint = Blueprint("access", __name__)

ROWS = 100


@blueprint.get("/access")
def page() -> str:
    """One's own sessions; for an administrator all of them, and the API tokens."""
    return _page()


@blueprint.post("/access/sessions/end")
def end_session() -> BaseResponse:
    """Ends one of one's own sessions; an administrator any."""
    whose = given().sessions.revoke(request.form.get("session", ""), None if _administers() else g.person.name)
    if whose is None:
        detail = gettext("there is no such session of yours any more: load the page anew")
        raise Problem(HTTPStatus.NOT_FOUND, detail)
    _tell(whose, "a session ended by hand")
    return redirect(url_for("access.page"), HTTPStatus.SEE_OTHER)


@blueprint.post("/access/tokens")
def make_token() -> Response:
    """Makes an API token, and shows it this once."""
    form = request.form
    days = form.get("days", str(DEFAULT_DAYS))
    try:
        name, scopes = form.get("name", ""), form.getlist("scope")
        number = int(days) if days.isascii() and days.isdigit() and len(days) < 6 else 0
        token = given().tokens.make(name, scopes, form.get("purpose", ""), g.person.name, number)
    except TokenError as error:
        return Response(_page(error=f"{error}."), HTTPStatus.UNPROCESSABLE_ENTITY)
    _tell(name, f"API token made: {' '.join(sorted(scopes))}")
    return Response(_page(token=token))


@blueprint.post("/access/tokens/revoke")
def revoke_token() -> BaseResponse:
    """Ends an API token."""
    try:
        token = given().tokens.revoke(request.form.get("token", ""))
    except TokenError as error:
        detail = gettext("there is no such token any more: load the page anew")
        raise Problem(HTTPStatus.NOT_FOUND, detail) from error
    _tell(token.name, f"API token revoked: {token.id}")
    return redirect(url_for("access.page"), HTTPStatus.SEE_OTHER)


@blueprint.post("/privacy")
def veil() -> BaseResponse:
    """Hides whose images these are from this session, or shows it."""
    given().sessions.veil(g.secret, veiled=request.form.get("show") != "yes")
    return redirect(_back(request.form.get("back", "")), HTTPStatus.SEE_OTHER)


@blueprint.get("/audit")
def audit_trail() -> str:
    """The audit trail, newest first; `?before=NUMBER` goes on. That it was read is a record in it."""
    text = request.args.get("before", "")
    before = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
    trail = given().audit
    trail.record(actions.trail_used(trail.source, g.person.name, "/audit"))
    records = trail.newest(ROWS + 1, before)
    lines = [line_of(one) for one in records[:ROWS]]
    following = lines[-1].number if len(records) > ROWS else None
    return render_template("audit.html", lines=lines, following=following, now=given().clock())


def _page(error: str = "", token: str = "") -> str:
    administers = _administers()
    return render_template(
        "access.html",
        sessions=given().sessions.list(None if administers else g.person.name),
        own=session_id(g.secret),
        tokens=given().tokens.list() if administers else [],
        accounts=given().accounts.list() if administers else [],
        scopes=list(Scope),
        days=DEFAULT_DAYS,
        administers=administers,
        error=error,
        token=token,
        now=given().clock(),
    )


def _administers() -> bool:
    return bool(g.person.role is Role.ADMINISTRATOR)


def _tell(account: str, what: str) -> None:
    record(actions.account_changed(given().audit.source, acting(), account, what))


def _back(address: str) -> str:
    return address if OWN_PAGE.fullmatch(address) else "/"
