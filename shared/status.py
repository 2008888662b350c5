"""``trading_status`` has several writers; each merges its own fields, and a write from an older epoch is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.accounts import DEFAULT_ACCOUNT
from shared.store import Store

CONTRACT_FIELDS: Mapping[str, Any] = {
    "last_run": None,
    "last_error": None,
    "trades_today": 0,
    "total_volume": 0,
    "active": False,
    "next_run": None,
    "worker_pid": None,
}
"""What a reader may always expect, whichever worker came first."""


def status_of(found: object, account: str) -> Mapping[str, Any]:
    """An account's part of ``trading_status``; empty where there is none."""
    if account != DEFAULT_ACCOUNT:
        accounts = found.get("accounts") if isinstance(found, dict) else None
        found = accounts.get(account) if isinstance(accounts, dict) else None
    return found if isinstance(found, dict) else {}


def merge_status(
    store: Store, account: str, fields: Mapping[str, Any], epoch: int, *, newest: int | None = None
) -> bool:
    """Merge ``fields`` into the account's part of ``trading_status``; False where a newer epoch stands there.

    ``newest`` is the highest that can stand there; one above it is nobody's. Account ``default`` owns the top level,
    others ``accounts.{name}``; unknown fields stay. Raises StoreError.
    """

    def change(found: dict[str, Any]) -> dict[str, Any] | None:
        known = found.get("epoch")
        if isinstance(known, int) and not isinstance(known, bool) and epoch < known <= (newest or known):
            return None
        if account == DEFAULT_ACCOUNT:
            return {**CONTRACT_FIELDS, **found, **fields, "epoch": epoch}
        accounts = found.get("accounts")
        accounts = dict(accounts) if isinstance(accounts, dict) else {}
        mine = accounts.get(account)
        accounts[account] = {**(mine if isinstance(mine, dict) else {}), **fields}
        return {**CONTRACT_FIELDS, **found, "accounts": accounts, "epoch": epoch}

    return store.merge_json(store.keys.trading_status, change)
