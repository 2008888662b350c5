"""``trade_updates`` through alpaca-py's TradingStream, in a thread and an event loop of its own.

A reconnect replays nothing, so every connection raises the generation, and whoever sees that repairs the gap by REST.
The server's word that it listens raises it again: what happened between our asking and that is repaired too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from worker.core.types import OrderUpdate
from worker.venues.alpaca import mapping

PING = {"ping_interval": 5, "ping_timeout": 10, "open_timeout": 3, "close_timeout": 0.5, "max_queue": 4096}
LISTEN_SECONDS = 5.0
"""For connecting and signing in together; alpaca-py would wait for ever for the answer to its sign-in."""
_CANCEL_AGAIN_SECONDS = 0.1


class AlpacaStream:
    """See ``venues.base.UpdateStream``."""

    def __init__(
        self,
        api_key: str,
        secret_key: str,
        *,
        paper: bool,
        url: str | None,
        on_update: Callable[[OrderUpdate], None],
        read: Callable[[Mapping[str, Any]], OrderUpdate] = mapping.update,
    ) -> None:
        self._on_update, self._read, self._logger = on_update, read, logging.getLogger("venue.stream")
        self._generation, self._connected = 0, False
        self._closing = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="trade-updates", daemon=True)
        self._inner = self._build(api_key, secret_key, paper, url)

    def _build(self, api_key: str, secret_key: str, paper: bool, url: str | None) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # alpaca-py still uses websockets' legacy client
            from alpaca.trading.stream import TradingStream

        outer = self
        logging.getLogger("alpaca.trading.stream").setLevel(logging.CRITICAL)

        class Counted(TradingStream):
            async def _start_ws(self) -> None:
                starting: Any = super()._start_ws()  # type: ignore[no-untyped-call]  # alpaca-py leaves it untyped
                await asyncio.wait_for(starting, LISTEN_SECONDS)
                outer._generation += 1
                outer._connected = True

            async def _dispatch(self, msg: dict[str, Any]) -> None:
                if msg.get("stream") == "listening":
                    outer._generation += 1
                await super()._dispatch(msg)

            async def close(self) -> None:
                outer._connected = False
                await super().close()

        override: Any = url
        stream = Counted(api_key, secret_key, paper, raw_data=True, url_override=override, websocket_params=dict(PING))
        stream._reconnect_min_backoff, stream._reconnect_max_backoff = 0.25, 10.0
        stream.subscribe_trade_updates(self._take)
        return stream

    def start(self) -> None:
        self._thread.start()

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def generation(self) -> int:
        return self._generation

    def close(self) -> None:
        """alpaca-py's own stop waits up to five seconds; its task is cancelled instead."""
        self._closing.set()
        self._connected = False
        loop, end = self._loop, self._end
        if loop is not None and end is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(end.set)
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    async def _take(self, message: Any) -> None:
        try:
            update = self._read(message["data"])
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            self._logger.warning("an update that makes no sense: %r", error)
            return
        if self._closing.is_set():
            return
        try:
            self._on_update(update)
        except Exception:  # alpaca-py would go on without a word
            self._logger.exception("an update was not taken")

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._end, self._loop = asyncio.Event(), asyncio.get_running_loop()
        try:
            if not self._closing.is_set():  # a close that came before the line above found no event to set
                await self._until_end(asyncio.create_task(self._inner._run_forever()), self._end)
        finally:
            self._connected = False
            await self._inner.close()

    @staticmethod
    async def _until_end(running: asyncio.Task[None], end: asyncio.Event) -> None:
        """Cancelled until it has ended: asyncio.wait_for loses a cancel that comes with what it waits for, such as a
        refused connection, and alpaca-py would then reconnect for ever."""
        ending = asyncio.create_task(end.wait())
        await asyncio.wait({running, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        while not running.done():
            running.cancel()
            await asyncio.wait({running}, timeout=_CANCEL_AGAIN_SECONDS)
        if not running.cancelled():
            running.result()
