"""What ``sixbot status`` says of each account."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from shared.config import Config


def account_rows(
    config: Config, found: Mapping[str, Any], workers: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row per account, from the keys as they were read: its venue, who works for it, its last error and stop."""
    live = [worker for worker in workers if worker.get("state") == "live"]
    others, stops = _object(_object(found["trading_status"]).get("accounts")), _object(found["stop_report"])
    rows = []
    for account in config.accounts:
        told = _object(found["trading_status"]) if account.is_default else _object(others.get(account.name))
        row: dict[str, Any] = {"account": account.name, "venue": account.venue, "mode": account.mode}
        row |= {worker: _pid(live, worker, account.name) for worker in ("trading", "emergency")}
        row["last_error"] = told.get("last_error")
        row["last_stop"] = _object(_object(stops.get("accounts")).get(account.name)).get("state")
        rows.append(row)
    return rows


def _pid(live: Iterable[Mapping[str, Any]], worker: str, account: str) -> object:
    """The process of that kind that works for the account; None where none does."""
    for row in live:
        if str(row.get("name")).partition("-")[0] == worker and account in (row.get("accounts") or ()):
            return row.get("pid")
    return None


def _object(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}
