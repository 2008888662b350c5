"""The JSON API under /api."""

from __future__ import annotations

from flask import Flask

from web.api.bots import bots
from web.api.control import control
from web.api.models import models
from web.api.openapi import openapi
from web.api.records import records
from web.api.status import status


def register_api(app: Flask) -> None:
    """Every blueprint of the API."""
    for blueprint in (control, bots, models, status, records, openapi):
        app.register_blueprint(blueprint, url_prefix="/api")
