"""Health checks: each real, each bounded, each in a thread of its own so that none delays the heartbeat."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import urllib3

from shared.accounts import AccountConfig
from shared.clock import Clock, rfc3339
from shared.config import Config
from shared.errors import VenueUnavailable

CHECK_SECONDS = 3.0
SELDOM_SECONDS = 60.0
YAHOO = "https://query2.finance.yahoo.com"
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x64)"}
"""Yahoo answers nobody who does not call himself a browser."""


@dataclass(frozen=True, slots=True)
class Health:
    """One component: ``ok``, ``failed``, ``checking`` or ``not_configured``."""

    state: str
    latency_ms: float | None = None
    checked_at: str | None = None
    problem: str | None = None

    @property
    def ok(self) -> bool:
        return self.state == "ok"

    def document(self) -> dict[str, object]:
        shown = {"state": self.state, "latency_ms": self.latency_ms, "checked_at": self.checked_at}
        return {name: value for name, value in {**shown, "problem": self.problem}.items() if value is not None}


Probe = Callable[[], None]


class Checker:
    """Runs probes in the background and keeps their last answers; an answer older than two intervals is none."""

    def __init__(self, probes: Mapping[str, Probe], clock: Clock, interval_seconds: float) -> None:
        self._probes, self._clock, self._interval = probes, clock, interval_seconds
        self._answers: dict[str, tuple[float, Health]] = {}
        self._running: dict[str, threading.Thread] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What it checks."""
        return tuple(self._probes)

    def start_due(self) -> None:
        """Start every probe that is due and not running."""
        now = self._clock.monotonic()
        for name, probe in self._probes.items():
            last = self._answers.get(name)
            thread = self._running.get(name)
            if (thread is not None and thread.is_alive()) or (last is not None and now - last[0] < self._interval):
                continue
            thread = threading.Thread(target=self._run, args=(name, probe), name=f"check-{name}", daemon=True)
            self._running[name] = thread
            thread.start()

    def _run(self, name: str, probe: Probe) -> None:
        began = self._clock.monotonic()
        at = rfc3339(self._clock.now())
        try:
            probe()
        except Exception as error:  # a probe fails in its library's own ways, and all of them mean: not ok
            health = Health("failed", None, at, f"{type(error).__name__}: {error}"[:200])
        else:
            health = Health("ok", round((self._clock.monotonic() - began) * 1000, 1), at)
        self._answers[name] = (self._clock.monotonic(), health)

    def health(self, name: str) -> Health:
        if name not in self._probes:
            return Health("not_configured")
        found = self._answers.get(name)
        if found is None or self._clock.monotonic() - found[0] > 2 * self._interval + CHECK_SECONDS:
            return Health("checking")
        return found[1]


def reach(url: str) -> Probe:
    """A probe that any HTTP answer satisfies: reachability, without credentials and without touching an account."""

    def probe() -> None:
        urllib3.request(
            "GET",
            url,
            timeout=urllib3.Timeout(total=CHECK_SECONDS),
            retries=False,
            redirect=False,
            preload_content=False,
        ).close()

    return probe


def answers_well(url: str, headers: Mapping[str, str]) -> Probe:
    """A probe that wants a 200 with a JSON object: the key is good and the service works."""

    def probe() -> None:
        answer = urllib3.request(
            "GET",
            url,
            headers=dict(headers),
            timeout=urllib3.Timeout(total=CHECK_SECONDS),
            retries=False,
            redirect=False,
        )
        if answer.status != 200 or not isinstance(answer.json(), dict):
            raise VenueUnavailable(f"HTTP {answer.status}")

    return probe


def seldom(probe: Probe, seconds: float, clock: Clock) -> Probe:
    """For a service that counts calls: ask at most so often, and let the last good answer stand meanwhile."""
    good_until = [float("-inf")]

    def asked() -> None:
        if clock.monotonic() >= good_until[0]:
            probe()
            good_until[0] = clock.monotonic() + seconds

    return asked


def probes_of(config: Config, clock: Clock) -> dict[str, Probe]:
    """What is configured."""
    return {**_venue_probes(config), **_service_probes(config, clock)}


def _service_probes(config: Config, clock: Clock) -> dict[str, Probe]:
    probes: dict[str, Probe] = {}
    if config.finnhub_api_key is not None:
        key = {"X-Finnhub-Token": config.finnhub_api_key.get_secret_value()}
        probes["finnhub"] = answers_well(f"{config.finnhub_url.rstrip('/')}/api/v1/quote?symbol=AAPL", key)
    if config.grok_api_key is not None:
        key = {"Authorization": f"Bearer {config.grok_api_key.get_secret_value()}"}
        probes["grok"] = answers_well(f"{config.grok_base_url.rstrip('/').removesuffix('/v1')}/v1/models", key)
    if config.market_data == "yfinance":
        base = (config.yfinance_url or YAHOO).rstrip("/")
        probes["yfinance"] = answers_well(f"{base}/v8/finance/chart/SPY?range=1d&interval=1d", BROWSER)
    return {name: seldom(probe, SELDOM_SECONDS, clock) for name, probe in probes.items()}


def _venue_probes(config: Config) -> dict[str, Probe]:
    """``venue`` of account ``default``, ``venue:{name}`` of the others, ``alpaca`` of the first."""
    probes: dict[str, Probe] = {}
    for account in config.accounts:
        probe = reach(clock_url(account))
        probes["venue" if account.is_default else f"venue:{account.name}"] = probe
        if account.venue == "alpaca":
            probes.setdefault("alpaca", probe)
    return probes


def clock_url(account: AccountConfig) -> str:
    """What the account's venue answers without touching it."""
    if account.venue == "simulated":
        return f"{account.url}/clock"
    paper, live = "https://paper-api.alpaca.markets", "https://api.alpaca.markets"
    return f"{account.url or (paper if account.paper else live)}/v2/clock"
