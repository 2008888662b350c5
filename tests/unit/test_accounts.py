"""Accounts from the environment, as a user writes them, and what is said of a wrong one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.config import Config, load_config
from shared.errors import ConfigError
from worker.compose.adapters import open_venue

OWN = {"ACCOUNTS__BINANCE_TEST__VENUE": "simulated", "ACCOUNTS__BINANCE_TEST__URL": "http://127.0.0.1:5061"}
BROKER = {"ACCOUNTS__STOCKS__VENUE": "alpaca"}


def load(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> Config:
    for name in list(os.environ):
        if name.startswith(("ACCOUNTS__", "ALPACA_", "VENUE", "SIM_", "I_UNDERSTAND")):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_config(_env_file=None)


def test_accounts_when_nested_variables_name_them_stand_after_default(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(monkeypatch, {**BROKER, **OWN, "ACCOUNTS__STOCKS__API_KEY": "1", "ACCOUNTS__STOCKS__SECRET_KEY": "2"})
    assert [(a.name, a.venue, a.mode) for a in config.accounts] == [
        ("default", "simulated", "simulated"),
        ("binance-test", "simulated", "simulated"),
        ("stocks", "alpaca", "paper"),
    ]
    venue = open_venue(config.account("binance-test"), SystemClock())
    assert venue.name == "simulated"
    venue.close()
    assert config.account("default").url == config.sim_venue_url


def test_accounts_when_they_stand_in_a_file_and_in_credentials_are_put_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A unit keeps its keys out of the environment; the rest may stand in ``.env``."""
    load(monkeypatch, {})
    (tmp_path / ".env").write_text("ACCOUNTS__STOCKS__VENUE=alpaca\nACCOUNTS__STOCKS__SECRET_KEY=from-file\n")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "accounts__stocks__api_key").write_text("42\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    account = load_config(_env_file=tmp_path / ".env").account("stocks")
    assert account.api_key is not None
    assert account.secret_key is not None
    assert (account.api_key.get_secret_value(), account.secret_key.get_secret_value()) == ("42", "from-file")
    assert "42" not in repr(account)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"ACCOUNTS__B__VENUE": "ccxt:binance"}, "ACCOUNTS__B__VENUE: 'ccxt:binance' is not supported: .*alpaca"),
        ({"VENUE": "ccxt:binance"}, "VENUE: 'ccxt:binance' is not supported: choose simulated or alpaca"),
        ({"ACCOUNTS__B__URL": "http://x"}, "ACCOUNTS__B__VENUE: "),
        ({"ACCOUNTS__B__VENUE": "simulated"}, "ACCOUNTS__B__URL is missing"),
        ({**BROKER, "ACCOUNTS__STOCKS__KEY": "x"}, "ACCOUNTS__STOCKS__KEY: "),
        ({**BROKER, "ACCOUNTS__STOCKS__PAPER": "maybe"}, "ACCOUNTS__STOCKS__PAPER: "),
        ({**BROKER, "ACCOUNTS__STOCKS__TESTNET": "true"}, "ACCOUNTS__STOCKS__TESTNET does not apply"),
        (
            {**BROKER, "ACCOUNTS__STOCKS__PAPER": "false"},
            "ACCOUNTS__STOCKS__PAPER=false trades real money: set I_UNDER",
        ),
        ({**OWN, "ACCOUNTS__BINANCE_TEST__URL": "http://127.0.0.1:5060/"}, "the same as SIM_VENUE_URL"),
        ({"ACCOUNTS__DEFAULT__VENUE": "alpaca"}, "default is set by VENUE"),
        ({"ACCOUNTS__B": "alpaca"}, "write ACCOUNTS__B__VENUE"),
        ({"ACCOUNTS": "alpaca"}, "write ACCOUNTS__NAME__VENUE"),
        ({"ACCOUNTS__B____VENUE": "alpaca"}, "ACCOUNTS__B"),
    ],
)
def test_accounts_when_a_variable_is_wrong_name_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        load(monkeypatch, variables)


def test_account_when_unknown_lists_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no account is called 'b': choose from default, binance-test"):
        load(monkeypatch, OWN).account("b")


def test_account_when_its_key_is_missing_is_refused_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The web reads the same environment, and must not hold the keys."""
    account = load(monkeypatch, BROKER).account("stocks")
    with pytest.raises(ConfigError, match="needs ACCOUNTS__STOCKS__API_KEY and ACCOUNTS__STOCKS__SECRET_KEY"):
        open_venue(account, SystemClock())


@pytest.mark.parametrize(
    ("variables", "mode"),
    [
        (OWN, "simulated"),
        (BROKER, "paper"),
        ({**BROKER, "ACCOUNTS__STOCKS__PAPER": "false", "I_UNDERSTAND_LIVE": "yes"}, "live"),
        ({"VENUE": "alpaca", "ALPACA_PAPER": "false", "I_UNDERSTAND_LIVE": "yes", **OWN}, "live"),
    ],
)
def test_mode_when_accounts_differ_is_that_of_the_most_dangerous(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], mode: str
) -> None:
    assert load(monkeypatch, variables).mode == mode
