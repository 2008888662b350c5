"""Randomness for client order ids and names of runs."""

from __future__ import annotations

import os
import string
from collections.abc import Callable

LENGTH = 14
WORDS_AT_ONCE = 256
_LETTERS = (string.ascii_lowercase + string.digits).encode()
_LETTER_OF_BYTE = bytes(_LETTERS[byte % len(_LETTERS)] for byte in range(256))


class Entropy:
    """Fourteen random letters and digits a call, each given once, also by threads and after a fork.

    They are read from the operating system 256 at a time: every read gives up the interpreter's lock in the middle of
    an order, and with other threads about that was 12 µs more, where the read itself takes half of one.
    """

    def __init__(self, read: Callable[[int], bytes] = os.urandom) -> None:
        self._read, self._owner = read, 0
        self._words: list[str] = []

    def __call__(self) -> str:
        if self._owner != os.getpid():
            self._words, self._owner = [], os.getpid()
        try:
            return self._words.pop()
        except IndexError:
            letters = self._read(LENGTH * WORDS_AT_ONCE).translate(_LETTER_OF_BYTE).decode()
        first, *words = (letters[n : n + LENGTH] for n in range(0, len(letters), LENGTH))
        self._words.extend(words)
        return first


entropy = Entropy()
"""Of this process; nothing is read before it is asked."""
