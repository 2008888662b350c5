"""Signing in and out: a single-use link sets the password, the password opens a session."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, session, url_for
from flask_login import current_user, login_user, logout_user
from werkzeug.wrappers import Response

from shared.access import AccessError, User
from web.auth.guard import SessionUser, local_path
from web.context import context

account = Blueprint("account", __name__)


def _open_session(user: User) -> None:
    """Rotated: nothing of an earlier session lives on, here or in Redis."""
    if current_user.is_authenticated:
        context().access.close_session(current_user.get_id())
    session.clear()
    secret = context().access.open_session(user)
    session.permanent = True
    login_user(SessionUser(secret, user.name, user.role))


@account.get("/signin")
def sign_in() -> str:
    """The form."""
    return render_template("signin.html", next=local_path(request.args.get("next")), problem=None, name="")


@account.post("/signin")
def sign_in_post() -> Response | tuple[str, int]:
    """Name and password."""
    name, password = request.form.get("name", ""), request.form.get("password", "")
    target = local_path(request.form.get("next"))
    user = context().access.check_password(name, password)
    if user is None:
        problem = "Name or password is wrong. A forgotten password: `sixbot user link NAME` makes a new link."
        return render_template("signin.html", next=target, problem=problem, name=name[:40]), 400
    _open_session(user)
    return redirect(target, code=303)


@account.get("/signin/<secret>")
def link(secret: str) -> tuple[str, int]:
    """A sign-in link: looking at it uses nothing up."""
    name = context().access.link_user(secret)
    if name is None:
        problem = "This link was used already or is too old. `sixbot user link NAME` on the server makes a new one."
        return render_template("signin.html", next="/", problem=problem, name=""), 404
    return render_template("password.html", secret=secret, name=name, problem=None), 200


@account.post("/signin/<secret>")
def link_post(secret: str) -> Response | tuple[str, int]:
    """Set the password, use the link up, sign in."""
    password, again = request.form.get("password", ""), request.form.get("again", "")
    name = context().access.link_user(secret) or ""
    try:
        if password != again:
            raise AccessError("the two passwords differ")
        user = context().access.take_link(secret, password)
    except AccessError as error:
        return render_template("password.html", secret=secret, name=name, problem=str(error)), 400
    _open_session(user)
    return redirect("/", code=303)


@account.post("/signout")
def sign_out() -> Response:
    """Close the session, here and in Redis."""
    if current_user.is_authenticated:
        context().access.close_session(current_user.get_id())
    logout_user()
    session.clear()
    return redirect(url_for("account.sign_in"), code=303)
