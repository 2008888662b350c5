"""``sixbot user`` and ``sixbot token``: who may use the web and the API."""

from __future__ import annotations

from typing import Annotated

import typer

from shared.access import FIRST_ROLE, FIRST_USER, Access
from shared.clock import SystemClock
from shared.config import load_config
from worker.cli.common import exit_codes, fail, open_store, print_json
from worker.cli.operate import actor

user_app = typer.Typer(no_args_is_help=True, help="Users of the web.")
token_app = typer.Typer(no_args_is_help=True, help="Tokens for the API.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]


def _access() -> Access:
    who = actor()
    return Access(open_store(), SystemClock(), who.name, who.source)


@user_app.command("add")
def add(
    name: str, role: Annotated[str, typer.Option(help="viewer or operator")] = "operator", json: Json = False
) -> None:
    """Add a user, or change a user's role; a sign-in link sets the password."""
    with exit_codes():
        _access().add_user(name, role)
        if json:
            print_json({"name": name, "role": role})
        else:
            typer.echo(f"{name} is {role}; `sixbot user link {name}` makes a link to set the password")


@user_app.command("link")
def link(
    name: Annotated[str | None, typer.Argument(help="Whose; without it operator, who is made where missing.")] = None,
    role: Annotated[str | None, typer.Option(help="viewer or operator: makes the user, who must be new.")] = None,
    json: Json = False,
) -> None:
    """Make a sign-in link for one use within 15 minutes."""
    with exit_codes():
        access, base = _access(), f"http://{load_config().web_bind}"
        if name is None and access.user(FIRST_USER) is None:
            role = role or FIRST_ROLE
        made = access.create_link(name or FIRST_USER, base, role)
        if json:
            print_json({"url": made.url, "user": made.user, "expires_at": made.expires_at})
        else:
            typer.echo(made.url)


@user_app.command("list")
def list_users(json: Json = False) -> None:
    """List users and roles."""
    with exit_codes():
        users = _access().users()
        if json:
            print_json([{"name": u.name, "role": u.role, "has_password": u.has_password} for u in users])
        for user in [] if json else users:
            typer.echo(f"{user.name}\t{user.role}\t{'password set' if user.has_password else 'no password yet'}")


@token_app.command("new")
def new_token(
    scope: Annotated[list[str], typer.Option(help="read, stop or control; may be given several times")],
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    json: Json = False,
) -> None:
    """Make an API token; it is shown this once."""
    with exit_codes():
        token = _access().create_token(name, scope)
        if json:
            print_json({"token": token, "scopes": sorted(set(scope)), "name": name})
        else:
            typer.echo(token)


@token_app.command("list")
def list_tokens(json: Json = False) -> None:
    """List tokens by name, scopes and id, never the token itself."""
    with exit_codes():
        rows = _access().tokens()
        if json:
            print_json(rows)
        for row in [] if json else rows:
            typer.echo(f"{row['id']}\t{row.get('scopes', '')}\t{row.get('name', '')}")


@token_app.command("revoke")
def revoke_token(token_id: str, json: Json = False) -> None:
    """Remove a token by its id."""
    with exit_codes():
        if not _access().revoke_token(token_id):
            fail(f"no token has the id {token_id}")
        if json:
            print_json({"id": token_id, "revoked": True})
        else:
            typer.echo("revoked")
