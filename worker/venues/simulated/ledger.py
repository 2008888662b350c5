"""The simulated venue's ledger in SQLite: committed before the venue answers, read back when it starts."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

from worker.core.types import Execution, VenueOrder
from worker.core.venue_book import Book, Holding
from worker.venues.simulated.codec import dump_execution, dump_order, load_execution, load_order

_SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (venue_order_id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS executions (number INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS holdings (ticker TEXT PRIMARY KEY, qty TEXT NOT NULL, cost TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS account (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Ledger:
    """One file, one writer."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    def load(self, starting_cash: Decimal) -> Book:
        """The state as it was last committed; a new ledger starts with ``starting_cash``."""
        rows = self._db.execute("SELECT value FROM account WHERE name = 'cash'").fetchone()
        book = Book(Decimal(rows[0]) if rows else starting_cash)
        for (body,) in self._db.execute("SELECT body FROM orders ORDER BY rowid"):
            order = load_order(json.loads(body))
            book.orders[order.venue_order_id] = order
        book.executions = [
            load_execution(json.loads(body))
            for (body,) in self._db.execute("SELECT body FROM executions ORDER BY number")
        ]
        for ticker, qty, cost in self._db.execute("SELECT ticker, qty, cost FROM holdings"):
            book.holdings[ticker] = Holding(Decimal(qty), Decimal(cost))
        return book

    def commit(self, book: Book, orders: Iterable[VenueOrder], executions: Iterable[Execution]) -> None:
        """Write what changed, durably, in one transaction."""
        filled = list(executions)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for order in orders:
                self._db.execute(
                    "INSERT INTO orders VALUES (?, ?) ON CONFLICT (venue_order_id) DO UPDATE SET body = excluded.body",
                    (order.venue_order_id, json.dumps(dump_order(order))),
                )
            for execution in filled:
                self._db.execute("INSERT INTO executions (body) VALUES (?)", (json.dumps(dump_execution(execution)),))
            for ticker in {e.ticker for e in filled}:
                holding = book.holdings[ticker]
                self._db.execute(
                    "INSERT OR REPLACE INTO holdings VALUES (?, ?, ?)", (ticker, str(holding.qty), str(holding.cost))
                )
            self._db.execute("INSERT OR REPLACE INTO account VALUES ('cash', ?)", (str(book.cash),))
        except sqlite3.Error:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()
