"""The jobs worker's process, and what its jobs need."""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Callable
from functools import partial

import redis
import structlog
from rq.utils import import_attribute

from shared.clock import SystemClock
from shared.config import Config
from shared.errors import ReportRefused, StoreUnreachable
from shared.jobs import queue_connection
from shared.keys import JOBS
from shared.store import Store, connect
from worker.compose.process import Process
from worker.core.telling import Level
from worker.entropy import entropy
from worker.jobs.deliveries import RQDeliveries
from worker.jobs.leader import Leadership
from worker.jobs.periodic import Periodic
from worker.jobs.worker import Chore, Horses, JobsWorker
from worker.reporters.base import NoProgress, Reporter
from worker.reporters.forwarder import Direct, Forwarder
from worker.reporters.local import StdoutReporter
from worker.reporters.telegram import TelegramReporter, send_text
from worker.reporters.webhook import WebhookReporter
from worker.runtime import ExitCode, Heartbeat, StopSignals
from worker.telegram.api import TelegramApi
from worker.telegram.bot import Bot
from worker.telegram.poll import CommandListener

CODE_DIGITS = 4
AWAIT_REDIS_SECONDS = 1.0


def open_reporter(config: Config, target: str) -> Reporter:
    """The reporter of ``telegram:CHAT`` or ``webhook``. Raises ReportRefused where it is not configured (any more)."""
    kind, _, rest = target.partition(":")
    if kind in config.reporters:
        if kind == "webhook" and config.webhook_url is not None and config.webhook_secret is not None:
            return WebhookReporter(config.webhook_url, config.webhook_secret.get_secret_value(), SystemClock())
        chats = {str(chat): chat for chat in config.telegram_chat_ids}
        if kind == "telegram" and rest in chats:
            return TelegramReporter(telegram_api(config), chats[rest])
    raise ReportRefused(f"{target} is not configured")


def telegram_api(config: Config) -> TelegramApi:
    """The bot's API. Raises ReportRefused without a token."""
    if config.telegram_bot_token is None:
        raise ReportRefused("TELEGRAM_BOT_TOKEN is not set")
    return TelegramApi(config.telegram_bot_token.get_secret_value(), config.telegram_base_url)


def targets(config: Config) -> list[str]:
    """Every way out that RQ delivers."""
    found = [f"telegram:{chat}" for chat in config.telegram_chat_ids] if "telegram" in config.reporters else []
    return [*found, "webhook"] if "webhook" in config.reporters else found


def _chores(config: Config, store: Store, queue: redis.Redis, leader: Leadership, logger: Logger) -> list[Chore]:
    """What happens every turn."""
    clock, deliveries = SystemClock(), RQDeliveries(queue)

    def leads() -> bool:
        return leader.held

    forward = partial(Forwarder, store=store, clock=clock, logger=logger, is_leader=leads)
    chores: list[Chore] = []
    if "stdout" in config.reporters:
        stdout = StdoutReporter(sys.stdout)
        direct = Direct(lambda report: stdout.report(report, NoProgress()))
        chores.append(forward("stdout", Level.ALL, deliveries=direct))
    chores += [forward(target, Level(config.report_level), deliveries=deliveries) for target in targets(config)]
    if config.predictor == "grok":
        chores.append(Periodic("grok", config.grok_seconds, queue, clock, leads))
    return chores


Logger = structlog.stdlib.BoundLogger


def _listener(config: Config, store: Store, is_leader: Callable[[], bool], logger: Logger) -> CommandListener | None:
    """The ear for Telegram commands, with connections of its own."""
    if not config.commands_telegram:
        return None
    clock = SystemClock()
    bot = Bot(store, clock, config.stop_path, lambda: f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}", logger)
    chats = config.telegram_chat_ids
    return CommandListener(telegram_api(config), bot, chats, store, clock, logger, is_leader, send_text)


def _await_queue(config: Config, store: Store, heartbeat: Heartbeat, signals: StopSignals) -> redis.Redis | None:
    """The jobs' database, as soon as it answers; None when told to stop before that. Raises ConfigError."""
    while not signals.stopping.is_set():
        heartbeat.beat()
        try:
            return queue_connection(config, store)
        except StoreUnreachable:
            signals.stopping.wait(AWAIT_REDIS_SECONDS)
    return None


def run(config: Config, _account: str | None) -> ExitCode:
    """Until it is told to stop. Raises ConfigError, StoreRefused."""
    process = Process.begin("jobs", config)
    for chatty in ("rq.worker", "rq.scheduler", "rq.job"):  # a line for every look at the registries
        logging.getLogger(chatty).setLevel(logging.WARNING)
    store, signals, logger = process.store, process.signals, process.logger
    heartbeat = process.heartbeat()
    queue = _await_queue(config, store, heartbeat, signals)
    if queue is None:
        heartbeat.farewell()
        return ExitCode.OK
    leader = Leadership(store, entropy())
    listener = _listener(config, Store(connect(config.redis_address()), process.keys), lambda: leader.held, logger)
    chores = _chores(config, store, queue, leader, logger)
    for path in JOBS.values():
        import_attribute(path)  # once here, instead of in every child
    horses = partial(Horses, connect(config.queue_address()), lambda: leader.held)
    worker = JobsWorker(horses, leader.renew, chores, heartbeat, signals, logger)
    logger.info("working", reporters=targets(config), commands=listener is not None)
    if listener is not None:
        listener.start()
    try:
        worker.run()
    finally:
        if listener is not None:
            listener.close()
        try:
            leader.release()
        except StoreUnreachable:
            logger.info("leader_not_released")
    return ExitCode.OK
