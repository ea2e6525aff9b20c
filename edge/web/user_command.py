"""`scanside user`: accounts and API tokens from the console. What cannot be recorded is not done."""

from __future__ import annotations

import getpass
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import closing

from edge.config import Config
from edge.errors import UsageError
from edge.store.audit import actions, open_trail
from edge.web.accounts import Accounts, Role, normal_name
from edge.web.accounts_file import AccountsFile
from edge.web.tokens import Tokens

TOKEN_ACTIONS = ("token", "tokens", "revoke")


def user_command(config: Config, options: Namespace, secret: Callable[[str], str]) -> int:
    """Do `options.action`, as the command line has it; `secret` asks for a password with its argument as the prompt.

    Raises:
        UsageError: No name or id is given.
        AccountError, TokenError: What breaks its rule.
    """
    if options.action in TOKEN_ACTIONS:
        return _token(config, options)
    if options.action != "list" and not options.name:
        raise UsageError(f"user {options.action}: needs the account's NAME")
    with closing(AccountsFile(config.state_dir)) as file:
        accounts = Accounts(file)
        if options.action != "list":
            with closing(open_trail(config, "cli")) as trail:
                did = _changed(accounts, options, secret)
                who = actions.Person(getpass.getuser())
                trail.record(actions.account_changed(trail.source, who, normal_name(options.name), did))
        for account in accounts.list():
            print(f"{account.name}\t{account.role}")
    return 0


def _changed(accounts: Accounts, options: Namespace, secret: Callable[[str], str]) -> str:
    """What was done, in words for the trail."""
    prompt = f"Password for {options.name}: "
    if options.action == "add":
        account = accounts.add(options.name, secret(prompt), Role(options.role))
        return f"created, role {account.role}"
    if options.action == "password":
        accounts.set_password(options.name, secret(prompt))
        return "password changed"
    accounts.remove(options.name)
    return "removed"


def _token(config: Config, options: Namespace) -> int:
    """Make a token for the account `options.name` and print it this once, list all, or end the one of that id."""
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
