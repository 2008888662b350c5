"""Changes of the two settings documents that no frontend noted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from shared.clock import Clock, rfc3339
from shared.documents import version_of
from shared.store import Store, translated_errors

_NOTED_AMONG = 20
_SHOWN_BYTES = 2000


class ExternalAudit:
    """Notes in ``audit`` what was written by ``redis-cli`` and the like, as ``external``."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._seen: dict[str, bytes | None] = {}

    def look(self, documents: Mapping[str, bytes | None]) -> None:
        """Compare with the last look; the first look only remembers. Raises StoreError."""
        for key, raw in documents.items():
            if key in self._seen and self._seen[key] != raw and not self._noted(key, version_of(raw)):
                self._note(key, self._seen[key], raw)
            self._seen[key] = raw

    def _note(self, key: str, old: bytes | None, new: bytes | None) -> None:
        entry = {
            "time": rfc3339(self._clock.now()),
            "who": "external",
            "from": "external",
            "key": key,
            "version": version_of(new),
            "old": _shown(old),
            "new": _shown(new),
        }
        self._store.add_event(self._store.keys.audit, entry)

    def _noted(self, key: str, version: str) -> bool:
        with translated_errors():
            found = self._store.client.xrevrange(self._store.keys.audit, count=_NOTED_AMONG)
        rows = cast("list[tuple[bytes, dict[bytes, bytes]]]", found)
        return any(f.get(b"key") == key.encode() and f.get(b"version") == version.encode() for _, f in rows)


def _shown(raw: bytes | None) -> str:
    return "" if raw is None else raw[:_SHOWN_BYTES].decode(errors="replace")
