"""Order updates as they are pushed: every execution once, no frame that ends the stream, no gap that goes unseen."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from tests.contract.cases_alpaca import alpaca_venue
from tests.integration.alpaca.support import go, limit_order
from tests.servers.alpaca import AlpacaServer
from tests.support import eventually, free_port
from worker.core.types import OrderState, OrderUpdate
from worker.venues.alpaca import AlpacaVenue
from worker.venues.alpaca.stream import AlpacaStream
from worker.venues.base import UpdateStream

GARBAGE: list[bytes | str] = [
    b"",
    b"\xff\xfe\x00",
    b"not json",
    "text that is no json",
    "[]",
    "null",
    "0",
    "{}",
    "[" * 100_000,
    '{"stream": "trade_updates"}',
    '{"stream": "trade_updates", "data": null}',
    '{"stream": "trade_updates", "data": {"event": "fill", "order": {"id": "x"}}}',
    '{"stream": "authorization", "data": {"status": "authorized"}}',
    '{"stream": "somewhere else", "data": {}}',
]


@pytest.fixture
def seen() -> list[OrderUpdate]:
    return []


@pytest.fixture
def stream(server: AlpacaServer, venue: AlpacaVenue, seen: list[OrderUpdate]) -> Iterator[UpdateStream]:
    found = venue.stream_updates(seen.append)
    eventually(lambda: found.connected and server.listeners == 1, what="the stream to listen")
    yield found
    found.close()


def states(seen: list[OrderUpdate], name: str) -> list[OrderState]:
    return [u.order.state for u in list(seen) if u.order.client_order_id == name]


def sent(seen: list[OrderUpdate], venue: AlpacaVenue) -> str:
    """Submit a resting order and wait until it is pushed."""
    name = venue.submit(limit_order(), go).client_order_id or ""
    eventually(lambda: states(seen, name), what="the new order to be pushed")
    return name


def test_stream_when_an_order_lives_pushes_each_step_with_its_execution(
    server: AlpacaServer, venue: AlpacaVenue, stream: UpdateStream, seen: list[OrderUpdate]
) -> None:
    name = sent(seen, venue)
    server.fill(name, "0.5", "50.00")
    server.fill(name, "1.5", "49.00")
    eventually(lambda: OrderState.FILLED in states(seen, name), what="the last fill to be pushed")
    assert states(seen, name) == [OrderState.ACCEPTED, OrderState.PARTIALLY_FILLED, OrderState.FILLED]
    executions = [u.execution for u in seen if u.execution is not None]
    figures = [(str(e.qty), str(e.price), e.client_order_id, e.derived) for e in executions]
    assert figures == [("0.5", "50.00", name, False), ("1.5", "49.00", name, False)]
    assert [e.execution_id for e in executions] == [f["id"].partition("::")[2] for f in server.fills]
    assert [u.order.filled_qty for u in seen] == [0, Decimal("0.5"), 2]
    assert seen[-1].order.avg_fill_price == Decimal("49.25")


def test_stream_when_an_order_is_canceled_pushes_that(
    venue: AlpacaVenue, stream: UpdateStream, seen: list[OrderUpdate]
) -> None:
    name = sent(seen, venue)
    venue.cancel(seen[0].order.venue_order_id)
    eventually(lambda: OrderState.CANCELED in states(seen, name), what="the cancel to be pushed")
    assert [u.execution for u in seen] == [None, None]


def test_stream_when_cut_comes_back_with_a_higher_generation(
    server: AlpacaServer, venue: AlpacaVenue, stream: UpdateStream, seen: list[OrderUpdate]
) -> None:
    """A reconnect replays nothing: the generation is the only sign that something may have been missed."""
    for _ in range(2):
        before = stream.generation
        server.drop_streams()
        eventually(
            lambda before=before: stream.generation > before and stream.connected and server.listeners == 1,
            what="the stream to come back",
        )
        sent(seen, venue)
    assert len(seen) == 2


def test_stream_when_the_server_starts_late_connects_then(seen: list[OrderUpdate]) -> None:
    server = AlpacaServer()
    venue = alpaca_venue(server)
    stream = venue.stream_updates(seen.append)
    assert (stream.connected, stream.generation) == (False, 0)
    server.start()
    eventually(lambda: stream.connected and server.listeners == 1, what="the stream to connect at last")
    sent(seen, venue)
    stream.close()
    venue.close()
    server.stop()


def test_stream_when_its_key_is_refused_never_counts_as_connected(server: AlpacaServer) -> None:
    stream = AlpacaStream("another-key", "s", paper=True, url=server.stream_url, on_update=lambda _: None)
    stream.start()
    eventually(lambda: server.requests["GET /stream"] >= 2, what="a second try")
    assert (stream.connected, stream.generation, server.listeners) == (False, 0, 0)
    stream.close()


def test_stream_when_its_sign_in_is_never_answered_tries_again(
    server: AlpacaServer, venue: AlpacaVenue, seen: list[OrderUpdate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a peer still answers pings, so that nothing else would end the wait."""
    monkeypatch.setattr("worker.venues.alpaca.stream.LISTEN_SECONDS", 0.3)
    server.mute_streams = 1
    stream = venue.stream_updates(seen.append)
    eventually(lambda: server.requests["GET /stream"] >= 1, what="the first try")
    assert stream.connected is False
    monkeypatch.undo()
    eventually(lambda: stream.connected and server.listeners == 1, what="a later try to listen")
    sent(seen, venue)
    stream.close()


@pytest.mark.parametrize("frame", GARBAGE, ids=lambda f: repr(f)[:30])
def test_stream_when_a_frame_is_garbage_loses_that_frame_alone(
    server: AlpacaServer, venue: AlpacaVenue, stream: UpdateStream, seen: list[OrderUpdate], frame: bytes | str
) -> None:
    eventually(lambda: stream.generation >= 2, what="the server's word that it listens")
    before = stream.generation
    server.send_frame(frame)
    sent(seen, venue)
    assert len(seen) == 1
    assert (stream.generation, stream.connected) == (before, True)


def test_stream_when_a_fill_s_figures_are_nonsense_is_dropped_whole(
    server: AlpacaServer, venue: AlpacaVenue, stream: UpdateStream, seen: list[OrderUpdate]
) -> None:
    name = sent(seen, venue)
    order = next(o for o in server.orders.values() if o["client_order_id"] == name)
    for qty, price in (("NaN", "50"), ("-1", "50"), ("1", "0"), (None, "50"), ("1", "Infinity")):
        data = {"event": "fill", "execution_id": "e", "qty": qty, "price": price, "order": order}
        server.send_frame(json.dumps({"stream": "trade_updates", "data": data}))
    sent(seen, venue)
    assert [u.execution for u in seen] == [None, None]


def test_stream_when_its_listener_raises_goes_on(
    server: AlpacaServer, venue: AlpacaVenue, seen: list[OrderUpdate], caplog: pytest.LogCaptureFixture
) -> None:
    def take(update: OrderUpdate) -> None:
        seen.append(update)
        if len(seen) == 1:
            raise RuntimeError("a bug in the listener")

    stream = venue.stream_updates(take)
    eventually(lambda: stream.connected and server.listeners == 1, what="the stream to listen")
    sent(seen, venue)
    sent(seen, venue)
    stream.close()
    assert "a bug in the listener" in caplog.text


def unstarted(url: str) -> AlpacaStream:
    return AlpacaStream("k", "s", paper=True, url=url, on_update=lambda _: None)


@pytest.mark.parametrize("wait", [lambda _: True, lambda s: s._loop is not None], ids=["at once", "while connecting"])
def test_close_when_the_stream_never_connected_ends_its_thread(wait: Callable[[AlpacaStream], bool]) -> None:
    stream = unstarted(f"ws://127.0.0.1:{free_port()}/stream")
    stream.start()
    eventually(lambda: wait(stream), what="the moment to close")
    stream.close()
    eventually(lambda: not stream._thread.is_alive(), what="the thread to end")
    assert stream.connected is False


def test_close_when_its_cancel_is_lost_in_a_refused_connection_ends_its_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What asyncio.wait_for does where both come at once: the stream would reconnect in a thread that nobody stops."""
    stream, tries = unstarted("ws://127.0.0.1:1/stream"), []

    async def refused_as_it_is_cancelled() -> None:
        tries.append(stream.connected)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if len(tries) < 3:
                raise ConnectionRefusedError from None
            raise

    monkeypatch.setattr(stream._inner, "_start_ws", refused_as_it_is_cancelled)
    monkeypatch.setattr(stream._inner, "_reconnect_min_backoff", 0.0)
    stream.start()
    eventually(lambda: tries, what="a connection under way")
    stream.close()
    eventually(lambda: not stream._thread.is_alive(), what="the thread to end")
    assert stream.connected is False


def test_close_when_the_stream_never_started_returns() -> None:
    unstarted("ws://127.0.0.1:1/stream").close()


def test_close_when_connected_ends_the_thread_and_pushes_nothing_more(
    server: AlpacaServer, venue: AlpacaVenue, stream: UpdateStream, seen: list[OrderUpdate]
) -> None:
    sent(seen, venue)
    stream.close()
    eventually(lambda: server.listeners == 0, what="the server to see the stream go")
    venue.submit(limit_order(), go)
    assert stream.connected is False
    assert len(seen) == 1


def test_close_when_the_peer_is_silent_returns_without_it() -> None:
    """The websocket was asked for and never granted: nobody waits for it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stream = unstarted(f"ws://127.0.0.1:{listening.getsockname()[1]}/stream")
        stream.start()
        peer, _ = listening.accept()
        stream.close()
        eventually(lambda: not stream._thread.is_alive(), what="the thread to end")
        peer.close()
