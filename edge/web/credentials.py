"""Names and passwords, on the sign-in form and by HTTP Basic alike, and the tokens of programs."""

from __future__ import annotations

import math
from collections.abc import Callable
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address

from flask import request

from edge import events
from edge.events import emit
from edge.store.audit import actions
from edge.web.accounts import Account, Busy, normal_name
from edge.web.audit import acting, record
from edge.web.dependencies import entrance, given
from edge.web.languages import gettext, ngettext
from edge.web.problems import Problem
from edge.web.sessions import Person
from edge.web.tokens import Token

BASIC_CHALLENGE = {"WWW-Authenticate": 'Basic realm="Scanside", charset="UTF-8"'}
TOKEN_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="Scanside"'}
_WRONG = "wrong name or password"


class Locked(Exception):  # noqa: N818 - a state that callers answer with 429
    """Too many failed tries: the next one is allowed after `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.minutes = math.ceil(seconds / 60)
        again = ngettext("Try again in %(num)s minute.", "Try again in %(num)s minutes.", self.minutes)
        super().__init__(gettext("Too many failed tries.") + " " + again)
        self.headers = {"Retry-After": str(math.ceil(seconds))}


def guarded(subject: str, attempt: Callable[[], Account | None], wrong: str = _WRONG) -> Account | None:
    """What an attempt to prove who one is gives; a failure (None) is counted against subject and address.

    Args:
        subject: The account's name, or what else is tried.
        attempt: Checks the secret. May raise `Busy`.
        wrong: What a failure is, for the log.

    Raises:
        Locked: Too many failures; nothing was tried.
    """
    failures, now, address = entrance().failures, entrance().clock(), request.remote_addr or "unknown"
    if wait := failures.locked_for(subject, address, now):
        raise Locked(wait)
    account = attempt()
    if account:
        failures.clear(subject)
        return account
    count = failures.count(subject, address, now)
    if wait := failures.locked_for(subject, address, now):
        emit(events.SIGN_IN_LOCKED, seconds=wait, failures=count)
        record(actions.sign_in_locked(entrance().audit.source, acting(subject), wait))
    else:
        emit(events.SIGN_IN_FAILED, error=wrong)
        record(actions.sign_in_refused(entrance().audit.source, acting(subject), wrong))
    return None


def verified(name: str, password: str) -> Account | None:
    """The account of a right name and password. Raises `Locked`, `Busy`."""
    name = normal_name(name)
    return guarded(name, lambda: entrance().accounts.verify(name, password))


def basic_person() -> Person | None:
    """Whom the request's HTTP Basic credentials (RFC 7617) are; None when it brings none.

    Raises:
        Problem: 403 over a network without TLS, where anybody reads them; 401 wrong; 429 locked; 503 busy.
    """
    given_by = request.authorization
    if given_by is None or given_by.type != "basic":
        return None
    _refuse_in_the_clear("a password")
    try:
        account = verified(given_by.username or "", given_by.password or "")
    except Locked as locked:
        raise Problem(HTTPStatus.TOO_MANY_REQUESTS, str(locked).rstrip("."), locked.headers) from locked
    except Busy as busy:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(busy), {"Retry-After": "1"}) from busy
    if account is None:
        raise Problem(HTTPStatus.UNAUTHORIZED, "the user name or the password is not right", BASIC_CHALLENGE)
    return Person(name=account.name, role=account.role)


def bearer_token() -> Token | None:
    """The API token of the request (RFC 6750); None when it brings none.

    A wrong one is not counted towards a lock-out: nobody guesses 256 bits, and a stranger could lock others out.

    Raises:
        Problem: 403 over a network without TLS, where anybody reads it; 401 unknown, revoked or over.
    """
    brought = request.authorization
    if brought is None or brought.type != "bearer":
        return None
    _refuse_in_the_clear("a token")
    token = given().tokens.find(brought.token or "")
    if token is None:
        source, nobody = given().audit.source, acting("")
        refused = actions.sign_in_refused(source, nobody, "unknown API token")
        given().audit.record_once({f"unknown token {nobody.address}": refused})
        detail = "this token is unknown, revoked or over: an administrator makes another one"
        raise Problem(HTTPStatus.UNAUTHORIZED, detail, TOKEN_CHALLENGE)
    return token


def _refuse_in_the_clear(what: str) -> None:
    if not (request.is_secure or _from_this_box(request.remote_addr)):
        detail = f"{what} over a network without TLS: configure web.tls, and send to this box over HTTPS"
        raise Problem(HTTPStatus.FORBIDDEN, detail)


def _from_this_box(address: str | None) -> bool:
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback
