"""`scanside user token | tokens | revoke`: API tokens from the console."""

from __future__ import annotations

import getpass
import time
from argparse import Namespace
from contextlib import closing

from edge.config import Config
from edge.errors import UsageError
from edge.store.audit import actions, open_trail
from edge.web.accounts_file import AccountsFile
from edge.web.tokens import Tokens

ACTIONS = ("token", "tokens", "revoke")


def token_command(config: Config, options: Namespace) -> int:
    """Make a token for the account `options.name` and print it this once, list all, or end the one of that id.

    Raises:
        UsageError: No name or id is given.
        TokenError: No such account or token; scopes or days that break their rule.
    """
    if options.action != "tokens" and not options.name:
        raise UsageError(f"user {options.action}: needs {'the ID' if options.action == 'revoke' else 'an account'}")
    who = actions.Person(getpass.getuser())
    with closing(AccountsFile(config.state_dir)) as file, closing(open_trail(config, "cli")) as trail:
        tokens = Tokens(file, time.time)
        if options.action == "tokens":
            for token in tokens.list():
                until = time.strftime("%Y-%m-%d", time.gmtime(token.expires_at))
                print(f"{token.id}\t{token.name}\t{' '.join(token.scopes)}\tuntil {until}\t{token.purpose}")
            return 0
        if options.action == "token":
            print(tokens.make(options.name, options.scope, options.purpose, who.name, options.days))
            account, did = options.name, f"API token made: {' '.join(sorted(options.scope))}"
        else:
            revoked = tokens.revoke(options.name)
            account, did = revoked.name, f"API token revoked: {revoked.id}"
        trail.record(actions.account_changed(trail.source, who, account, did))
    return 0
