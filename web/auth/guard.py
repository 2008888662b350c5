"""Who is asking, and may they? Sessions through Flask-Login, tokens by header, CSRF for everything with a cookie."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

from flask import Flask, current_app, g, redirect, request, url_for
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_login import LoginManager, UserMixin, current_user
from flask_wtf.csrf import CSRFProtect
from redis.backoff import NoBackoff
from redis.retry import Retry
from werkzeug.wrappers import Response

from shared.access import ROLE_SCOPES, Principal
from shared.config import Config
from shared.keys import Keys
from shared.store import TIMEOUT_SECONDS
from web.context import context
from web.errors import ApiError, wants_json

F = TypeVar("F", bound=Callable[..., Any])

csrf = CSRFProtect()
SIGN_IN_LIMIT = "10 per minute; 60 per hour"
# Browsers drop tabs and line ends inside an address and read a backslash as a slash.
_LOCAL = re.compile(r"/(?!/)[^\\\x00-\x20\x7f]*")
UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class SessionUser(UserMixin):  # type: ignore[misc]  # Flask-Login is untyped
    """A signed-in user; its id is the session's secret, which only the signed cookie holds."""

    def __init__(self, secret: str, name: str, role: str) -> None:
        self.id, self.name, self.role = secret, name, role


def register_auth(app: Flask, config: Config) -> None:
    """Wire Flask-Login and CSRF."""
    login = LoginManager(app, add_context_processor=False)  # an error page must not read Redis
    login.user_loader(_load_user)
    csrf.init_app(app)
    app.before_request(_identify)


def limit_sign_in(app: Flask, config: Config, *endpoints: str) -> None:
    """Bound the attempts to sign in by address, counted in Redis, in memory while it is away; nothing else is bound."""
    storage: dict[str, Any] = {
        "key_prefix": Keys(config.sixbot_key_prefix).web_limit("").removesuffix(":"),  # the storage adds the colon
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
    }
    limiter = Limiter(
        get_remote_address,
        app=app,
        storage_uri=config.redis_address(),
        storage_options=storage,
        headers_enabled=True,
        swallow_errors=True,
        in_memory_fallback_enabled=True,
    )
    # Its hooks are for these routes only: they would cost every other request as much as its own work.
    before, after = app.before_request_funcs[None], app.after_request_funcs[None]
    before.append(_only_at(endpoints, before.pop()))
    after.append(_only_at(endpoints, after.pop(), otherwise=_unchanged))
    for endpoint in endpoints:
        view: Any = app.view_functions[endpoint]
        app.view_functions[endpoint] = cast("Any", limiter.limit(SIGN_IN_LIMIT)(view))


def _only_at(
    endpoints: Sequence[str], hook: Callable[..., Any], otherwise: Callable[..., Any] = lambda: None
) -> Callable[..., Any]:
    def at(*arguments: Any) -> Any:
        return hook(*arguments) if request.endpoint in endpoints else otherwise(*arguments)

    return at


def _unchanged(response: Response) -> Response:
    return response


def _load_user(secret: str) -> SessionUser | None:
    user = context().access.session_user(secret)
    return None if user is None else SessionUser(secret, user.name, user.role)


def _identify() -> None:
    """A token decides alone; without one the cookie does, and then a write needs the page's own CSRF token."""
    g.principal = None
    view = current_app.view_functions.get(str(request.endpoint))
    most = getattr(view, "most_bytes", None)
    if most is not None:
        request.max_content_length = most  # before the CSRF check, which reads the form
    if request.routing_exception is not None or request.blueprint == "health" or _is_asset():
        return
    header = request.headers.get("Authorization", "")
    if header:
        kind, _, secret = header.partition(" ")
        if kind.lower() == "bearer":
            wanted: Callable[[Keys], list[str]] | None = getattr(view, "reads", None)
            beside = wanted(context().store.keys) if wanted is not None else []
            g.principal, g.read = context().access.token_principal(secret.strip(), beside)
        if g.principal is None:
            raise ApiError(401, "bad_token", "the token is not known: `sixbot token new` makes one")
        return
    if request.method in UNSAFE and (current_user.is_authenticated or not request.path.startswith("/api/")):
        csrf.protect()


def _is_asset() -> bool:
    return str(request.endpoint).rpartition(".")[2] == "static"


def principal() -> Principal | None:
    """Who makes this request; None for nobody."""
    found = cast("Principal | None", g.get("principal"))
    if found is None and current_user.is_authenticated:
        found = g.principal = Principal(current_user.name, ROLE_SCOPES.get(current_user.role, frozenset()))
    return found


def takes_at_most(most_bytes: int) -> Callable[[F], F]:
    """Let a route have a larger body than the others; whoever is not allowed to call it sends none of it."""

    def mark(handler: F) -> F:
        cast("Any", handler).most_bytes = most_bytes
        return handler

    return mark


def reads(keys: Callable[[Keys], list[str]]) -> Callable[[F], F]:
    """Let the keys that a route reads be asked for together with a caller's token: one round trip less."""

    def mark(handler: F) -> F:
        cast("Any", handler).reads = keys
        return handler

    return mark


def read_already() -> list[Any] | None:
    """What stands in the route's keys, where that was asked with the token; nobody who may not call it gets there."""
    return g.get("read") or None


def requires(*scopes: str) -> Callable[[F], F]:
    """Let a request pass that has one of the scopes; else 401, 403, or for a page the way to sign in."""

    def decorate(handler: F) -> F:
        @wraps(handler)
        def checked(*arguments: Any, **named: Any) -> Any:
            who = principal()
            if who is None:
                if wants_json():
                    raise ApiError(401, "not_signed_in", "sign in, or send `Authorization: Bearer TOKEN`")
                return _to_sign_in()
            if not who.scopes & set(scopes):
                raise ApiError(403, "not_allowed", f"this needs the scope {' or '.join(scopes)}")
            return handler(*arguments, **named)

        checked.__dict__["scopes"] = scopes
        return cast("F", checked)

    return decorate


def _to_sign_in() -> Response:
    """Back to this page afterwards, unless a form was sent to it: that is not sent again by itself."""
    target = request.path if request.method == "GET" else "/"
    return redirect(url_for("account.sign_in", next=target), code=303)


def local_path(path: str | None) -> str:
    """``next`` only where it stays on this site."""
    return path if path and _LOCAL.fullmatch(path) else "/"
