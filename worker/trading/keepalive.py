"""What others wait for while a trader's loop is busy."""

from __future__ import annotations

from worker.trading.dead_man import DeadManSwitch
from worker.trading.fence import Fence
from worker.trading.pulse import AccountPulse
from worker.trading.tenure import Tenure


class KeepAlive:
    """Called at every turn of the loop, and in the middle of long ones."""

    def __init__(self, pulse: AccountPulse, tenure: Tenure, fence: Fence, dead_man: DeadManSwitch | None) -> None:
        self._pulse, self._tenure, self._fence, self._dead_man = pulse, tenure, fence, dead_man

    def beat(self) -> None:
        """Signs of life, the lease, the word on a new epoch. Raises LeaseLost, StoreUnreachable."""
        self._pulse.beat()
        self._tenure.keep()
        self._fence.acknowledge()
        if self._dead_man is not None:
            self._dead_man.progress()
