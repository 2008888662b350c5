"""A TCP proxy on loopback that breaks: slow, mute in one direction or both, reset, or with the reply lost.

It stands before a Redis or a venue. Everything is scripted from the test's thread; ``heal`` ends it all.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import free_port

UP, DOWN = "up", "down"
"""Towards the server, and back to its client."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_CHUNK = 65_536


class _Link:
    """One client's connection and the one that was made for it."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self.reader, self.writer = reader, writer
        self.to_server: asyncio.StreamWriter | None = None
        self.reply_is_lost = False

    async def run(self) -> None:
        try:
            back, self.to_server = await asyncio.open_connection("127.0.0.1", self._proxy.upstream)
        except OSError:
            self.reset()
            return
        pumps = [
            asyncio.ensure_future(self._pump(self.reader, self.to_server, UP)),
            asyncio.ensure_future(self._pump(back, self.writer, DOWN)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.to_server.transport.abort()
            self.writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        try:
            while data := await reader.read(_CHUNK):
                if not await self._proxy.passes(self, data, way):
                    self.reset()
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            return

    def reset(self) -> None:
        """End both sides at once, the client's with RST."""
        if not self.writer.transport.is_closing():
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.writer.transport.abort()
        if self.to_server is not None:
            self.to_server.transport.abort()


class FaultProxy:
    """Forwards ``port`` to ``upstream`` on loopback. All public methods may be called from any thread."""

    def __init__(self, upstream: int, rng: random.Random | None = None) -> None:
        self.upstream, self.port = upstream, free_port()
        self.accepted = self.replies_lost = self.resets = 0
        self._rng = rng or random.Random(0)
        self._links: set[_Link] = set()
        self._delay = self._jitter = 0.0
        self._slow = b""
        self._mute: set[str] = set()
        self._budget: dict[str, int] = {}
        self._lose: list[bytes] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
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

    def delay(self, seconds: float, jitter: float = 0.0, mark: bytes = b"") -> None:
        """Hold every piece in which the mark is found for so long, and up to ``jitter`` seconds more; in order."""
        self._delay, self._jitter, self._slow = seconds, jitter, mark

    def mute(self, *ways: str) -> None:
        """Half open: accept and read, forward nothing in these directions (both by default) until ``heal``."""
        self._mute = set(ways or (UP, DOWN))

    def reset(self) -> None:
        """RST to every client that is connected now."""
        self._call(self._reset_all)

    def reset_after(self, size: int, way: str = DOWN) -> None:
        """Let so many more bytes pass that way, then cut the connection off amid them, once."""
        self._budget[way] = size

    def lose_reply(self, *marks: bytes) -> None:
        """For each mark: forward the next piece in which that regular expression is found, swallow its reply, reset.

        b"" is found in any."""
        self._lose.extend(marks)

    def heal(self) -> None:
        """Forward faithfully from now on, and let what was held back go."""

        def healed() -> None:
            self._delay = self._jitter = 0.0
            self._mute, self._budget, self._lose = set(), {}, []
            self._changed.set()
            self._changed = asyncio.Event()

        self._call(healed)

    def _call(self, work: object) -> None:
        done = threading.Event()

        def run() -> None:
            work()  # type: ignore[operator]
            done.set()

        assert self._loop is not None
        self._loop.call_soon_threadsafe(run)
        assert done.wait(30)

    # -- the proxy's own thread -----------------------------------------------------------------------------------

    async def passes(self, link: _Link, data: bytes, way: str) -> bool:
        """Wait as long as this piece must; False where the connection ends here."""
        if (self._delay or self._jitter) and re.search(self._slow, data, re.DOTALL):
            await asyncio.sleep(self._delay + self._rng.random() * self._jitter)
        while way in self._mute:
            await self._changed.wait()
        if way == UP:
            mark = next((m for m in self._lose if re.search(m, data, re.DOTALL)), None)
            if mark is not None:
                self._lose.remove(mark)
                link.reply_is_lost = True
        elif link.reply_is_lost:
            self.replies_lost += 1
            return False
        return self._within_budget(link, data, way)

    def _within_budget(self, link: _Link, data: bytes, way: str) -> bool:
        left = self._budget.get(way)
        if left is None:
            return True
        if len(data) <= left:
            self._budget[way] = left - len(data)
            return True
        del self._budget[way]
        writer = link.to_server if way == UP else link.writer
        if writer is not None:
            writer.write(data[:left])
        self.resets += 1
        return False

    def _reset_all(self) -> None:
        for link in list(self._links):
            self.resets += 1
            link.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self._ready.set()
        await self._stop.wait()
        server.close()
        self._mute = set()
        self._changed.set()
        while self._links:
            self._reset_all()
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)


@contextmanager
def fault_proxy(upstream: int, rng: random.Random | None = None) -> Iterator[FaultProxy]:
    proxy = FaultProxy(upstream, rng)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
