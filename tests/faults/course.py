"""How a calamity of the fault bench went: what every one of them returns."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.bench import Bench


@dataclass(slots=True)
class Course:
    """How a calamity went. ``latch`` is the reason with which a stop must have latched; ``found`` what is wrong
    already; ``cure`` is done after it."""

    story: list[str]
    latch: str = ""
    found: list[str] = field(default_factory=list)
    cure: Callable[[], object] = lambda: None


Calamity = Callable[[Bench, random.Random], Course]
