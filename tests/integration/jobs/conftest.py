"""A jobs worker as a process of its own, with a Telegram and a webhook receiver on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.keys import Keys
from shared.store import Store
from tests.servers import telegram, webhook
from tests.servers.stack import Stack
from tests.servers.telegram import TelegramServer
from tests.servers.webhook import WebhookServer
from tests.support import RedisServer, eventually

CHAT = 5


@dataclass
class Office:
    """One installation's jobs, and both receivers."""

    stack: Stack
    store: Store
    telegram: TelegramServer
    webhook: WebhookServer

    def start(self, **settings: str) -> None:
        """Start the worker; returns when it knows how far everything is told."""
        self.stack.start("jobs", **settings)
        for target in (f"telegram:{CHAT}", "webhook"):
            eventually(lambda t=target: self.told(t), what=f"{target} to be known: {self.stack.output('jobs')[-2000:]}")

    def told(self, target: str) -> dict[str, object]:
        found = self.store.get_json(self.store.keys.reporter(target))
        return found if isinstance(found, dict) else {}

    def fill(self, ticker: str) -> None:
        """An order fills, as far as the stream tells."""
        fields = {"event": "order", "side": "buy", "state": "FILLED", "filled_qty": "1", "ticker": ticker}
        self.store.add_event(self.store.keys.events, fields)

    def chat(self) -> str:
        return "\n".join(self.telegram.texts(CHAT))

    def hook(self) -> str:
        return "\n".join(line for found in list(self.webhook.received) for line in found["lines"])

    def await_told(self, ticker: str) -> None:
        """Until both have heard of it."""
        eventually(
            lambda: ticker in self.chat() and ticker in self.hook(),
            60,
            what=f"{ticker} to be told: {self.chat()} / {self.hook()} / {self.stack.output('jobs')[-3000:]}",
        )


def environment(telegram_url: str, webhook_url: str) -> dict[str, str]:
    return {
        "REPORTERS": "redis,stdout,telegram,webhook",
        "TELEGRAM_BOT_TOKEN": telegram.TOKEN,
        "TELEGRAM_CHAT_IDS": str(CHAT),
        "TELEGRAM_BASE_URL": telegram_url,
        "WEBHOOK_URL": webhook_url,
        "WEBHOOK_SECRET": webhook.SECRET,
    }


def offices(directory: Path) -> Iterator[Office]:
    """The parts, started except for the worker."""
    home, data = directory / "home", directory / "redis"
    home.mkdir()
    data.mkdir()
    server = RedisServer(data)
    server.start()
    with TelegramServer() as chat, WebhookServer() as hook:
        stack = Stack(home, server, environment(chat.url, hook.address))
        yield Office(stack, Store(stack.redis, Keys()), chat, hook)
        stack.close()
    server.stop()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """One worker for a whole file: starting one costs more than what most tests do with it."""
    for found in offices(tmp_path_factory.mktemp("office")):
        found.start()
        yield found
