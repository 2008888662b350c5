"""The app factory: the one place where the web is put together."""

from __future__ import annotations

from flask import Flask, Response
from flask_bootstrap import Bootstrap5

from shared.access import Access
from shared.clock import Clock, SystemClock
from shared.config import Config
from shared.control import Control
from shared.store import Store
from web.api import register_api
from web.auth.guard import limit_sign_in, register_auth
from web.auth.sessions import QuietSessions
from web.config import flask_config
from web.context import _KEY, Context
from web.errors import register_errors
from web.health import health
from web.pages.account import account
from web.pages.overview import overview

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def create_app(config: Config, store: Store, clock: Clock | None = None) -> Flask:
    """Build the app. Opens no connection: Redis may come later, or go and come back."""
    clock = clock or SystemClock()
    app = Flask(__name__)
    app.config.update(flask_config(config))
    app.session_interface = QuietSessions()
    app.extensions[_KEY] = Context(config, store, Access(store, clock), Control(store, clock), clock)
    Bootstrap5(app)
    register_errors(app)
    register_auth(app, config)
    register_api(app)
    app.register_blueprint(health)
    app.register_blueprint(overview)
    app.register_blueprint(account)
    limit_sign_in(app, config, "account.sign_in_post", "account.link_post")
    app.after_request(_harden)
    return app


def _harden(response: Response) -> Response:
    response.headers.extend(_HEADERS)
    if "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "no-store"
    return response
