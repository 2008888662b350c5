"""What must exist before the first cycle."""

from __future__ import annotations

from collections.abc import Callable

from shared.accounts import AccountConfig
from shared.clock import Clock
from shared.config import Config
from shared.store import Store
from worker.trading.pulse import AccountPulse
from worker.venues.base import Venue


def preparation(
    config: Config, account: AccountConfig, store: Store, venue: Venue, pulse: AccountPulse, clock: Clock
) -> Callable[[], None]:
    """On the simulated market, a model. Real accounts bring their own."""

    def progress(done: int, total: int) -> None:
        pulse.extra["progress"] = {"what": "training the first model", "done": done, "total": total}
        pulse.beat(force=done == total)

    def prepare() -> None:
        if not account.is_default or config.predictor != "lightgbm" or account.mode != "simulated":
            return
        from worker.models.bootstrap import ensure_model
        from worker.models.registry import ModelRegistry

        registry = ModelRegistry(store, clock)
        ensure_model(registry, venue, config.active_tickers, config.predict_horizon_minutes, clock, progress)
        pulse.extra.pop("progress", None)

    return prepare
