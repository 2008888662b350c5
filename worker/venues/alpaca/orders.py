"""One order at Alpaca: sent, asked for, cancelled."""

from __future__ import annotations

from typing import Any

from shared.errors import OrderNotFound, VenueAmbiguous, VenueError, VenueUnavailable
from worker.core.types import OrderRequest, TimeInForce, VenueOrder
from worker.venues.alpaca import mapping, wire
from worker.venues.alpaca.clients import RestClient
from worker.venues.alpaca.endpoints import Endpoints
from worker.venues.alpaca.listing import OrderList
from worker.venues.alpaca.pairs import Pairs, is_pair
from worker.venues.base import CancelOutcome, CancelResult, SendGuard


class Orders:
    """Orders of one account by their ids."""

    def __init__(self, client: RestClient, pairs: Pairs, listing: OrderList, endpoints: Endpoints) -> None:
        self._client, self._pairs, self._listing, self._endpoints = client, pairs, listing, endpoints

    def submit(self, request: OrderRequest, guard: SendGuard) -> VenueOrder:
        """See ``venues.base.Venue.submit``."""
        answer = wire.send(lambda: self._client.post("/orders", _body(request)), guard)
        try:
            told = self._whole(answer)
        except wire.MALFORMED as error:
            raise VenueAmbiguous(f"an answer that is no order: {str(answer)[:200]}") from error
        except VenueUnavailable as error:
            raise VenueAmbiguous(f"it is not known whether the stop stands: {error}") from error
        if told.reason:
            raise VenueAmbiguous(f"an answer with {told.reason}")
        if told.client_order_id != request.client_order_id:
            raise VenueAmbiguous(f"the answer is of another order: {told.client_order_id}")
        return told

    def by_client_id(self, client_order_id: str) -> VenueOrder:
        """Raises OrderNotFound, VenueUnavailable."""
        query = {"client_order_id": client_order_id}
        answer = wire.call(lambda: self._client.get("/orders:by_client_order_id", query))
        told = wire.read(lambda: self._whole(answer))
        if told.client_order_id != client_order_id:
            raise VenueUnavailable(f"the answer is of another order: {told.client_order_id}")
        return told

    def _whole(self, answer: Any) -> VenueOrder:
        """One order; a pair with its leg, which not every answer shows. Raises VenueUnavailable or a MALFORMED."""
        if is_pair(answer) and not answer.get("legs"):
            path, shown = wire.order_path(str(answer["id"])), answer
            answer = self._endpoints.ask(
                "order", lambda: wire.get(lambda: self._client.get(path, {"nested": "true"})), lambda: shown
            )
        if is_pair(answer) and not answer.get("legs") and not self._pairs.has_leg(str(answer["id"])):
            placed = mapping.made_at(answer)
            if placed is not None:
                self._listing.made_with(placed)  # where the leg stands by itself
        return self._pairs.order(answer)

    def cancel(self, venue_order_id: str) -> CancelResult:
        """A pair's leg goes with its parent; where that is over, as after the stop was met, the leg is asked for."""
        result = self._cancel(venue_order_id)
        if result.outcome is CancelOutcome.ALREADY_FINAL:
            for leg in self._pairs.parts(venue_order_id):
                result = CancelResult(venue_order_id, (found := self._cancel(leg)).outcome, found.message)
        return result

    def _cancel(self, venue_order_id: str) -> CancelResult:
        if not venue_order_id.strip("."):  # such a path would name the list of orders, and DELETE on that is cancel-all
            return CancelResult(venue_order_id, CancelOutcome.UNCONFIRMED, "not an order id")
        try:
            wire.call(lambda: self._client.delete(wire.order_path(venue_order_id)))
            return CancelResult(venue_order_id, CancelOutcome.REQUESTED)
        except (OrderNotFound, wire.Uncancelable) as error:
            return CancelResult(venue_order_id, CancelOutcome.ALREADY_FINAL, str(error))
        except VenueError as error:
            return CancelResult(venue_order_id, CancelOutcome.UNCONFIRMED, str(error))

    def cancel_all(self) -> list[CancelResult]:
        """Raises VenueUnavailable."""
        rows = wire.rows(lambda: self._client.delete("/orders"))
        results: dict[str, CancelResult] = {}
        for told in wire.read(lambda: [mapping.cancel_row(row) for row in rows]):
            name = self._pairs.name(told.venue_order_id)
            if name == told.venue_order_id or told.outcome is CancelOutcome.UNCONFIRMED:
                results[name] = CancelResult(name, told.outcome, told.message)
        return list(results.values())


def _body(request: OrderRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "symbol": request.ticker,
        "qty": f"{request.qty:f}",
        "side": request.side.value,
        "type": request.type.value,
        "time_in_force": _time_in_force(request).value,
        "client_order_id": request.client_order_id,
    }
    if request.limit_price is not None:
        body["limit_price"] = f"{request.limit_price:f}"
    if request.stop_price is not None:
        body["order_class"] = "oco"
        body["take_profit"] = {"limit_price": f"{request.limit_price:f}"}
        body["stop_loss"] = {"stop_price": f"{request.stop_price:f}"}
    return body


def _time_in_force(request: OrderRequest) -> TimeInForce:
    """Coins know no day: Alpaca refuses one with 42210000, ``invalid crypto time_in_force`` (d-e-s-o/apca issue 27)."""
    is_coin = "/" in request.ticker
    return TimeInForce.GTC if is_coin and request.time_in_force is TimeInForce.DAY else request.time_in_force
