"""The market data socket against raw frames: pieces, pings, broken frames, and goodbyes."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

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
def pair(early: bytes = b"") -> Iterator[tuple[FeedSocket, socket.socket]]:
    """A connected feed socket and the raw end of its server, the handshake done, ``early`` in one piece with it."""
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
                    client.sendall(b"".join(protocol.data_to_send()) + early)
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


def test_receive_when_frames_are_cut_anywhere_gives_what_the_protocol_of_the_library_gives() -> None:
    dice = random.Random(6)
    kinds = [(1, b"a"), (2, b""), (1, b"y" * 125), (2, b"z" * 126), (1, b"q" * 70_000), (9, b"p"), (10, b""), (1, None)]
    wire, wanted = b"", list[bytes]()
    for _ in range(300):
        opcode, payload = dice.choice(kinds)
        if payload is None:
            wire += frame(1, b"in ", fin=False) + frame(9, b"") + frame(0, b"three ", fin=False) + frame(0, b"pieces")
            wanted.append(b"in three pieces")
        else:
            wire += frame(opcode, payload)
            wanted += [payload] if opcode < 9 else []
    protocol = ClientProtocol(parse_uri("ws://x"), state=State.OPEN)
    protocol.receive_data(wire)
    assert sum(isinstance(f, Frame) and f.fin and f.opcode < 9 for f in protocol.events_received()) == len(wanted)
    with pair(wire[:3]) as (opened, server):

        def send() -> None:
            at = 3
            while at < len(wire):
                size = dice.choice((1, 2, 3, 7, 130, 5000, 200_000))
                server.sendall(wire[at : at + size])
                at += size

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        assert received(opened, len(wanted)) == wanted
        thread.join(30)


def test_receive_when_messages_come_in_one_piece_with_the_handshake_gives_them() -> None:
    with pair(frame(1, b"early") + frame(9, b"ping") + frame(2, b"bird")[:3]) as (opened, server):
        assert received(opened, 1) == [b"early"]
        server.sendall(frame(2, b"bird")[3:])
        assert received(opened, 1) == [b"bird"]
        assert server.recv(100)[0] == 0x8A


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
        (frame(1, b"begun, ", fin=False) + frame(1, b"not ended"), "broken frame"),
        (frame(1, b"x" * LARGEST_MESSAGE, fin=False) + frame(0, b"x"), "broken frame"),
        (b"\xc1\x01x", "broken frame"),
        (frame(3, b"of no known kind"), "broken frame"),
        (frame(9, b"ping", fin=False), "broken frame"),
        (b"\x81\x81\x00\x00\x00\x00x", "broken frame"),
        (frame(1, b"x" * 300)[:200], "closed without a word"),
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
