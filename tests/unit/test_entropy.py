"""Randomness for ids: an id that two orders share would freeze the second one."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from worker.core import ids
from worker.core.types import Effect
from worker.entropy import LENGTH, WORDS_AT_ONCE, Entropy


def test_entropy_when_it_is_asked_often_never_repeats_and_is_legal_in_an_id() -> None:
    entropy = Entropy()
    found = [entropy() for _ in range(3 * WORDS_AT_ONCE + 1)]
    assert len(set(found)) == len(found)
    assert all(len(word) == LENGTH for word in found)
    assert all(ids.is_ours(ids.mint(Effect.ENTRY, 7, word)) for word in found)


def test_entropy_when_many_threads_ask_gives_each_word_once() -> None:
    entropy = Entropy()
    with ThreadPoolExecutor(8) as pool:
        found = [word for part in pool.map(lambda _: [entropy() for _ in range(500)], range(8)) for word in part]
    assert len(set(found)) == len(found) == 4000


def test_entropy_when_the_process_forks_gives_the_child_words_of_its_own() -> None:
    entropy = Entropy()
    entropy()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, entropy().encode())
        os._exit(0)
    os.waitpid(child, 0)
    told = os.read(reader, LENGTH).decode()
    os.close(reader)
    os.close(writer)
    assert told
    assert told not in {entropy() for _ in range(WORDS_AT_ONCE)}


def test_minter_when_it_is_asked_gives_what_mint_gives() -> None:
    words = iter(["0" * 14, "z" * 14])
    new = ids.minter(7, lambda: next(words))
    assert [new(Effect.ENTRY), new(Effect.EXIT)] == [
        ids.mint(Effect.ENTRY, 7, "0" * 14),
        ids.mint(Effect.EXIT, 7, "z" * 14),
    ]
