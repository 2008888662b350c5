"""Order updates of the simulated venue, pushed over websockets."""

from __future__ import annotations

import json
from collections.abc import Sequence

from aiohttp import WSMsgType, web

from worker.core.types import OrderUpdate
from worker.venues.simulated.codec import dump_update


class UpdateBoard:
    """Everyone who listens to what becomes of orders."""

    def __init__(self) -> None:
        self._channels: set[web.WebSocketResponse] = set()

    async def listen(self, request: web.Request) -> web.StreamResponse:
        channel = web.WebSocketResponse(heartbeat=10)
        await channel.prepare(request)
        self._channels.add(channel)
        try:
            async for message in channel:
                if message.type == WSMsgType.ERROR:
                    break
        finally:
            self._channels.discard(channel)
        return channel

    async def publish(self, updates: Sequence[OrderUpdate]) -> None:
        for update in updates:
            text = json.dumps(dump_update(update))
            for channel in list(self._channels):
                try:
                    await channel.send_str(text)
                except ConnectionError:
                    self._channels.discard(channel)

    async def hang_up(self) -> None:
        for channel in list(self._channels):
            await channel.close()
