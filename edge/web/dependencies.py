"""What the routes work with. Everything is passed in, so that a test can pass in its own clock and store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import current_app

from edge.model_facts import ModelFacts
from edge.records import ModelUsed
from edge.store import Store
from edge.store.audit import AuditTrail
from edge.web.accounts import Accounts
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
class Dependencies:
    """Passed to `create_app`.

    Attributes:
        site: The clinic, as it stands in the page's head.
        box: This box, likewise.
        audit: Is told who does what.
        hsts: Strict-Transport-Security, where it is to be sent.
        condition: Reads how the box is.
        facts: What the bundle that answered says about its model.
        clock: Seconds since the epoch.
        language: What the page speaks to a browser that asks for none of its languages.
    """

    site: str
    box: str
    store: Store
    audit: AuditTrail
    accounts: Accounts
    sessions: Sessions
    tokens: Tokens
    failures: Failures
    streams: Streams
    limits: Limits
    rates: Rates
    recorder: Recorder
    hsts: str | None
    condition: Callable[[], Condition]
    facts: Callable[[ModelUsed], ModelFacts | None]
    clock: Callable[[], float]
    language: str = "en"


def provide(extensions: dict[str, object], dependencies: Dependencies) -> None:
    """Keep them with an app."""
    extensions[_NAME] = dependencies


def given() -> Dependencies:
    """Those of the app that handles this request."""
    dependencies = current_app.extensions[_NAME]
    assert isinstance(dependencies, Dependencies)  # noqa: S101 - narrows the type of Flask's open dictionary
    return dependencies
