"""``sixbot``: the commands, put together."""

from __future__ import annotations

import typer

from worker.cli import access, bot, drill, model, model_train, operate, orders, replay, tools, up
from worker.cli.worker import worker

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

app.command("up")(up.up)
app.command("status")(operate.status)
app.command("stop")(operate.stop)
app.command("stop-drill")(drill.stop_drill)
app.command("start")(operate.start)
app.command("trades")(operate.trades)
app.command("positions")(operate.positions)
app.command("doctor")(tools.doctor)
app.command("logs")(tools.logs)
app.command("redis-url")(tools.redis_url)
app.command("redis", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(tools.redis_command)
app.command("replay")(replay.replay)
app.command("worker")(worker)
app.add_typer(operate.settings_app, name="settings")
app.add_typer(operate.risk_app, name="risk")
app.add_typer(orders.orders_app, name="orders")
app.add_typer(bot.bot_app, name="bot")
model.model_app.command("train")(model_train.train)
app.add_typer(model.model_app, name="model")
app.add_typer(access.user_app, name="user")
app.add_typer(access.token_app, name="token")


@app.callback()
def _root() -> None:
    """An automated trader that anything able to write a Redis key can stop."""


def main() -> None:
    """Entry point of the console script."""
    app()
