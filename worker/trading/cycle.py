"""The cycle of the default bot: positions, predictions, decisions, orders. The same code trades live and in replay."""

from __future__ import annotations

from collections.abc import Callable

from shared.clock import Clock, TradingCalendar
from shared.errors import PredictionError
from worker.core.limits import limits_of
from worker.predictors.base import Predictor
from worker.trading.cycle_run import CycleReport, CycleRun
from worker.trading.cycle_tools import CycleOptions, Tools
from worker.trading.desk import OrderDesk
from worker.trading.ports import Book, Notes, Switches, VenueRead
from worker.trading.profit import day_pnl
from worker.venues.base import Venue

__all__ = ["Cycle", "CycleOptions", "CycleReport", "day_pnl"]


class Cycle:
    """One account's cycle. ``progress`` is called between tickers, so that a long cycle keeps its signs of life; it
    returns what a reconciliation found meanwhile."""

    def __init__(
        self,
        account: str,
        venue: Venue,
        predictor: Predictor,
        desk: OrderDesk,
        book: Book,
        clock: Clock,
        calendar: TradingCalendar,
        notes: Notes,
        options: CycleOptions,
        entropy: Callable[[], str],
        read_switches: Callable[[], Switches],
        progress: Callable[[], VenueRead | None],
    ) -> None:
        self._venue, self._predictor, self._clock = venue, predictor, clock
        self._options, self._entropy, self._progress = options, entropy, progress
        self._tools = Tools(account, venue, desk, book, clock, calendar, notes, options, entropy, read_switches)

    def run(self, switches: Switches, epoch: int, snapshot: VenueRead) -> CycleReport:
        """One cycle on what ``snapshot`` found. Raises StoreUnreachable and VenueUnavailable; the caller pauses."""
        report = CycleReport(run_id=self._entropy())
        report.market, report.market_at = self._venue.clock(), self._clock.now()
        if not report.market.is_open:
            report.aborted = "the market is closed"
            return report
        if not self._predict(switches, report):
            return report
        run = CycleRun(self._tools, report, switches, epoch, snapshot)
        for ticker in run.in_order():
            found = self._progress()
            if found is not None:
                run.follow(found)
            if self._is_stale(switches, report) and not self._predict(switches, report):
                break
            if not run.consider(ticker):
                break
        return report

    def _is_stale(self, switches: Switches, report: CycleReport) -> bool:
        """Whether the cycle took so long that what it began with must be predicted anew."""
        began = report.predicted_at
        return began is not None and self._clock.now() - began > limits_of(switches.risk.value).stale

    def _predict(self, switches: Switches, report: CycleReport) -> bool:
        stale = float(switches.risk.value.stale_data_seconds)
        report.predicted_at = self._clock.now()
        try:
            found = self._predictor.predict(self._options.tickers, self._venue, self._clock.now(), stale)
        except PredictionError as error:
            report.aborted = f"no prediction: {error}"
            return False
        report.predictions, report.notes = found.predictions, found.notes
        return True
