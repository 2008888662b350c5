"""The stream ``audit``: who changed which document, from where, from what to what, and changes that nobody noted."""

from __future__ import annotations

from collections.abc import Mapping

from shared.clock import Clock, rfc3339
from shared.documents import version_of
from shared.keys import STREAM_LIMITS
from shared.store import Store, translated_errors

MOST_SHOWN = 4096
"""Bytes of a document that an entry shows, so that ten thousand entries stay far below the server's memory."""
_NEWEST = 200

# KEYS: document, audit. ARGV: "1" where bytes are seen, those bytes, their version, "1" at the first look, audit
# length, how many entries are searched, what stood there before, audit field, value…
# 0: told already. -1: the document has changed since.
_NOTE = """
local found = redis.pcall('GET', KEYS[1])
if type(found) ~= 'string' then found = false end
if ARGV[1] == '1' then
  if found ~= ARGV[2] then return -1 end
elseif found then
  return -1
end
local old = nil
for _, row in ipairs(redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', ARGV[6])) do
  local told = {}
  for i = 1, #row[2], 2 do told[row[2][i]] = row[2][i + 1] end
  if told['key'] == KEYS[1] then
    if told['version'] == ARGV[3] then return 0 end
    old = told['new'] or ''
    break
  end
end
if ARGV[4] == '1' then
  if old == nil then return 0 end
else
  old = ARGV[7]
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', 'old', old, unpack(ARGV, 8))
return 1
"""


def shown(document: bytes | None) -> str:
    """A document in an entry: as it stands, cut where it is long; nothing for a missing one."""
    if document is None:
        return ""
    text = document[:MOST_SHOWN].decode(errors="replace")
    return text if len(document) <= MOST_SHOWN else f"{text}…"


def audit_entry(clock: Clock, who: str, source: str, key: str, old: bytes | None, new: bytes | None) -> dict[str, str]:
    """The fields of one change."""
    return {
        "time": rfc3339(clock.now()),
        "who": who,
        "from": source,
        "key": key,
        "version": version_of(new),
        "old": shown(old),
        "new": shown(new),
    }


class ExternalChanges:
    """Notes what ``redis-cli`` and others change without an entry of their own, as ``external``."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._seen: dict[str, bytes | None] | None = None
        self._note = store.client.register_script(_NOTE)

    def look(self, documents: Mapping[str, bytes | None]) -> None:
        """Compare with the last look; a key that was not looked at then was missing.

        The first look compares with the newest entry of each document, and notes nothing of one that has none. Raises
        StoreError.
        """
        first = self._seen is None
        seen = {} if self._seen is None else self._seen
        for key, raw in documents.items():
            old = seen.get(key)
            if (first or old != raw) and self._told(key, old, raw, first=first) < 0:
                continue  # it is somebody's change again by now: the next look sees it
            seen[key] = raw
        self._seen = seen

    def _told(self, key: str, old: bytes | None, raw: bytes | None, *, first: bool) -> int:
        entry = audit_entry(self._clock, "external", "external", key, old, raw)
        known = entry.pop("old")
        fields = [part for pair in entry.items() for part in pair]
        searched: list[str | int] = [STREAM_LIMITS["audit"], _NEWEST, known]
        with translated_errors():
            return int(
                self._note(
                    keys=[key, self._store.keys.audit],
                    args=["0" if raw is None else "1", raw or b"", entry["version"], int(first), *searched, *fields],
                )
            )
