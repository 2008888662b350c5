"""The market data socket against raw frames: pieces, pings, broken frames, and goodbyes."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.http11 import Request
from websockets.server import ServerProtocol

from worker.feeds.socket import LARGEST_MESSAGE, FeedSocket, SocketLost


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """One unmasked frame, as servers send them."""
    head = bytes([(0x80 if fin else 0) | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 65_536:
        return head + b"\x7e" + struct.pack("!H", len(payload)) + payload
    return head + b"\x7f" + struct.pack("!Q", len(payload)) + payload


@contextmanager
def pair() -> Iterator[tuple[FeedSocket, socket.socket]]:
    """A connected feed socket and the raw end of its server, the handshake done."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ends: list[socket.socket] = []

        def accept() -> None:
            client, _ = listener.accept()
            protocol = ServerProtocol()
            while True:
                protocol.receive_data(client.recv(65_536))
                for event in protocol.events_received():
                    assert isinstance(event, Request)
                    protocol.send_response(protocol.accept(event))
                    client.sendall(b"".join(protocol.data_to_send()))
                    ends.append(client)
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        opened = FeedSocket(f"ws://127.0.0.1:{listener.getsockname()[1]}/x", 30.0)
        thread.join(30)
        try:
            yield opened, ends[0]
        finally:
            opened.close()
            ends[0].close()


def received(opened: FeedSocket, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count:
        found += opened.receive(30.0)
    return found


def test_receive_when_messages_come_in_pieces_gives_them_whole() -> None:
    with pair() as (opened, server):
        large = b"x" * 200_000
        wire = (
            frame(1, b"one") + frame(1, b"two, ", fin=False) + frame(9, b"ping") + frame(0, b"joined") + frame(2, large)
        )
        for first in range(0, 40):
            server.sendall(wire[first : first + 1])
        server.sendall(wire[40:])
        assert received(opened, 3) == [b"one", b"two, joined", large]
        pong = server.recv(100)
        assert pong[0] == 0x8A
        assert opened.receive(0.01) == []


def test_receive_when_the_server_says_good_bye_tells_its_words_after_the_last_message() -> None:
    with pair() as (opened, server):
        server.sendall(frame(1, b"last") + frame(8, struct.pack("!H", 1013) + b"try later"))
        assert received(opened, 1) == [b"last"]
        with pytest.raises(SocketLost, match="closed by the server: 1013 try later"):
            received(opened, 1)


@pytest.mark.parametrize(
    ("wire", "told"),
    [
        (b"\xff\xff\xff\xff", "broken frame"),
        (frame(1, b"x" * 10)[:1] + b"\xff" + struct.pack("!Q", 2**63), "broken frame"),
        (b"\x81\x7f" + struct.pack("!Q", LARGEST_MESSAGE + 1), "broken frame"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", "closed without a word"),
        (b"", "closed without a word"),
    ],
)
def test_receive_when_the_wire_makes_no_sense_is_lost(wire: bytes, told: str) -> None:
    with pair() as (opened, server):
        server.sendall(wire)
        server.shutdown(socket.SHUT_WR)
        with pytest.raises(SocketLost, match=told):
            received(opened, 1)


def test_receive_when_another_thread_aborts_is_lost_at_once() -> None:
    with pair() as (opened, _):
        threading.Timer(0.05, opened.abort).start()
        with pytest.raises(SocketLost):
            received(opened, 1)


def test_socket_when_the_address_is_none_is_lost() -> None:
    for url in ("nonsense", "http://127.0.0.1:1", "ws://"):
        with pytest.raises(SocketLost):
            FeedSocket(url, 1.0)
