"""What the emergency worker concludes from one look, where something else changes meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from shared.clock import ManualClock
from shared.config import Config
from shared.documents import RiskSettings, TradingSettings
from tests.builders import NOW, risk_reading, settings_reading
from worker.emergency.book import BookReader
from worker.emergency.look import Lookout
from worker.emergency.memory import MemoryFile
from worker.emergency.sight import Eye, Sight


class FencedMeanwhile:
    """Redis tells the epoch that it has; before the answer is read, a fence has raised it, there and in memory."""

    def __init__(self, memory: MemoryFile, told: int, raised: int) -> None:
        self._memory, self._told, self._raised = memory, told, raised

    def look(self, _good: tuple[TradingSettings, RiskSettings], _host: str) -> Sight:
        self._memory.change(highest_epoch=self._raised)
        return Sight(settings_reading(), risk_reading(), self._told, [])


@pytest.mark.parametrize(("told", "is_old"), [(49, False), (48, True)])
def test_look_when_a_fence_is_raised_meanwhile_takes_no_redis_for_an_older_one(
    tmp_path: Path, told: int, is_old: bool
) -> None:
    """A latch that nothing has called for would keep trading off until somebody lifts it."""
    memory = MemoryFile(tmp_path / "emergency-default.json")
    memory.change(highest_epoch=49)
    eye, book = cast("Eye", FencedMeanwhile(memory, told, raised=50)), cast("BookReader", None)
    config = Config(_env_file=None, sixbot_home=tmp_path)
    lookout = Lookout(config, eye, book, memory, ["default"], "here", ManualClock(NOW))
    view = lookout.look(signalled=False, stop_file=False)
    memory.close()
    assert bool(view.old_redis) is is_old
