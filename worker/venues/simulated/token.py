"""The token that both sides of the simulated venue share."""

from __future__ import annotations

import os
import secrets

from shared.accounts import AccountConfig


def venue_token(account: AccountConfig) -> str:
    """The account's token, else the one in ``SIXBOT_HOME/sim_venue_token``, made (0600) by whoever comes first."""
    if account.token is not None:
        return account.token.get_secret_value()
    path = account.home / "sim_venue_token"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(secrets.token_urlsafe(32))
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text().strip()
