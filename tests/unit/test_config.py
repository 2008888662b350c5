"""The configuration: what is wrong is named before anything starts, and never with a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config import load_config
from shared.errors import ConfigError


@pytest.mark.parametrize("name", ["REDIS_URL", "RQ_REDIS_URL"])
@pytest.mark.parametrize("value", ["http://:pw@x", "localhost:6379", "redis://:pw@x:port/0", "redis://:pw@x:1/live"])
def test_redis_url_when_no_client_takes_it_whole_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py raises for the one and reads database 0 from the other, which may be another installation's."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name}: must be an address") as caught:
        load_config(_env_file=None)
    assert "pw" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize(
    "value", ["redis://x", "redis://:p%40w@127.0.0.1:6380/0", "rediss://u:p@h:1/15", "unix:///run/r.sock?db=2"]
)
def test_redis_url_when_a_client_takes_it_is_taken(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", value)
    assert load_config(_env_file=None).redis_address() == value


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ALPACA_TRADING_URL", "ftp://x", "begins with http://"),
        ("ALPACA_TRADING_URL", "https://paper-api.alpaca.markets/v2", "without /v2"),
        ("ALPACA_DATA_URL", "data.alpaca.markets", "begins with http://"),
        ("ALPACA_STREAM_URL", "https://x/stream", "begins with ws://"),
        ("ACCOUNTS__OTHER__STREAM_URL", "x", "begins with ws://"),
        ("GROK_BASE_URL", "api.x.ai", "http://"),
        ("TELEGRAM_BASE_URL", "x", "http://"),
    ],
)
def test_address_when_nothing_can_be_reached_by_it_is_refused_by_name(
    name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENUE", "alpaca")
    monkeypatch.setenv("ACCOUNTS__OTHER__VENUE", "alpaca")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name}.*{told}"):
        load_config(_env_file=None)


def test_home_when_it_cannot_be_made_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SIXBOT_HOME", str(tmp_path / "file" / "var"))
    with pytest.raises(ConfigError, match=r"SIXBOT_HOME: nothing can be written .*: Not a directory"):
        load_config(_env_file=None).make_home()
