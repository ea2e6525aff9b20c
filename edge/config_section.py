"""What the sections of a configuration are made of: the kinds of values that several have, and how one is refused."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edge.errors import UsageError

Port = Annotated[int, msgspec.Meta(ge=0, le=65535, description="a TCP port up to 65535; 0 lets the system choose")]
Identifier = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?\Z",
        description="1 to 64 of a-z, 0-9 and -, as it stands in topics",
    ),
]
Language = Literal["en", "fr", "es", "pt", "sw", "hi", "ar"]
"""Languages of the status page, as ISO 639-1 names them."""

AeTitle = Annotated[
    str,
    msgspec.Meta(pattern=r"\A(?=.*[^ ])[ -\[\]-~]{1,16}\Z", description="1 to 16 ASCII characters (PS3.5 6.2, VR AE)"),
]


class ConfigError(UsageError):
    """A configuration that cannot be used: the message is file, line, key, rule and fix in one line."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys that stand together; a key that it does not have is an error."""
