"""A Binance that sends trades as fast as it can, in a process of its own: ``python -m tests.bench.feed_source N``."""

from __future__ import annotations

import socket
import sys
import time

from websockets.http11 import Request
from websockets.server import ServerProtocol

TOGETHER = 250


def frame(number: int, at_ms: int, symbol: bytes = b"BTCUSDT") -> bytes:
    """One wrapped trade of the futures' stream, always of the same length."""
    price = 60_000_000 + number * 7919 % 40_000
    return (
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":%d,"T":%d,"s":"%s","t":%d,"p":"%d.%02d","q":"0.%03d",'
        b'"X":"MARKET","m":%s}}'
        % (
            at_ms,
            at_ms,
            symbol,
            1_000_000_000 + number,
            price // 1000,
            price % 100,
            number % 900 + 100,
            b"true " if number % 3 else b"false",
        )
    )


def main(count: int) -> None:
    """Print the port; serve one client: shake hands, hear its subscription, send ``count`` trades."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    client, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    protocol = ServerProtocol()
    while True:
        protocol.receive_data(client.recv(65536))
        request = next((e for e in protocol.events_received() if isinstance(e, Request)), None)
        if request is not None:
            protocol.send_response(protocol.accept(request))
            client.sendall(b"".join(protocol.data_to_send()))
            break
    client.recv(65536)
    size = len(frame(0, 1_700_000_000_000))
    head = b"\x81\x7e" + size.to_bytes(2, "big")
    for first in range(0, count, TOGETHER):
        now = time.time_ns() // 1_000_000
        client.sendall(b"".join(head + frame(n, now) for n in range(first, min(first + TOGETHER, count))))
    client.recv(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
