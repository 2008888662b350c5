"""Who may use the web: users, single-use sign-in links, sessions and API tokens, all in Redis, none in clear text.

A token, link or session is kept under the SHA-256 of its secret, so that reading Redis gives nobody a key.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from shared.audit import audit_entry
from shared.clock import Clock, rfc3339
from shared.documents import dump_json
from shared.errors import SixbotError
from shared.keys import STREAM_LIMITS
from shared.store import Store, translated_errors

LINK_SECONDS = 900
SESSION_SECONDS = 12 * 3600
ROLES = ("viewer", "operator")
SCOPES = ("read", "stop", "control")
IMPLIED_SCOPES = {"control": frozenset(SCOPES)}
"""Whoever may change what trades may look at it, and stop it."""
ROLE_SCOPES = {"viewer": frozenset({"read"}), "operator": frozenset(SCOPES)}
LEAST_PASSWORD = 10
LONGEST_TOKEN_NAME = 80
TOKEN_ID_DIGITS = 12
FIRST_USER, FIRST_ROLE = "operator", "operator"
"""Who is invited at the first run."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")


class AccessError(SixbotError):
    """A name, role, scope, password or link that cannot be used; the message says what would do."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may sign in."""

    name: str
    role: str
    has_password: bool


@dataclass(frozen=True, slots=True)
class Link:
    """A sign-in link, shown once."""

    url: str
    user: str
    expires_at: str


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request, and what that allows."""

    name: str
    scopes: frozenset[str]


def digest(secret: str) -> str:
    """The name under which a secret is kept."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Access:
    """Reads and writes the ``web:*`` keys. Every method raises StoreError where Redis does not answer."""

    def __init__(self, store: Store, clock: Clock, who: str = "web", source: str = "web") -> None:
        self._store, self._clock, self._who, self._source = store, clock, who, source

    # -- users ----------------------------------------------------------------------------------------------------

    def users(self) -> list[User]:
        keys = self._store.keys
        with translated_errors():
            names = [
                cast("bytes", k).decode(errors="replace")
                for k in self._store.client.scan_iter(match=keys.web_user("*"))
            ]
        found = [self.user(name.removeprefix(keys.web_user(""))) for name in sorted(names)]
        return [user for user in found if user is not None]

    def user(self, name: str) -> User | None:
        if not _NAME.fullmatch(name):
            return None
        row = self._hash(self._store.keys.web_user(name))
        return User(name, row.get("role", "viewer"), bool(row.get("password"))) if row else None

    def add_user(self, name: str, role: str) -> None:
        """Create a user or change its role; the password stays. Raises AccessError."""
        if not _NAME.fullmatch(name):
            raise AccessError(f"name {name!r} must be 1 to 40 of A-Z a-z 0-9 _ . -")
        if role not in ROLES:
            raise AccessError(f"role {role!r} must be one of {', '.join(ROLES)}")
        user = self.user(name)
        old = None if user is None else {"role": user.role}
        self._write(self._store.keys.web_user(name), {"role": role}, old, {"role": role})

    def check_password(self, name: str, password: str) -> User | None:
        """The user whose password this is; takes as long for a name that does not exist."""
        from argon2 import PasswordHasher
        from argon2.exceptions import Argon2Error, InvalidHashError

        row = self._hash(self._store.keys.web_user(name)) if _NAME.fullmatch(name) else {}
        held = row.get("password") or _NOBODY
        try:
            PasswordHasher().verify(held, password)
        except (Argon2Error, InvalidHashError):
            return None
        return self.user(name) if row.get("password") else None

    # -- links ----------------------------------------------------------------------------------------------------

    def create_link(self, name: str, base_url: str, role: str | None = None) -> Link:
        """A link for one use within fifteen minutes. With a role, a user that is new is made. Raises AccessError."""
        user = self.user(name)
        if user is None and role is None:
            known = ", ".join(user.name for user in self.users()) or "nobody yet"
            raise AccessError(
                f"there is no user {name!r}; there is {known}. A new one needs a role: "
                f"`sixbot user link {shlex.quote(name)} --role viewer` or `--role operator`"
            )
        if user is None:
            self.add_user(name, role or "")
        elif role not in {None, user.role}:
            raise AccessError(f"{name} is {user.role}: `sixbot user add {name} --role {role}` changes that")
        secret = secrets.token_urlsafe(32)
        with translated_errors():
            self._store.client.set(self._store.keys.web_signin(digest(secret)), name, ex=LINK_SECONDS)
        expires = self._clock.now() + timedelta(seconds=LINK_SECONDS)
        return Link(f"{base_url.rstrip('/')}/signin/{secret}", name, rfc3339(expires))

    def link_user(self, secret: str) -> str | None:
        """Whose link this is, without taking it."""
        with translated_errors():
            raw = self._store.client.get(self._store.keys.web_signin(digest(secret)))
        return None if raw is None else cast("bytes", raw).decode(errors="replace")

    def take_link(self, secret: str, password: str) -> User:
        """Set the password and use the link up. Raises AccessError where either cannot be."""
        from argon2 import PasswordHasher

        if len(password) < LEAST_PASSWORD:
            raise AccessError(f"a password needs at least {LEAST_PASSWORD} characters")
        if len(password) > 1000:
            raise AccessError("a password has at most 1,000 characters")
        hashed = PasswordHasher().hash(password)
        with translated_errors():
            raw = self._store.client.getdel(self._store.keys.web_signin(digest(secret)))
        if raw is None:
            raise AccessError("this link was used already or is too old: `sixbot user link NAME` makes a new one")
        name = cast("bytes", raw).decode(errors="replace")
        self._write(self._store.keys.web_user(name), {"password": hashed}, None, {"password": "set"}, who=name)
        user = self.user(name)
        if user is None:
            raise AccessError(f"user {name!r} is gone")
        return user

    # -- sessions -------------------------------------------------------------------------------------------------

    def open_session(self, user: User) -> str:
        """A new session's secret."""
        secret = secrets.token_urlsafe(32)
        key = self._store.keys.web_session(digest(secret))
        with translated_errors(), self._store.client.pipeline(transaction=True) as pipe:
            pipe.hset(key, mapping={"user": user.name, "created_at": rfc3339(self._clock.now())})
            pipe.expire(key, SESSION_SECONDS)
            pipe.execute()
        return secret

    def session_user(self, secret: str) -> User | None:
        row = self._hash(self._store.keys.web_session(digest(secret)))
        return self.user(row["user"]) if "user" in row else None

    def close_session(self, secret: str) -> None:
        with translated_errors():
            self._store.client.delete(self._store.keys.web_session(digest(secret)))

    # -- API tokens -----------------------------------------------------------------------------------------------

    def create_token(self, name: str, scopes: Collection[str]) -> str:
        """A new API token, shown once. Raises AccessError."""
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            raise AccessError(f"scope {', '.join(unknown) or 'missing'}: choose from {', '.join(SCOPES)}")
        if len(name) > LONGEST_TOKEN_NAME or not name.isprintable():
            raise AccessError(f"a token's name is one line of at most {LONGEST_TOKEN_NAME} printable characters")
        secret = f"sixbot_{secrets.token_urlsafe(32)}"
        fields = {"name": name, "scopes": " ".join(sorted(set(scopes))), "created_at": rfc3339(self._clock.now())}
        self._write(self._store.keys.web_token(digest(secret)), fields, None, fields)
        return secret

    def tokens(self) -> list[dict[str, str]]:
        """Name, scopes and the first digits of the hash of every token."""
        keys = self._store.keys
        with translated_errors():
            names = [
                cast("bytes", k).decode(errors="replace")
                for k in self._store.client.scan_iter(match=keys.web_token("*"))
            ]
        rows = []
        for name in sorted(names):
            row = self._hash(name)
            rows.append({"id": name.removeprefix(keys.web_token(""))[:TOKEN_ID_DIGITS], **row})
        return rows

    def revoke_token(self, token_id: str) -> bool:
        """Remove a token by the first digits of its hash. Raises AccessError where they fit several."""
        keys = self._store.keys
        if not re.fullmatch(r"[0-9a-f]{8,64}", token_id):
            raise AccessError("a token's id is at least 8 hexadecimal digits, as `sixbot token list` shows")
        with translated_errors():
            found = list(self._store.client.scan_iter(match=keys.web_token(f"{token_id}*")))
        if len(found) > 1:
            raise AccessError(f"{token_id} fits {len(found)} tokens")
        if not found:
            return False
        key = cast("bytes", found[0]).decode()
        self._write(key, None, self._hash(key), None)
        return True

    def token_principal(self, secret: str, beside: Sequence[str] = ()) -> tuple[Principal | None, list[Any]]:
        """Whose token it is, and the answers to GETs of other keys, asked in the same round trip: what stands in a key,
        or the refusal of its type."""
        with translated_errors(), self._store.client.pipeline(transaction=False) as pipe:
            pipe.hgetall(self._store.keys.web_token(digest(secret)))
            for key in beside:
                pipe.get(key)
            found, *answers = pipe.execute(raise_on_error=False)
            if isinstance(found, Exception):
                raise found
        row = _text(found)
        if not row:
            return None, []
        scopes = frozenset(row.get("scopes", "").split()) & frozenset(SCOPES)
        scopes = scopes.union(*(IMPLIED_SCOPES.get(scope, ()) for scope in scopes))
        return Principal(f"token:{row.get('name', '')}", scopes), answers

    def _write(
        self,
        key: str,
        fields: Mapping[str, str] | None,
        old: Mapping[str, str] | None,
        new: Mapping[str, str] | None,
        who: str = "",
    ) -> None:
        """Set a hash's fields, or with None remove it, with its entry in ``audit``, which says nothing secret.

        An ``audit`` that is mangled keeps nobody out.
        """
        tokens = self._store.keys.web_token("")
        named = key[: len(tokens) + TOKEN_ID_DIGITS] if key.startswith(tokens) else key
        entry = audit_entry(self._clock, who or self._who, self._source, named, _shown(old), _shown(new))
        with translated_errors(), self._store.client.pipeline(transaction=True) as pipe:
            if fields is None:
                pipe.delete(key)
            else:
                pipe.hset(key, mapping=cast("Any", dict(fields)))
            pipe.xadd(self._store.keys.audit, cast("Any", entry), maxlen=STREAM_LIMITS["audit"], approximate=True)
            answer = pipe.execute(raise_on_error=False)[0]
            if isinstance(answer, Exception):
                raise answer

    def _hash(self, key: str) -> dict[str, str]:
        with translated_errors():
            return _text(cast("dict[bytes, bytes]", self._store.client.hgetall(key)))


def _shown(fields: Mapping[str, str] | None) -> bytes | None:
    return None if fields is None else dump_json(dict(fields))


def _text(row: Mapping[bytes, bytes]) -> dict[str, str]:
    return {n.decode(errors="replace"): v.decode(errors="replace") for n, v in row.items()}


_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$c2l4Ym90LW5vYm9keQ$0000000000000000000000000000000000000000000"
