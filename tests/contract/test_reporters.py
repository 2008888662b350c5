"""One suite over every reporter: what is delivered, what each failure means, and that no failure tells a secret."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from shared.clock import SystemClock
from shared.errors import ReportDelayed, ReportError, ReportFailed, ReportRefused
from shared.store import Store, connect
from tests.servers import telegram, webhook
from tests.servers.telegram import TelegramServer
from tests.servers.webhook import WebhookServer
from tests.support import free_port
from worker.reporters.base import NoProgress, Report, Reporter
from worker.reporters.local import RedisReporter, StdoutReporter
from worker.reporters.telegram import TelegramReporter
from worker.reporters.webhook import WebhookReporter
from worker.telegram.api import TelegramApi

CHAT = -100200300
HOSTILE = "FILLED BUY 1 <b>&amp;</i> *_[x](http://evil) `$` <script>"
REPORT = Report("r-1", "2026-03-02T15:00:00Z", (HOSTILE,), ({"event": "order", "ticker": "<b>&amp;"},))
SECRETS = (telegram.TOKEN, webhook.SECRET)


@dataclass
class Case:
    """A reporter, what its receiver holds as text, and how to make the receiver misbehave; ``hasty`` is one
    that waits half a second for an answer."""

    reporter: Reporter
    received: Callable[[], str]
    lie: Callable[..., None]
    broken: Reporter
    hasty: Reporter | None = None


def _nobody(*_: Any) -> None:
    """There is no receiver that could lie."""


def telegram_case(stack: ExitStack, _store: Store) -> Case:
    server = stack.enter_context(TelegramServer())
    return Case(
        TelegramReporter(TelegramApi(telegram.TOKEN, server.url, 30), CHAT),
        lambda: "\n".join(server.texts(CHAT)),
        lambda *lies: server.lie("sendMessage", *lies),
        TelegramReporter(TelegramApi(telegram.TOKEN, f"http://127.0.0.1:{free_port()}", 30), CHAT),
        TelegramReporter(TelegramApi(telegram.TOKEN, server.url, 0.5), CHAT),
    )


def webhook_case(stack: ExitStack, _store: Store) -> Case:
    server = stack.enter_context(WebhookServer())
    return Case(
        WebhookReporter(server.address, webhook.SECRET, SystemClock(), 30),
        lambda: "\n".join(line for found in server.received for line in found["lines"]),
        lambda *lies: server.lie(webhook.PATH, *lies),
        WebhookReporter(f"http://127.0.0.1:{free_port()}/{telegram.TOKEN}", webhook.SECRET, SystemClock(), 30),
        WebhookReporter(server.address, webhook.SECRET, SystemClock(), 0.5),
    )


def stdout_case(_stack: ExitStack, _store: Store) -> Case:
    out, closed = io.StringIO(), io.StringIO()
    closed.close()

    def rows() -> str:
        found = [json.loads(line) for line in out.getvalue().splitlines()]
        return "\n".join(row["line"] for row in found if "line" in row)

    return Case(StdoutReporter(out), rows, _nobody, StdoutReporter(closed))


def redis_case(stack: ExitStack, store: Store) -> Case:
    client = stack.enter_context(connect(f"redis://127.0.0.1:{free_port()}/0"))

    def received() -> str:
        rows: Any = store.client.xrange(store.keys.events)
        return HOSTILE if [r[b"ticker"] for _, r in rows] == [b"<b>&amp;"] else ""

    return Case(RedisReporter(store), received, _nobody, RedisReporter(Store(client)))


REMOTE = {"telegram": telegram_case, "webhook": webhook_case}
CASES = {**REMOTE, "stdout": stdout_case, "redis": redis_case}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, store: Store) -> Iterator[Case]:
    with ExitStack() as stack:
        yield CASES[request.param](stack, store)


@pytest.fixture(params=REMOTE)
def remote(request: pytest.FixtureRequest, store: Store) -> Iterator[Case]:
    """Those whose receiver can misbehave."""
    with ExitStack() as stack:
        yield REMOTE[request.param](stack, store)


def refused_with(case: Case, *lies: Any) -> ReportError:
    case.lie(*lies)
    reporter = case.hasty if "slow" in lies and case.hasty is not None else case.reporter
    with pytest.raises(ReportError) as caught:
        reporter.report(REPORT, NoProgress())
    assert not any(secret in str(caught.value) for secret in SECRETS)
    return caught.value


def test_report_when_names_are_hostile_arrives_as_it_was_written(case: Case) -> None:
    case.reporter.report(REPORT, NoProgress())
    assert case.received() == HOSTILE


def test_report_when_nobody_listens_may_be_tried_again_and_names_no_secret(case: Case) -> None:
    with pytest.raises(ReportFailed) as caught:
        case.broken.report(REPORT, NoProgress())
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert caught.value.__cause__ is None  # RQ keeps tracebacks, causes included


@pytest.mark.parametrize("lie", ["slow", "reset", 500, 502, (200 + 102, ""), (401, "{}")])
def test_report_when_the_receiver_fails_may_be_tried_again(remote: Case, lie: Any) -> None:
    assert isinstance(refused_with(remote, lie), ReportFailed)
    remote.reporter.report(REPORT, NoProgress())
    assert remote.received() == HOSTILE


def test_report_when_asked_to_wait_names_the_seconds(remote: Case) -> None:
    error = refused_with(remote, (429, telegram.too_many(2282)[1], {"Retry-After": "2282"}))
    assert isinstance(error, ReportDelayed)
    assert error.seconds == 2282


# -- what only one of them has ----------------------------------------------------------------------------------------


@pytest.fixture
def chat(request: pytest.FixtureRequest) -> Iterator[tuple[TelegramServer, TelegramReporter]]:
    with TelegramServer() as server:
        yield server, TelegramReporter(TelegramApi(telegram.TOKEN, server.url, 5), CHAT)


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (telegram.TOO_MANY[1], 2),
        (json.dumps({"ok": False, "error_code": 429, "description": "Too Many Requests"}), 30),
        (json.dumps({"ok": False, "error_code": 429, "parameters": {"retry_after": "x"}}), 30),
        ("<html>busy</html>", 30),
        (json.dumps({"ok": False, "error_code": 429, "parameters": {"retry_after": 10**12}}), 86_400),
    ],
)
def test_telegram_when_it_limits_in_any_shape_gives_a_wait(
    chat: tuple[TelegramServer, TelegramReporter], body: str, seconds: float
) -> None:
    server, reporter = chat
    server.lie("sendMessage", (429, body))
    with pytest.raises(ReportDelayed) as caught:
        reporter.report(REPORT, NoProgress())
    assert caught.value.seconds == seconds


def test_telegram_when_markup_is_not_understood_sends_it_plain(chat: tuple[TelegramServer, TelegramReporter]) -> None:
    server, reporter = chat
    server.lie("sendMessage", telegram.CANT_PARSE)
    reporter.report(REPORT, NoProgress())
    assert server.texts(CHAT) == [HOSTILE]
    assert "parse_mode" not in server.raw[0]


def test_telegram_when_blocked_or_without_such_a_chat_is_refused_for_good(
    chat: tuple[TelegramServer, TelegramReporter],
) -> None:
    server, reporter = chat
    for lie in (telegram.BLOCKED, telegram.refusal(400, "Bad Request: chat not found")):
        server.lie("sendMessage", lie)
        with pytest.raises(ReportRefused):
            reporter.report(REPORT, NoProgress())


def test_telegram_when_a_report_is_long_splits_it_and_goes_on_where_it_was(
    chat: tuple[TelegramServer, TelegramReporter],
) -> None:
    """4096 is counted after parsing and in UTF-16 units: escaped text and emoji must not break it."""
    server, reporter = chat
    long = Report("r-2", REPORT.time, tuple(f"{n} " + "🚀<&>" * 200 for n in range(8)))
    progress = NoProgress()
    server.lie("sendMessage", None, 500)
    with pytest.raises(ReportFailed):
        reporter.report(long, progress)
    reporter.report(long, progress)
    assert "\n".join(server.texts(CHAT)) == "\n".join(long.lines)
    assert (len(server.sent), server.requests["sendMessage"]) == (2, 3)


def test_webhook_when_the_body_or_the_time_is_changed_does_not_verify() -> None:
    """The signature covers both."""
    from worker.reporters.webhook import sign

    good = sign("s", "100", b"body")
    assert good != sign("s", "101", b"body")
    assert good != sign("s", "100", b"bodY")
    assert good != sign("t", "100", b"body")


def test_webhook_when_the_secret_is_another_is_not_delivered() -> None:
    with WebhookServer() as server:
        with pytest.raises(ReportFailed):
            WebhookReporter(server.address, "other", SystemClock(), 5).report(REPORT, NoProgress())
        assert server.received == []
        assert len(server.refused) == 1


def test_webhook_when_gone_is_refused_for_good() -> None:
    with WebhookServer() as server:
        server.lie(webhook.PATH, 410)
        with pytest.raises(ReportRefused):
            WebhookReporter(server.address, webhook.SECRET, SystemClock(), 5).report(REPORT, NoProgress())


def test_webhook_when_the_answers_body_never_comes_is_delivered_by_its_status() -> None:
    """Waiting for it would end in a failure, and the report be sent again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def answer() -> None:
            held.append(server.accept()[0])
            held[0].recv(65536)
            held[0].sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nand so on")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/hook"
        progress = NoProgress()
        WebhookReporter(address, webhook.SECRET, SystemClock(), 5).report(REPORT, progress)
        thread.join(30)
        held[0].close()
    assert progress.get() == 1


def test_stdout_when_reporting_writes_one_json_object_a_line() -> None:
    out = io.StringIO()
    StdoutReporter(out).report(REPORT, NoProgress())
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["report", "order"]
