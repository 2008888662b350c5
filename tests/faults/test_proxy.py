"""The fault proxy itself: a bench that breaks nothing proves nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import redis

from shared.store import connect
from tests.servers.proxy import DOWN, UP, FaultProxy, fault_proxy
from tests.support import PASSWORD, RedisServer, eventually


@pytest.fixture
def proxy(redis_server: RedisServer, redis_url: str) -> Iterator[FaultProxy]:
    assert redis_url
    with fault_proxy(redis_server.port) as made:
        yield made


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[redis.Redis]:
    made = connect(f"redis://:{PASSWORD}@127.0.0.1:{proxy.port}/0", timeout_seconds=1)
    made.ping()
    yield made
    made.close()


@pytest.fixture
def behind(redis_url: str) -> Iterator[redis.Redis]:
    made = connect(redis_url)
    yield made
    made.close()


def test_lost_reply_when_the_request_matches_is_done_and_its_sender_does_not_hear(
    proxy: FaultProxy, client: redis.Redis, behind: redis.Redis
) -> None:
    proxy.lose_reply(b"INCR")
    client.set("other", "1")
    with pytest.raises(redis.ConnectionError):
        client.incr("n")
    assert (behind.get("n"), proxy.replies_lost) == (b"1", 1)
    assert client.incr("n") == 2


@pytest.mark.parametrize(("way", "arrived"), [(UP, None), (DOWN, b"1")])
def test_mute_when_one_direction_is_half_open_stops_that_direction_only(
    proxy: FaultProxy, client: redis.Redis, behind: redis.Redis, way: str, arrived: bytes | None
) -> None:
    proxy.mute(way)
    with pytest.raises(redis.TimeoutError):
        client.set("n", "1")
    eventually(lambda: behind.get("n") == arrived, what="the deed or none")
    proxy.heal()
    assert client.set("n", "2")


def test_reset_when_bytes_were_counted_cuts_the_answer_off_amid_them(proxy: FaultProxy, behind: redis.Redis) -> None:
    behind.set("long", "x" * 1000)
    with socket.create_connection(("127.0.0.1", proxy.port)) as raw:
        raw.settimeout(30)
        proxy.reset_after(100)
        raw.sendall(f"AUTH {PASSWORD}\r\nGET long\r\n".encode())
        with pytest.raises(ConnectionResetError):
            _read_all(raw)
    assert proxy.resets == 1


def test_reset_when_now_ends_every_connection_and_the_next_one_works(proxy: FaultProxy, client: redis.Redis) -> None:
    with client.pubsub() as channel:
        channel.subscribe("c")
        assert channel.get_message(timeout=5)
        proxy.reset()
        with pytest.raises(redis.ConnectionError):
            channel.get_message(timeout=5)
    assert client.ping()
    assert proxy.resets == 1


def test_delay_when_longer_than_the_timeout_costs_the_answer_and_not_the_deed(
    proxy: FaultProxy, client: redis.Redis, behind: redis.Redis
) -> None:
    proxy.delay(0.9, 0.01)
    with pytest.raises(redis.TimeoutError):
        client.set("n", "1")
    eventually(lambda: behind.get("n") == b"1", what="the deed")


def _read_all(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass
