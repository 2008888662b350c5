"""``trades_log`` and ``stats``, from bytes to values and back: what did not change is neither parsed nor dumped."""

from __future__ import annotations

from typing import Any

from shared.documents import dump_json, parse_json
from shared.errors import DocumentError
from shared.store import MAX_RECORD_BYTES
from worker.core.stats import Stats, read_stats


class Figures:
    """What was dumped last, so that the next change of the same book starts from it. Threads may share it: each memory
    is swapped whole, and one that another thread has replaced only costs a parsing."""

    def __init__(self) -> None:
        self._log: tuple[bytes, list[Any], dict[int, bytes]] = (b"", [], {})
        self._stats: tuple[bytes, Stats, str] = (b"", Stats(), "")

    def log(self, answer: object) -> object:
        """The trades log in the answer to a GET; None where it is missing, mangled or of another type."""
        raw, entries, _ = self._log
        return entries if answer == raw else _parsed(answer)

    def dump_log(self, entries: list[Any]) -> bytes:
        """The bytes of a log; entries that are the very objects of the last one keep theirs."""
        held = self._log  # as long as its entries live, no other object has the address of one
        known = held[2]
        texts = [known.get(id(entry)) or dump_json(entry) for entry in entries]
        raw = b"[" + b", ".join(texts) + b"]"
        self._log = raw, entries, {id(entry): text for entry, text in zip(entries, texts, strict=True)}
        return raw

    def stats(self, answer: object) -> Stats:
        """The statistics in the answer to a GET; those of nothing where they cannot be read."""
        raw, stats, _ = self._stats
        return stats if answer == raw else read_stats(_parsed(answer))

    def dump_stats(self, stats: Stats, today: str) -> bytes:
        """The bytes of the document."""
        raw, known, day = self._stats
        if stats == known and today == day:
            return raw
        raw = dump_json(stats.document(today))
        self._stats = raw, stats, today
        return raw


def _parsed(answer: object) -> object:
    if not isinstance(answer, bytes):
        return None
    try:
        return parse_json(answer, MAX_RECORD_BYTES)
    except DocumentError:
        return None
