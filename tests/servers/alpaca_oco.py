"""Alpaca's OCO orders for the protocol server: one POST makes a limit and a stop leg of which one sells.

The leg has an id and a client order id of the server's own, is ``held`` until a trade meets its stop, shrinks with each
part that the limit sells, and goes with the limit. What becomes of a leg that never worked is told by no stream.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any


def refusal(body: dict[str, Any]) -> str | None:
    """Why Alpaca takes no such OCO order; None where it does."""
    profit, stop = body.get("take_profit") or {}, body.get("stop_loss") or {}
    if "/" in body["symbol"]:
        return "crypto orders not allowed for advanced order_class: oco"
    if body["type"] != "limit" or body["side"] != "sell":
        return "oco orders must be limit orders"
    if body["time_in_force"] not in {"day", "gtc"} or body.get("extended_hours"):
        return "oco orders must be day or gtc, without extended hours"
    try:
        if Decimal(body["qty"]) % 1:
            return "fractional orders must be simple orders"
        limit, below = Decimal(profit["limit_price"]), Decimal(stop["stop_price"])
    except (KeyError, InvalidOperation):
        return "oco orders require take_profit.limit_price and stop_loss.stop_price"
    if below >= limit:
        return "stop_loss.stop_price must be below take_profit.limit_price"
    return None


def leg_of(parent: dict[str, Any], leg: dict[str, Any], stop: str) -> dict[str, Any]:
    """The stop beside a parent, made of any new order of the server's."""
    held = {"type": "stop", "order_type": "stop", "limit_price": None, "stop_price": stop, "status": "held"}
    return leg | held | {"order_class": "oco", "created_at": parent["created_at"]}


def is_met(leg: dict[str, Any], price: Decimal) -> bool:
    """Whether a trade meets the stop of a leg that waits for it."""
    return leg["status"] == "held" and leg["order_class"] == "oco" and price <= Decimal(leg["stop_price"])
