"""``sixbot orders``: what works, and the last word on an order that the venue does not know."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Table

from shared.clock import SystemClock, TradingCalendar, rfc3339
from shared.config import load_config
from worker.cli.common import Exit, exit_codes, fail, open_store, print_json
from worker.core.ledger import take_act
from worker.core.orders import GIVEN_UP, Order
from worker.core.types import OrderState
from worker.trading.book import RedisBook

orders_app = typer.Typer(no_args_is_help=True, help="Orders that are not final.")

Account = Annotated[str, typer.Option(help="The account.")]


def _book(account: str) -> RedisBook:
    config = load_config()
    return RedisBook(open_store(config), config.account(account).name, TradingCalendar(ZoneInfo(config.trading_day_tz)))


def _row(order: Order) -> dict[str, str]:
    return {
        "client_order_id": order.client_order_id,
        "ticker": order.ticker,
        "side": order.side.value,
        "qty": str(order.qty),
        "filled_qty": str(order.filled_qty),
        "state": order.state.value,
        "created_at": rfc3339(order.created_at),
        "note": order.note,
    }


@orders_app.command("list")
def list_orders(
    account: Account = "default", json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False
) -> None:
    """Orders that are not final, UNKNOWN and ABSENT ones included."""
    with exit_codes():
        rows = [_row(order) for order in _book(account).open_orders()]
    if json:
        print_json(rows)
        return
    table = Table(*(rows[0] if rows else ()))
    for row in rows:
        table.add_row(*row.values())
    Console(highlight=False).print(table if rows else "no order is open")


@orders_app.command("resolve")
def resolve(
    client_order_id: str,
    absent: Annotated[bool, typer.Option("--absent", help="You looked at the venue: this order is not there.")] = False,
    account: Account = "default",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Close an ABSENT order for good: its ticker trades again and its reservation is released."""
    if not absent:
        fail("say --absent, after you have looked at the venue yourself that the order is not there", Exit.USAGE)
    with exit_codes():
        book = _book(account)
        order = book.order(client_order_id)
        if order is None:
            fail(f"no order is called {client_order_id}: `sixbot orders list` shows them")
        elif order.state is not OrderState.ABSENT:
            fail(f"{client_order_id} is {order.state.value}: only an ABSENT order can be resolved by hand")
        now = SystemClock().now()
        book.change(client_order_id, lambda b: take_act(b, OrderState.NOT_SENT, now, GIVEN_UP))
        if json:
            print_json(_row(book.order(client_order_id) or order))
        else:
            typer.echo(f"{client_order_id} is closed as never sent")
