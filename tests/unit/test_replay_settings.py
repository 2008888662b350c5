"""What a replay is limited by, read from a file that a person wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import ConfigError
from worker.cli.replay import read_switches


@pytest.mark.parametrize(
    "text",
    [
        '{"trading_settings": {"strategy": "BALANCED"}, "risk_settings": {"cooldown_minutes": 0}}',
        '{"strategy": "BALANCED", "cooldown_minutes": 0}',
    ],
)
def test_settings_when_nested_or_flat_reach_the_document_that_they_belong_to(tmp_path: Path, text: str) -> None:
    """Limits in a flat file were kept as unknown fields of the other document, and the defaults ran without a word."""
    file = tmp_path / "settings.json"
    file.write_text(text)
    found = read_switches(file)
    assert (found.settings.value.strategy, found.risk.value.cooldown_minutes) == ("BALANCED", 0)
    assert found.on


def test_settings_when_a_flat_limit_is_out_of_bounds_is_named(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"cooldown_minutes": -1}')
    with pytest.raises(ConfigError, match="cooldown_minutes"):
        read_switches(file)
