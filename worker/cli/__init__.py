"""The ``sixbot`` command: one module a noun, put together in ``main``."""

from __future__ import annotations

from worker.cli.main import main

__all__ = ["main"]
