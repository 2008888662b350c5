"""Refusals of the simulated venue."""

from __future__ import annotations

from aiohttp import web


def refuse(status: int, code: str, message: str) -> web.Response:
    """The one shape of an error."""
    return web.json_response({"code": code, "message": message}, status=status)


def unknown_ticker() -> web.Response:
    return refuse(404, "unknown_ticker", "this ticker is not traded here")
