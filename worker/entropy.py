"""Randomness for client order ids and names of runs."""

from __future__ import annotations

import os
import string
from collections.abc import Callable, Iterator

LENGTH = 14
WORDS_AT_ONCE = 256
_LETTERS = (string.ascii_lowercase + string.digits).encode()
_CUTS = tuple(slice(n, n + LENGTH) for n in range(0, LENGTH * WORDS_AT_ONCE, LENGTH))
_LETTER_OF_BYTE = bytes(_LETTERS[byte % len(_LETTERS)] for byte in range(256))


class Entropy:
    """Fourteen random letters and digits a call, each given once, also by threads and after a fork.

    They are read from the operating system 256 at a time: every read gives up the interpreter's lock in the middle of
    an order, and with other threads about that was 12 µs more, where the read itself takes half of one. They are cut
    off as they are asked for, by an iterator that gives none twice. A fork throws the child's away.
    """

    def __init__(self, read: Callable[[int], bytes] = os.urandom) -> None:
        self._read, self._follows_forks = read, False
        self._words: Iterator[str] = iter(())

    def __call__(self) -> str:
        word = next(self._words, None)
        if word is not None:
            return word
        if not self._follows_forks:
            self._follows_forks = True
            os.register_at_fork(after_in_child=self._forget)
        letters = self._read(LENGTH * WORDS_AT_ONCE).translate(_LETTER_OF_BYTE).decode()
        words = map(letters.__getitem__, _CUTS)
        first = next(words)
        self._words = words
        return first

    def _forget(self) -> None:
        self._words = iter(())


entropy = Entropy()
"""Of this process; nothing is read before it is asked."""
