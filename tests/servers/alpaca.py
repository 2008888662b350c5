"""An Alpaca on loopback: the trading and data API and the ``trade_updates`` websocket over a ledger of its own.

The ledger is the oracle: ``posts`` counts every POST that arrived by client order id, ``cancels`` every cancel with
its time, ``fills`` every execution. ``crypto_fee`` is the rate that a pair's trade is charged, in what it credits; no
fill tells it. ``lie(route, *answers)`` scripts what the next requests of a route are told; the lie is in the answer
only, so an accepted order is in the ledger even where its sender is told otherwise.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any

from aiohttp import WSMsgType, web

from shared.clock import parse_rfc3339
from tests.servers import alpaca_oco
from tests.servers.lies import Lies
from tests.support import free_port

KEY, SECRET = "test-key", "test-secret"
OPEN = {"new", "accepted", "partially_filled", "pending_new", "held", "pending_cancel"}
OPEN |= {"stopped", "suspended", "calculated", "done_for_day", "accepted_for_bidding", "pending_replace"}


def iso(moment: datetime) -> str:
    """Nine digits, as the real API sends them."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z"


class AlpacaServer:
    """One account. All methods may be called from the test's thread."""

    def __init__(self, *, tickers: tuple[str, ...] = ("AAPL", "MSFT", "SPY", "BTC/USD"), cash: str = "100000") -> None:
        port = free_port()
        self.trading_url = self.data_url = f"http://127.0.0.1:{port}"
        self.stream_url = f"ws://127.0.0.1:{port}/stream"
        self._port, self.tickers = port, tickers
        self.cash = Decimal(cash)
        self.orders: dict[str, dict[str, Any]] = {}
        self.posts: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.cancels: list[tuple[float, str]] = []
        self.fills: list[dict[str, Any]] = []
        self.held: dict[str, tuple[Decimal, Decimal]] = {}
        self.crypto_fee = Decimal("0.0025")
        self.prices: dict[str, tuple[Decimal, datetime | None]] = {}
        self.bars: dict[str, list[dict[str, Any]]] = {}
        self.is_open = True
        self.page_size = 500
        self.fill_market_orders = True
        self.hidden: set[str] = set()
        self.mute_streams = 0
        self.lies = Lies()
        self.legs: dict[str, list[str]] = {}
        self.cancel_seconds = 0.0
        """How long an order is ``pending_cancel``: it works on, and what it would sell is not free."""
        self.takes_oco = True
        self.tells_legs = True
        """Whether the answer to a new OCO order shows its leg."""
        self.nests = True
        """Whether ``nested`` is heeded."""
        self.met_stop_leaves = "canceled"
        """What the parent is once its stop was met; ``replaced`` has been seen too."""
        self._sockets: set[web.WebSocketResponse] = set()
        self._matching: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    # -- the test's hand ------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(30)

    def stop(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    def set_price(self, ticker: str, price: Decimal | str, at: datetime | None = None) -> None:
        """A trade: market orders fill at it, limits that it crosses fill at theirs. ``at`` None is always now."""
        self._do(self._trade(ticker, Decimal(price), at))

    def lie(self, route: str, *answers: Any) -> None:
        """Script ``METHOD /path`` (``POST /v2/orders``); ``tests.servers.lies`` says what a lie may be."""
        self.lies.add(route, *answers)

    def fill(self, client_order_id: str, qty: str, price: str) -> None:
        """Fill a part of a resting order."""
        self._do(self._fill(self._by_client_id(client_order_id), Decimal(qty), Decimal(price)))

    def cancel_by_hand(self, venue_order_id: str) -> None:
        """The owner cancels an order."""
        self._do(self._canceled(self.orders[venue_order_id]))

    def leg(self, client_order_id: str) -> dict[str, Any]:
        """The stop leg of an OCO order."""
        return self.orders[self.legs[self._by_client_id(client_order_id)["id"]][-1]]

    def foreign_order(self, ticker: str = "AAPL", limit: str = "1.00") -> dict[str, Any]:
        """An order that the owner placed by hand."""
        body = {
            "symbol": ticker,
            "qty": "1",
            "side": "buy",
            "type": "limit",
            "time_in_force": "day",
            "limit_price": limit,
        }
        order = self._new(body)
        self.orders[order["id"]] = order
        return order

    def by_hand(self, ticker: str, side: str, qty: str, price: str, name: str | None = None) -> dict[str, Any]:
        """A market order of the owner's, filled at once."""
        body = {"symbol": ticker, "qty": qty, "side": side, "type": "market", "time_in_force": "day"}
        order = self._new(body | ({} if name is None else {"client_order_id": name}))
        order["status"] = "new"

        async def trade() -> None:
            self.orders[order["id"]] = order
            await self._push("new", order)
            await self._fill(order, Decimal(qty), Decimal(price))

        self._do(trade())
        return order

    def bracket(self, ticker: str, qty: str, entry: str, profit: str, stop: str) -> list[dict[str, Any]]:
        """The owner's bracket: parent, take-profit leg, stop leg; the legs are held until ``fill`` fills the parent."""
        sides = [("buy", "limit", entry, None), ("sell", "limit", profit, None), ("sell", "stop", None, stop)]
        made = []
        for side, kind, limit, trigger in sides:
            body = {"symbol": ticker, "qty": qty, "side": side, "type": kind, "time_in_force": "gtc"}
            order = self._new({**body, "limit_price": limit})
            made.append(order | {"order_class": "bracket", "stop_price": trigger, "status": "held" if made else "new"})
        self.legs[made[0]["id"]] = [leg["id"] for leg in made[1:]]
        self.orders |= {o["id"]: o for o in made}
        return made

    def add(self, **fields: Any) -> dict[str, Any]:
        """Any order of the owner's as it stands in the account, told by no stream."""
        body = {"symbol": "AAPL", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}
        order = self._new(body) | fields
        self.orders[order["id"]] = order
        return order

    def drop_streams(self) -> None:
        """Cut every websocket."""

        async def cut() -> None:
            for socket in list(self._sockets):
                await socket.close()

        self._do(cut())

    def send_frame(self, frame: bytes | str) -> None:
        """Put any frame on every websocket that listens."""

        async def put() -> None:
            for socket in list(self._sockets):
                await (socket.send_str(frame) if isinstance(frame, str) else socket.send_bytes(frame))

        self._do(put())

    @property
    def listeners(self) -> int:
        """How many websockets have asked for ``trade_updates``."""
        return len(self._sockets)

    def open_ids(self) -> list[str]:
        """Venue ids of what works now."""
        return [o["id"] for o in list(self.orders.values()) if o["status"] in OPEN]

    def _do(self, work: Any) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def _by_client_id(self, name: str) -> dict[str, Any]:
        return next(o for o in self.orders.values() if o["client_order_id"] == name)

    # -- server ---------------------------------------------------------------------------------------------------

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        app = web.Application(middlewares=[self._middleware])
        app.add_routes(
            [
                web.post("/v2/orders", self._post_order),
                web.get("/v2/orders", self._list_orders),
                web.delete("/v2/orders", self._cancel_all),
                web.get("/v2/orders:by_client_order_id", self._order_by_client_id),
                web.get("/v2/orders/{id}", self._order_by_id),
                web.delete("/v2/orders/{id}", self._cancel),
                web.get("/v2/positions", self._positions),
                web.get("/v2/account", self._account),
                web.get("/v2/clock", self._clock),
                web.get("/v2/assets/{symbol:.*}", self._asset),
                web.get("/v2/account/activities/FILL", self._activities),
                web.get("/v2/stocks/trades/latest", self._latest),
                web.get("/v1beta3/crypto/us/latest/trades", self._latest),
                web.get("/v2/stocks/bars", self._bars),
                web.get("/v1beta3/crypto/us/bars", self._bars),
                web.get("/stream", self._stream),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port).start()
        self._ready.set()
        await self._stop.wait()
        for task in list(self._matching):
            task.cancel()
        for socket in list(self._sockets):
            await socket.close()
        for _ in range(10):  # asyncio leaks a connection whose accept is under way when its server closes
            await asyncio.sleep(0)
        await runner.cleanup()

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Any) -> web.StreamResponse:
        route = f"{request.method} {request.path}"
        self.requests[route] += 1
        if request.path != "/stream" and request.headers.get("APCA-API-KEY-ID") != KEY:
            return _error(401, 40110000, "request is not authorized")
        return await self.lies.answer(request, handler)

    # -- orders ---------------------------------------------------------------------------------------------------

    def _new(self, body: dict[str, Any]) -> dict[str, Any]:
        now = iso(datetime.now(UTC))
        empty = ("filled_at", "expired_at", "canceled_at", "failed_at", "replaced_at", "replaced_by", "replaces")
        return {
            "id": str(uuid.uuid4()),
            "client_order_id": body.get("client_order_id") or str(uuid.uuid4()),
            "created_at": now,
            "updated_at": now,
            "submitted_at": now,
            **dict.fromkeys(empty),
            "asset_class": "crypto" if "/" in body["symbol"] else "us_equity",
            "symbol": body["symbol"],
            "notional": None,
            "qty": str(body["qty"]),
            "filled_qty": "0",
            "filled_avg_price": None,
            "order_class": "simple",
            "order_type": body["type"],
            "type": body["type"],
            "side": body["side"],
            "time_in_force": body["time_in_force"],
            "limit_price": body.get("limit_price"),
            "stop_price": None,
            "status": "accepted",
            "extended_hours": False,
            "legs": None,
        }

    async def _post_order(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body.get("client_order_id", "")
        self.posts[name] += 1
        if any(o["client_order_id"] == name for o in self.orders.values()):
            return _error(422, 40010001, "client_order_id must be unique")
        if body["symbol"] not in self.tickers:
            return _error(422, 42210000, f'asset "{body["symbol"]}" not found')
        if "/" in body["symbol"] and body["time_in_force"] not in {"gtc", "ioc"}:
            return _error(422, 42210000, "invalid crypto time_in_force")
        price = Decimal(body["limit_price"]) if body.get("limit_price") else self._price(body["symbol"])
        qty = Decimal(body["qty"])
        if body["side"] == "buy" and qty * price > self.cash:
            return _error(403, 40310000, "insufficient buying power", buying_power=str(self.cash))
        free = self.held.get(body["symbol"], (Decimal(0), Decimal(0)))[0]
        if body["side"] == "sell" and qty > free and "/" in body["symbol"]:
            return _error(403, 40310000, f"insufficient balance (requested: {qty}, available: {free})")
        if body["side"] == "sell" and qty > free:
            return _error(403, 40310000, "account is not allowed to short")
        oco = body.get("order_class") == "oco"
        if oco and (why := alpaca_oco.refusal(body) if self.takes_oco else "order_class oco is not allowed"):
            return _error(422, 42210000, why)
        if body["side"] == "sell" and qty > (free := self._free(body["symbol"])):
            return _error(403, 40310000, f"insufficient qty available for order (requested: {qty}, available: {free})")
        order = self._new(body)
        self.orders[order["id"]] = order
        answer = dict(order)
        if oco:
            answer = self._add_leg(order, body)
        order["status"] = "new"
        await self._push("new", order)
        task = asyncio.create_task(self._match_soon(order))
        self._matching.add(task)
        task.add_done_callback(self._matching.discard)
        return web.json_response(answer)

    async def _match_soon(self, order: dict[str, Any]) -> None:
        await asyncio.sleep(0.005)
        await self._match(order)

    def _free(self, ticker: str) -> Decimal:
        """What no working sell claims; a parent and its leg claim it once."""
        legs = {leg for legs in self.legs.values() for leg in legs}
        held = self.held.get(ticker, (Decimal(0), Decimal(0)))[0]
        sells = [
            o for o in self.orders.values() if o["symbol"] == ticker and o["side"] == "sell" and o["status"] in OPEN
        ]
        return held - sum((_rest(o) for o in sells if o["id"] not in legs or o["status"] != "held"), Decimal(0))

    def _add_leg(self, order: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        order |= {"order_class": "oco", "limit_price": body["take_profit"]["limit_price"]}
        made = self._new({k: v for k, v in body.items() if k != "client_order_id"})
        leg = alpaca_oco.leg_of(order, made, body["stop_loss"]["stop_price"])
        self.orders[leg["id"]], self.legs[order["id"]] = leg, [leg["id"]]
        return order | {"legs": [dict(leg)] if self.tells_legs else None}

    async def _meet_stop(self, leg: dict[str, Any], price: Decimal) -> None:
        parent = next(self.orders[p] for p, legs in self.legs.items() if leg["id"] in legs)
        if parent["status"] not in OPEN:
            return
        leg["status"] = "new"
        parent |= {"status": self.met_stop_leaves, "canceled_at": iso(datetime.now(UTC))}
        await self._push(self.met_stop_leaves, parent)
        await self._push("new", leg)
        if self.fill_market_orders:
            await self._fill(leg, _rest(leg), price)

    async def _match(self, order: dict[str, Any]) -> None:
        if order["status"] not in OPEN or order["symbol"] not in self.prices:
            return
        if alpaca_oco.is_met(order, self._price(order["symbol"])):
            await self._meet_stop(order, self._price(order["symbol"]))
            return
        if order["status"] == "held" or order["qty"] is None or order["type"] not in {"market", "limit"}:
            return
        price = self._price(order["symbol"])
        if order["type"] == "market":
            if self.fill_market_orders and self.is_open:
                await self._fill(order, _rest(order), price)
            return
        limit = Decimal(order["limit_price"])
        if (price <= limit) if order["side"] == "buy" else (price >= limit):
            await self._fill(order, _rest(order), limit)

    async def _trade(self, ticker: str, price: Decimal, at: datetime | None) -> None:
        self.prices[ticker] = (price, at)
        for order in list(self.orders.values()):
            if order["symbol"] == ticker:
                await self._match(order)

    async def _fill(self, order: dict[str, Any], qty: Decimal, price: Decimal) -> None:
        before, paid = Decimal(order["filled_qty"]), Decimal(order["filled_avg_price"] or 0)
        filled = before + qty
        order["filled_avg_price"] = str((before * paid + qty * price) / filled)
        order["filled_qty"] = str(filled)
        if order["status"] in OPEN:
            done = order["qty"] is not None and filled >= Decimal(order["qty"])
            order["status"] = "filled" if done else "partially_filled"
            self._move_legs(order)
        sign = 1 if order["side"] == "buy" else -1
        self.cash -= sign * qty * price
        held, cost = self.held.get(order["symbol"], (Decimal(0), Decimal(0)))
        credited = qty
        if "/" in order["symbol"]:
            fee = qty * self.crypto_fee
            self.cash -= fee * price if sign < 0 else 0
            credited = qty - fee.quantize(Decimal("1e-9"), ROUND_CEILING) if sign > 0 else qty
        self.held[order["symbol"]] = (held + sign * credited, cost + sign * qty * price)
        execution, now = str(uuid.uuid4()), datetime.now(UTC)
        order["updated_at"] = iso(now)
        self.fills.append(
            {
                "id": f"{now:%Y%m%d%H%M%S%f}::{execution}",
                "activity_type": "FILL",
                "transaction_time": iso(now),
                "type": "fill" if order["status"] == "filled" else "partial_fill",
                "price": str(price),
                "qty": str(qty),
                "side": order["side"],
                "symbol": order["symbol"],
                "leaves_qty": str(_rest(order)),
                "order_id": order["id"],
                "cum_qty": str(filled),
                "order_status": order["status"],
            }
        )
        extra = {"price": str(price), "qty": str(qty), "timestamp": iso(now), "execution_id": execution}
        event = "fill" if order["status"] == "filled" else "partial_fill"
        await self._push(event, order, position_qty=str(self.held[order["symbol"]][0]), **extra)

    def _move_legs(self, order: dict[str, Any]) -> None:
        """A filled parent releases its legs; a filled leg cancels the other one, which no stream tells. An OCO's limit
        shrinks its stop with every part."""
        if order["order_class"] == "oco":
            for leg in (self.orders[name] for name in self.legs.get(order["id"], ())):
                if leg["status"] in OPEN:
                    leg["qty"] = str(_rest(order) + Decimal(leg["filled_qty"]))
                    leg["status"] = "canceled" if order["status"] == "filled" else leg["status"]
            return
        if order["status"] != "filled":
            return
        for leg in self.legs.get(order["id"], ()):
            if self.orders[leg]["type"] == "limit":
                self.orders[leg] |= {"status": "new", "submitted_at": iso(datetime.now(UTC))}
        for legs in self.legs.values():
            for other in legs if order["id"] in legs else ():
                if self.orders[other]["status"] in OPEN:
                    self.orders[other] |= {"status": "canceled", "canceled_at": iso(datetime.now(UTC))}

    def _nested(self, rows: list[dict[str, Any]], wanted: dict[str, str]) -> list[dict[str, Any]]:
        """Legs stand in their parent, which is listed for as long as one of them is."""
        found = {r["id"] for r in rows}
        parents = {p: legs for p, legs in self.legs.items() if p in found or found & set(legs)}
        inner = {leg for legs in self.legs.values() for leg in legs}
        rows = [self.orders[p] | {"legs": [self.orders[leg] for leg in legs]} for p, legs in parents.items()] + [
            r for r in rows if r["id"] not in parents and r["id"] not in inner
        ]
        if "after" in wanted:
            rows = [o for o in rows if parse_rfc3339(o["submitted_at"]) > parse_rfc3339(wanted["after"])]
        return rows

    async def _list_orders(self, request: web.Request) -> web.Response:
        query = request.query
        found = [o for o in self.orders.values() if o["client_order_id"] not in self.hidden]
        if query.get("status", "open") == "open":
            found = [o for o in found if o["status"] in OPEN]
        if "after" in query:
            found = [o for o in found if parse_rfc3339(o["submitted_at"]) > parse_rfc3339(query["after"])]
        if "until" in query:
            found = [o for o in found if parse_rfc3339(o["submitted_at"]) < parse_rfc3339(query["until"])]
        if query.get("nested") == "true" and self.legs and self.nests:
            found = self._nested(found, dict(query))
        found.sort(key=lambda o: o["submitted_at"], reverse=query.get("direction", "desc") == "desc")
        return web.json_response(found[: min(int(query.get("limit", 50)), self.page_size)])

    async def _order_by_client_id(self, request: web.Request) -> web.Response:
        name = request.query["client_order_id"]
        for order in self.orders.values():
            if order["client_order_id"] == name and name not in self.hidden:
                return web.json_response(order)
        return _error(404, 40410000, f"order not found for {name}")

    async def _order_by_id(self, request: web.Request) -> web.Response:
        order = self.orders.get(request.match_info["id"])
        if order is None:
            return _error(404, 40410000, "order not found")
        if request.query.get("nested") == "true" and order["id"] in self.legs and self.nests:
            order = order | {"legs": [self.orders[leg] for leg in self.legs[order["id"]]]}
        return web.json_response(order)

    async def _cancel(self, request: web.Request) -> web.Response:
        order = self.orders.get(request.match_info["id"])
        if order is None:
            return _error(404, 40410000, "order not found")
        self.cancels.append((time.monotonic(), order["id"]))
        if order["status"] not in OPEN:
            return _error(422, 42210000, f'order is already in "{order["status"]}" state')
        if self.cancel_seconds and order["status"] != "pending_cancel":
            order["status"] = "pending_cancel"
            await self._push("pending_cancel", order)
            asyncio.get_running_loop().call_later(
                self.cancel_seconds, lambda: asyncio.ensure_future(self._canceled_late(order))
            )
        elif not self.cancel_seconds:
            await self._canceled(order)
        return web.Response(status=204)

    async def _cancel_all(self, _request: web.Request) -> web.Response:
        rows = []
        for order in [
            o for o in self.orders.values() if o["status"] in OPEN and o["client_order_id"] not in self.hidden
        ]:
            self.cancels.append((time.monotonic(), order["id"]))
            await self._canceled(order)
            rows.append({"id": order["id"], "status": 200, "body": order})
        return web.json_response(rows, status=207)

    async def _canceled_late(self, order: dict[str, Any]) -> None:
        if order["status"] in OPEN:
            await self._canceled(order)

    async def _canceled(self, order: dict[str, Any]) -> None:
        """With everything in its group; of a leg that only waited no stream tells."""
        group = [order["id"], *self.legs.get(order["id"], ())]
        group += [parent for parent, legs in self.legs.items() if order["id"] in legs and order["order_class"] == "oco"]
        for gone in (
            self.orders[name] for name in group if self.orders[name]["order_class"] == "oco" or name == group[0]
        ):
            if gone["status"] in OPEN:
                silent = gone["status"] == "held"
                gone["status"], gone["canceled_at"] = "canceled", iso(datetime.now(UTC))
                if not silent or gone is order:
                    await self._push("canceled", gone)

    # -- account and market ---------------------------------------------------------------------------------------

    def _price(self, ticker: str) -> Decimal:
        return self.prices.get(ticker, (Decimal(100), None))[0]

    async def _positions(self, _request: web.Request) -> web.Response:
        rows = []
        for ticker, (qty, cost) in self.held.items():
            if not qty:
                continue
            value = qty * self._price(ticker)
            crypto = "/" in ticker
            rows.append(
                {
                    "symbol": ticker.replace("/", ""),
                    "asset_class": "crypto" if crypto else "us_equity",
                    "qty": str(qty),
                    "side": "long" if qty > 0 else "short",
                    "avg_entry_price": str(cost / qty),
                    "market_value": str(value),
                    "cost_basis": str(cost),
                    "unrealized_pl": str(value - cost),
                    "current_price": str(self._price(ticker)),
                }
            )
        return web.json_response(rows)

    async def _account(self, _request: web.Request) -> web.Response:
        value = sum((q * self._price(t) for t, (q, _) in self.held.items()), Decimal(0))
        return web.json_response(
            {
                "id": "43a01bee-0000-4000-8000-000000000000",
                "status": "ACTIVE",
                "currency": "USD",
                "buying_power": str(self.cash),
                "cash": str(self.cash),
                "equity": str(self.cash + value),
                "portfolio_value": str(self.cash + value),
                "trading_blocked": False,
                "account_blocked": False,
                "trade_suspended_by_user": False,
            }
        )

    async def _clock(self, _request: web.Request) -> web.Response:
        now = datetime.now(UTC)
        return web.json_response(
            {
                "timestamp": iso(now),
                "is_open": self.is_open,
                "next_open": iso(now + timedelta(hours=17)),
                "next_close": iso(now + timedelta(hours=1)),
            }
        )

    async def _asset(self, request: web.Request) -> web.Response:
        ticker = request.match_info["symbol"]
        if ticker not in self.tickers:
            return _error(404, 40410000, f"asset not found for {ticker}")
        crypto = {"min_order_size": "0.0001", "min_trade_increment": "0.0001", "price_increment": "0.01"}
        return web.json_response(
            {
                "id": str(uuid.uuid4()),
                "class": "crypto" if "/" in ticker else "us_equity",
                "symbol": ticker,
                "status": "active",
                "tradable": True,
                "fractionable": True,
                **(crypto if "/" in ticker else {}),
            }
        )

    async def _activities(self, request: web.Request) -> web.Response:
        rows = [f for f in self.fills if f["transaction_time"] > request.query["after"].replace("Z", "")]
        token = request.query.get("page_token")
        if token is not None:
            rows = rows[[r["id"] for r in rows].index(token) + 1 :]
        return web.json_response(rows[: min(int(request.query.get("page_size", 100)), self.page_size)])

    async def _latest(self, request: web.Request) -> web.Response:
        ticker = request.query["symbols"]
        if ticker not in self.prices:
            return web.json_response({"trades": {}})
        price, at = self.prices[ticker]
        trade = {"t": iso(at or datetime.now(UTC)), "x": "V", "p": float(price), "s": 100, "i": 1, "z": "C"}
        return web.json_response({"trades": {ticker: trade}})

    async def _bars(self, request: web.Request) -> web.Response:
        """Forty bars a page, so that paging is always exercised."""
        start, end = request.query["start"].rstrip("Z"), request.query["end"].rstrip("Z")
        rows = [
            (ticker, bar)
            for ticker in request.query["symbols"].split(",")
            for bar in self.bars.get(ticker, [])
            if start <= bar["t"].rstrip("Z") <= end
        ]
        at = int(request.query.get("page_token", 0))
        page: dict[str, list[Any]] = {}
        for ticker, bar in rows[at : at + 40]:
            page.setdefault(ticker, []).append(bar)
        more = str(at + 40) if len(rows) > at + 40 else None
        return web.json_response({"bars": page, "next_page_token": more})

    # -- trade_updates --------------------------------------------------------------------------------------------

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        mute, self.mute_streams = self.mute_streams > 0, max(0, self.mute_streams - 1)
        async for message in socket:
            if message.type not in {WSMsgType.TEXT, WSMsgType.BINARY}:
                break
            if mute:
                continue
            asked = json.loads(message.data)
            if asked["action"] in {"auth", "authenticate"}:
                data = asked.get("data", asked)
                good = data.get("key_id", data.get("key")) == KEY
                status = "authorized" if good else "unauthorized"
                await _send(socket, {"stream": "authorization", "data": {"action": "authenticate", "status": status}})
            elif asked["action"] == "listen":
                await _send(socket, {"stream": "listening", "data": {"streams": asked["data"]["streams"]}})
                self._sockets.add(socket)
        self._sockets.discard(socket)
        return socket

    async def _push(self, event: str, order: dict[str, Any], **extra: Any) -> None:
        data = {"event": event, "order": dict(order), "timestamp": iso(datetime.now(UTC)), **extra}
        for socket in list(self._sockets):
            try:
                await _send(socket, {"stream": "trade_updates", "data": data})
            except ConnectionError:
                self._sockets.discard(socket)


async def _send(socket: web.WebSocketResponse, message: Any) -> None:
    """Paper accounts send JSON in binary frames."""
    await socket.send_bytes(json.dumps(message).encode())


def _rest(order: dict[str, Any]) -> Decimal:
    return Decimal(order["qty"] or 0) - Decimal(order["filled_qty"])


def _error(status: int, code: int, message: str, **more: str) -> web.Response:
    return web.json_response({"code": code, "message": message, **more}, status=status)


@contextmanager
def alpaca_server(**options: Any) -> Iterator[AlpacaServer]:
    server = AlpacaServer(**options)
    server.start()
    try:
        yield server
    finally:
        server.stop()
