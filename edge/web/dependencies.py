"""What the routes work with. Everything is passed in, so that a test can pass in its own clock and store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from flask import current_app, url_for

from edge.model_facts import ModelFacts
from edge.records import ModelUsed
from edge.store import Store
from edge.store.audit import AuditTrail
from edge.web.accounts import Accounts, Role
from edge.web.condition import Condition
from edge.web.limits import Limits
from edge.web.lockout import Failures
from edge.web.rates import Rates
from edge.web.recorder import Recorder
from edge.web.sessions import Sessions
from edge.web.streams import Streams
from edge.web.tokens import Tokens

_NAME = "scanside"


@dataclass(frozen=True, kw_only=True)
class Entrance(ABC):
    """What signing in works with, on a box's page and on the manager's.

    Attributes:
        session_cookie: The session's.
        form_cookie: Of a browser without session: a random secret, so that sign-in forms have a form token too.
        audit: Is told who does what.
        clock: Seconds since the epoch.
    """

    session_cookie: ClassVar[str]
    form_cookie: ClassVar[str]

    audit: AuditTrail
    accounts: Accounts
    sessions: Sessions
    failures: Failures
    clock: Callable[[], float]

    @abstractmethod
    def home(self, role: Role) -> str:
        """Where somebody of this role begins."""


@dataclass(frozen=True, kw_only=True)
class Dependencies(Entrance):
    """Passed to `create_app`.

    Attributes:
        site: The clinic, as it stands in the page's head.
        box: This box, likewise.
        hsts: Strict-Transport-Security, where it is to be sent.
        condition: Reads how the box is.
        facts: What the bundle that answered says about its model.
        language: What the page speaks to a browser that asks for none of its languages.
    """

    session_cookie = "scanside_session"
    form_cookie = "scanside_form"

    site: str
    box: str
    store: Store
    tokens: Tokens
    streams: Streams
    limits: Limits
    rates: Rates
    recorder: Recorder
    hsts: str | None
    condition: Callable[[], Condition]
    facts: Callable[[ModelUsed], ModelFacts | None]
    language: str = "en"

    def home(self, role: Role) -> str:
        """The worklist, but for those who may see no patient."""
        return url_for("pages.device" if role is Role.SERVICE else "pages.worklist")


def provide(extensions: dict[str, object], dependencies: Entrance) -> None:
    """Keep them with an app."""
    extensions[_NAME] = dependencies


def given() -> Dependencies:
    """Those of the app that handles this request."""
    dependencies = entrance()
    assert isinstance(dependencies, Dependencies)  # noqa: S101 - narrows the type of Flask's open dictionary
    return dependencies


def entrance() -> Entrance:
    """The same, of whichever page it is: the box's or the manager's."""
    dependencies = current_app.extensions[_NAME]
    assert isinstance(dependencies, Entrance)  # noqa: S101 - as above
    return dependencies
