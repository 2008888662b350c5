"""Alpaca: stocks and crypto, through alpaca-py."""

from __future__ import annotations

from worker.venues.alpaca.venue import AlpacaVenue

__all__ = ["AlpacaVenue"]
