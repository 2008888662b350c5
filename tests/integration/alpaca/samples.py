"""One good value of every kind that Alpaca sends, to be spoiled field by field."""

from __future__ import annotations

from typing import Any

ORDER: dict[str, Any] = {
    "id": "61e69015-8549-4bfd-b9c3-01e75843f47d",
    "client_order_id": "sx-e-1",
    "symbol": "AAPL",
    "asset_class": "us_equity",
    "side": "buy",
    "type": "limit",
    "qty": "10",
    "filled_qty": "4",
    "filled_avg_price": "99.5",
    "limit_price": "100",
    "status": "partially_filled",
    "submitted_at": "2026-01-05T10:00:00.123456789-05:00",
    "updated_at": "2026-01-05T15:00:01Z",
}
FILL: dict[str, Any] = {
    "id": "20260105150000000::9a7d",
    "order_id": ORDER["id"],
    "symbol": "AAPL",
    "side": "sell",
    "qty": "2",
    "price": "100.5",
    "transaction_time": "2026-01-05T15:00:00.5Z",
}
UPDATE: dict[str, Any] = {
    "event": "partial_fill",
    "execution_id": "9a7d",
    "qty": "4",
    "price": "99.5",
    "timestamp": "2026-01-05T15:00:01Z",
    "order": ORDER,
}
POSITION: dict[str, Any] = {
    "symbol": "AAPL",
    "asset_class": "us_equity",
    "side": "long",
    "qty": "5",
    "avg_entry_price": "100",
    "market_value": "600",
    "unrealized_pl": "100",
}
ACCOUNT: dict[str, Any] = {"equity": "103820.56", "cash": "-23140.2", "buying_power": "262113.632", "currency": "USD"}
CLOCK: dict[str, Any] = {"timestamp": "2026-01-05T10:00:00-05:00", "is_open": True, "next_open": None}
BAR: dict[str, Any] = {"t": "2026-01-05T15:00:00Z", "o": 1.0, "h": 2.0, "l": 0.5, "c": 1.5, "v": 10}
ASSET: dict[str, Any] = {
    "class": "crypto",
    "symbol": "BTC/USD",
    "status": "active",
    "tradable": True,
    "min_trade_increment": "0.0001",
    "price_increment": "0.01",
}
