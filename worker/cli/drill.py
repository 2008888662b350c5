"""``sixbot stop-drill``: try the stop tonight, on an account without real money."""

from __future__ import annotations

from typing import Annotated

import typer

from shared.accounts import DEFAULT_ACCOUNT
from shared.clock import SystemClock
from shared.config import load_config
from worker.cli.common import Exit, exit_codes, open_store, print_json


def stop_drill(
    channel: Annotated[str, typer.Option(help="settings, file, signal or web-key.")] = "settings",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON value.")] = False,
) -> None:
    """Place working orders on a simulated or paper account, stop, measure, resume; exit code 4 when not passed."""
    from worker.compose.adapters import open_venue
    from worker.drill import Drill, DrillRefused
    from worker.entropy import entropy

    with exit_codes():
        config, clock = load_config(), SystemClock()
        if config.mode == "live":
            raise DrillRefused("the account is LIVE: a drill places orders, so it is held on simulated or paper only")
        store = open_store(config)
        venue = open_venue(config.account(DEFAULT_ACCOUNT), clock)
        try:
            report = Drill(config, store, venue, clock, entropy).hold(channel)
        finally:
            venue.close()
            store.client.close()
    if json:
        print_json(report)
    else:
        typer.echo(f"{'PASSED' if report['passed'] else 'NOT PASSED'}: {report['orders']} orders, {report['channel']}")
        typer.echo(f"first cancel seen at the venue after {report['first_cancel_seen_ms']} ms")
        typer.echo(f"all gone after {report['empty_seen_ms']} ms")
        typer.echo(f"{report['restored']}; {report['file']}")
    raise typer.Exit(Exit.OK if report["passed"] else Exit.UNHEALTHY)
