"""Signing in: a link for one use, a session that can be revoked, and nothing that helps somebody else in."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask
from pydantic import SecretStr

from shared.access import Access
from shared.config import Config
from shared.store import Store
from tests.integration.web.conftest import HTML, Browser, TokenFor
from tests.integration.web.test_api import assert_error
from web.app import create_app

PASSWORD = "correct horse battery"


def new_link(access: Access, name: str = "ada") -> str:
    return access.create_link(name, "http://x", "operator").url.removeprefix("http://x")


def sign_in(browser: Browser, password: str = PASSWORD, **fields: str) -> tuple[int, str | None]:
    answer = browser.post("/signin", "/signin", name="ada", password=password, **fields)
    return answer.status_code, answer.headers.get("Location")


def with_password(app: Flask, access: Access) -> Browser:
    """Somebody who came by a link and chose a password."""
    made = Browser(app)
    link = new_link(access)
    assert made.post(link, link, password=PASSWORD, again=PASSWORD).status_code == 303
    return made


def test_link_when_looked_at_is_not_used_up(browser: Browser, access: Access) -> None:
    link = new_link(access)
    for _ in range(3):
        assert browser.get(link).status_code == 200
        assert browser.client.head(link).status_code == 200
    assert browser.post(link, link, password=PASSWORD, again=PASSWORD).status_code == 303
    assert browser.get("/").status_code == 200


def test_link_when_used_once_never_works_again(app: Flask, access: Access) -> None:
    link, first, second = new_link(access), Browser(app), Browser(app)
    token = second.token(link)
    assert first.post(link, link, password=PASSWORD, again=PASSWORD).status_code == 303
    form = {"csrf_token": token, "password": "another password", "again": "another password"}
    late = second.client.post(link, data=form, headers=HTML)
    assert late.status_code == 400
    assert "used already" in late.text
    assert second.get(link).status_code == 404
    assert sign_in(second) == (303, "/")


def test_link_when_the_password_cannot_be_is_kept_for_the_next_try(browser: Browser, access: Access) -> None:
    link = new_link(access)
    for password, again in (("short", "short"), (PASSWORD, "different"), ("a" * 1001, "a" * 1001), ("", "")):
        assert browser.post(link, link, password=password, again=again).status_code == 400
    assert browser.post(link, link, password=PASSWORD, again=PASSWORD).status_code == 303


def test_link_when_unknown_says_how_to_make_one(browser: Browser) -> None:
    answer = browser.get("/signin/nonsense")
    assert answer.status_code == 404
    assert "sixbot user link" in answer.text


def test_secrets_when_in_use_stand_nowhere_in_redis(app: Flask, access: Access, store: Store) -> None:
    link = new_link(access, "bob")
    browser = with_password(app, access)
    everything = repr(
        [(key, store.client.dump(key)) for key in store.client.scan_iter()]
        + [store.client.hgetall(key) for key in store.client.scan_iter(match="web:*", _type="hash")]
    )
    for secret in (link.removeprefix("/signin/"), browser.secret(), PASSWORD):
        assert secret not in everything


def test_session_when_opened_has_a_cookie_that_scripts_and_other_sites_do_not_get(app: Flask, access: Access) -> None:
    link, browser = new_link(access), Browser(app)
    cookie = browser.post(link, link, password=PASSWORD, again=PASSWORD).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie


def test_session_when_served_behind_tls_has_a_secure_cookie(
    tmp_path: Path, redis_url: str, store: Store, access: Access
) -> None:
    config = Config(_env_file=None, sixbot_home=tmp_path, redis_url=SecretStr(redis_url), web_tls=True)
    answer = create_app(config, store).test_client().get("/signin", base_url="https://localhost")
    assert "Secure" in answer.headers["Set-Cookie"]


def test_session_when_signing_in_again_is_a_new_one_and_the_old_is_gone(app: Flask, access: Access) -> None:
    browser = with_password(app, access)
    first, token = browser.secret(), browser.token("/")
    assert sign_in(browser) == (303, "/")
    assert browser.secret() != first
    assert browser.token("/") != token
    assert access.session_user(first) is None


def test_session_when_its_key_is_deleted_is_signed_out(operator: Browser, store: Store) -> None:
    assert operator.get("/").status_code == 200
    store.client.delete(*store.client.keys("web:session:*"))
    assert operator.get("/").headers["Location"] == "/signin?next=/"
    assert_error(operator.client.get("/api/status"), 401, "not_signed_in")


def test_session_when_its_user_is_removed_or_demoted_loses_its_rights(operator: Browser, store: Store) -> None:
    token = operator.token("/")
    store.client.hset("web:user:ada", "role", "viewer")
    assert operator.client.post("/api/stop", headers={"X-CSRFToken": token}).status_code == 403
    store.client.hset("web:user:ada", "role", "root")
    assert operator.client.get("/api/status").status_code == 403
    store.client.delete("web:user:ada")
    assert operator.client.get("/api/status").status_code == 401


def test_session_when_signed_out_is_closed_in_redis_too(operator: Browser, access: Access) -> None:
    secret = operator.secret()
    assert operator.post("/signout").headers["Location"] == "/signin"
    assert access.session_user(secret) is None
    assert operator.get("/").status_code == 303


@pytest.mark.parametrize("path", ["/signin", "/signout"])
def test_form_when_posted_without_its_token_is_refused(operator: Browser, path: str) -> None:
    answer = operator.client.post(path, data={"name": "ada", "password": PASSWORD}, headers=HTML)
    assert answer.status_code == 400
    assert "reload the page" in answer.text
    assert operator.get("/").status_code == 200


@pytest.mark.parametrize("name", ["ada", "nobody", "", "a b", "*", "../x", "<script>alert(1)</script>", "\x00"])
def test_signing_in_when_name_or_password_is_wrong_says_the_same_for_all(
    app: Flask, access: Access, browser: Browser, name: str
) -> None:
    access.add_user("ada", "operator")
    answer = browser.post("/signin", "/signin", name=name, password="wrong")
    assert answer.status_code == 400
    assert "Name or password is wrong." in answer.text
    assert "<script>alert" not in answer.text


def test_user_when_no_password_is_set_cannot_sign_in_with_an_empty_one(access: Access, browser: Browser) -> None:
    access.add_user("ada", "operator")
    assert sign_in(browser, "")[0] == 400


LOCAL = {"/": "/", "/start": "/start", "/x?y=1#z": "/x?y=1#z"}
FOREIGN = (
    "//evil.example",
    "/\\evil.example",
    "/\t/evil.example",
    "https://evil.example",
    "javascript:alert(1)",
    "",
    "x",
)


def test_next_when_it_is_not_a_path_of_ours_leads_to_the_overview(app: Flask, access: Access) -> None:
    browser = with_password(app, access)
    for asked, target in LOCAL.items() | {(bad, "/") for bad in FOREIGN}:
        page = browser.client.get("/signin", query_string={"next": asked}, headers=HTML)
        assert f'name="next" value="{target}"' in page.text
    for bad in FOREIGN[:3]:
        assert sign_in(browser, next=bad) == (303, "/")


def test_signing_in_when_tried_too_often_is_429_and_the_stop_still_works(
    browser: Browser, store: Store, token: TokenFor, operator: Browser
) -> None:
    answers = [sign_in(browser, "wrong")[0] for _ in range(11)]
    assert answers == [400] * 10 + [429]
    late = browser.post("/signin", "/signin", name="ada", password="wrong")
    assert "Retry-After" in late.headers
    limits = set(store.client.keys("*limit*"))
    assert limits
    assert all(key.startswith(b"web:limit") for key in limits)
    for _ in range(70):
        assert browser.client.post("/api/stop", headers=token("stop")).status_code == 202
    assert operator.post("/api/stop").status_code == 303
    assert set(store.client.keys("*limit*")) == limits
