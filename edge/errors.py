"""The family of errors whose message is made for the person who reads it."""

from __future__ import annotations


class ScansideError(Exception):
    """One line that states the value, the rule and the fix. The command line prints it as it is and exits with 1."""


class UsageError(ScansideError):
    """Wrong use of a command: exit status 2."""
