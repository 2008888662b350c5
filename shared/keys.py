"""THE contract: every Redis key that sixbot uses, declared once.

``KEYS`` documents them (type, time to live, writer, reader, meaning); ``Keys`` builds their names under a prefix. The
reference page docs/reference/keys.md and a test are held equal to this module.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """One declared key. ``{…}`` in a name stands for a part filled in at run time; ttl is in seconds."""

    name: str
    type: str
    writer: str
    reader: str
    meaning: str
    ttl: int | None = None
    contract: bool = False


KEYS: tuple[Key, ...] = (
    Key("trading_settings", "document", "frontends", "workers", "the master switch and the strategy", contract=True),
    Key("trading_status", "document", "trading, emergency", "frontends", "what trading does now", contract=True),
    Key("system_status", "document", "heartbeat", "frontends", "health of every part", contract=True),
    Key("risk_settings", "document", "frontends, emergency", "workers", "the limits", contract=True),
    Key("portfolio_positions", "document", "trading", "frontends", "what is held, an array", contract=True),
    Key("trades_log", "document", "trading", "frontends", "the last 200 orders, oldest first", contract=True),
    Key("stop_report", "document", "emergency", "frontends", "the last stop and its proof"),
    Key("stop_latch", "document", "emergency", "frontends", "the latch that emergency keeps on disk"),
    Key("trading_epoch", "integer", "emergency", "gate, trading", "the fence: raised by every stop"),
    Key("trading_armed", "string", "emergency", "gate", "the epoch for which trading is allowed", ttl=3),
    Key("epoch_ack:{account}", "document", "trading", "emergency", "the epoch seen and what is in flight"),
    Key("lease:account:{account}", "string", "trading", "gate", "random owner id of the account's one trader", ttl=10),
    Key("order:{client_order_id}", "hash", "gate, trading, emergency", "frontends", "one order, from its intent on"),
    Key("orders:open", "set", "gate, trading", "trading, frontends", "ids of orders that are not final"),
    Key("orders:history", "sorted set", "trading", "frontends", "ids of final orders by time, at most 10,000"),
    Key("fills:{client_order_id}", "hash", "trading", "trading", "executions by execution id"),
    Key("position:{id}", "hash", "trading", "frontends", "one round trip from entry to exit"),
    Key("positions:open", "set", "trading", "gate, frontends", "ids of open positions"),
    Key("positions:closed", "sorted set", "trading", "frontends", "ids of closed positions by exit time"),
    Key("external:{account}", "hash", "trading", "trading", "what others hold by ticker, signed"),
    Key("dust:{account}", "hash", "trading", "trading", "what closed positions left below a lot, by ticker"),
    Key("risk_counters:{trading_day}", "hash", "gate, trading", "gate, trading", "the day's volume and orders", 604800),
    Key("risk_last_trade", "hash", "gate", "gate", "time of the last order per ticker: the cooldown"),
    Key("predictions", "document", "predictors, anyone", "trading", "predicted change per ticker"),
    Key("stats", "document", "trading", "frontends", "wins, losses and profit, kept as fills arrive"),
    Key("equity", "stream", "trading", "frontends", "time and equity, about 50,000 entries"),
    Key("events", "stream", "workers", "frontends", "what happened, in order, about 100,000 entries"),
    Key("audit", "stream", "frontends, emergency, trading", "frontends", "who changed what, about 10,000 entries"),
    Key("bots", "set", "frontends, trading", "workers, frontends", "ids of all bots; bot 1 is the cycle bot"),
    Key("bot:{id}", "document", "frontends", "workers", "one bot as people configure it"),
    Key("bot:{id}:status", "document", "trading", "frontends", "what a bot does now, and what it has in force"),
    Key("models", "set", "trading, CLI, jobs, web", "workers, frontends", "ids of registered models"),
    Key("models:last", "integer", "trading, CLI, jobs, web", "CLI, web", "the highest id ever given to a model"),
    Key("model:{id}", "document", "trading, CLI, jobs, web", "workers, frontends", "a model's facts and figures"),
    Key("model:{id}:text", "string", "trading, CLI, jobs, web", "trading, jobs", "the model itself, at most 64 MB"),
    Key(
        "heartbeat:{worker}:{host}", "string", "each worker", "heartbeat, emergency", "alive; its absence is the alarm"
    ),
    Key("installation", "string", "jobs, web", "jobs, web", "random id of this installation, the owner of its RQ jobs"),
    Key("jobs:leader", "string", "jobs", "jobs", "random id of the jobs worker that forwards and listens", 6),
    Key("jobs:standby", "document", "up", "frontends", "`sixbot up` starts the jobs worker when a job waits", 10),
    Key("reporter:{target}", "document", "jobs", "jobs, frontends", "how far a reporter is told, what is on its way"),
    Key("telegram:offset", "integer", "jobs", "jobs", "the next Telegram update to look at", 432000),
    Key("grok:tokens:{day}", "hash", "jobs", "frontends", "what the grok predictor used on a UTC day", 604800),
    Key("web:user:{name}", "hash", "CLI, web", "web", "password hash and role"),
    Key("web:token:{hash}", "hash", "CLI", "web", "an API token, stored hashed, and its scopes"),
    Key("web:signin:{hash}", "string", "CLI", "web", "a single-use sign-in link", 900),
    Key("web:session:{hash}", "hash", "web", "web", "a session; removing it signs out", 43200),
    Key("web:limit:{bucket}", "string", "web", "web", "how often an address has tried to sign in", 3600),
)

STREAM_LIMITS = {"equity": 50_000, "events": 100_000, "audit": 10_000}
MODEL_TEXT_BYTES = 64 * 1024 * 1024
TERMINAL_ORDERS_KEPT = 10_000
TRADES_LOG_LENGTH = 200
ARMED_TTL_SECONDS = 3
LEASE_TTL_SECONDS = 10

JOBS = {
    "report": "worker.tasks.report",
    "grok": "worker.tasks.grok",
    "validate_model": "worker.jobs.models.validate_model",
    "train_model": "worker.jobs.models.train_model",
}
"""What may be enqueued in RQ, by name; frontends know the names only, and no other function is ever run as a job."""

RQ_OWNER = "sixbot:rq-owner"
"""In the database of RQ's jobs, without prefix as all of RQ's keys: the ``installation`` that the jobs belong to."""


class Keys:
    """Names of the declared keys under one prefix (``SIXBOT_KEY_PREFIX``)."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.trading_settings = self._plain("trading_settings")
        self.trading_status = self._plain("trading_status")
        self.system_status = self._plain("system_status")
        self.risk_settings = self._plain("risk_settings")
        self.portfolio_positions = self._plain("portfolio_positions")
        self.trades_log = self._plain("trades_log")
        self.stop_report = self._plain("stop_report")
        self.stop_latch = self._plain("stop_latch")
        self.trading_epoch = self._plain("trading_epoch")
        self.trading_armed = self._plain("trading_armed")
        self.orders_open = self._plain("orders:open")
        self.orders_history = self._plain("orders:history")
        self.positions_open = self._plain("positions:open")
        self.positions_closed = self._plain("positions:closed")
        self.risk_last_trade = self._plain("risk_last_trade")
        self.predictions = self._plain("predictions")
        self.stats = self._plain("stats")
        self.equity = self._plain("equity")
        self.events = self._plain("events")
        self.audit = self._plain("audit")
        self.bots = self._plain("bots")
        self.models = self._plain("models")
        self.models_last = self._plain("models:last")
        self.installation = self._plain("installation")
        self.jobs_leader = self._plain("jobs:leader")
        self.jobs_standby = self._plain("jobs:standby")
        self.telegram_offset = self._plain("telegram:offset")

    def _plain(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def epoch_ack(self, account: str) -> str:
        return f"{self.prefix}epoch_ack:{account}"

    def lease(self, account: str) -> str:
        return f"{self.prefix}lease:account:{account}"

    def order(self, client_order_id: str) -> str:
        return f"{self.prefix}order:{client_order_id}"

    def fills(self, client_order_id: str) -> str:
        return f"{self.prefix}fills:{client_order_id}"

    def position(self, position_id: str) -> str:
        return f"{self.prefix}position:{position_id}"

    def external(self, account: str) -> str:
        return f"{self.prefix}external:{account}"

    def dust(self, account: str) -> str:
        return f"{self.prefix}dust:{account}"

    def risk_counters(self, trading_day: str) -> str:
        return f"{self.prefix}risk_counters:{trading_day}"

    def bot(self, bot_id: int) -> str:
        return f"{self.prefix}bot:{bot_id}"

    def bot_status(self, bot_id: int) -> str:
        return f"{self.prefix}bot:{bot_id}:status"

    def model(self, model_id: int) -> str:
        return f"{self.prefix}model:{model_id}"

    def model_text(self, model_id: int) -> str:
        return f"{self.prefix}model:{model_id}:text"

    def heartbeat(self, worker: str, host: str) -> str:
        return f"{self.prefix}heartbeat:{worker}:{host}"

    def reporter(self, target: str) -> str:
        return f"{self.prefix}reporter:{target}"

    def grok_tokens(self, day: str) -> str:
        return f"{self.prefix}grok:tokens:{day}"

    def web_user(self, name: str) -> str:
        return f"{self.prefix}web:user:{name}"

    def web_token(self, digest: str) -> str:
        return f"{self.prefix}web:token:{digest}"

    def web_signin(self, digest: str) -> str:
        return f"{self.prefix}web:signin:{digest}"

    def web_session(self, digest: str) -> str:
        return f"{self.prefix}web:session:{digest}"

    def web_limit(self, bucket: str) -> str:
        return f"{self.prefix}web:limit:{bucket}"
