"""What a request handler needs, hung on the app once and read with one function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from shared.access import Access
from shared.clock import Clock
from shared.config import Config
from shared.control import Control
from shared.store import Store

_KEY = "sixbot"


@dataclass(frozen=True, slots=True)
class Context:
    """The app's parts."""

    config: Config
    store: Store
    access: Access
    control: Control
    clock: Clock


def context() -> Context:
    """The running app's parts."""
    return cast("Context", current_app.extensions[_KEY])
