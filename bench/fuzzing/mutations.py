"""Inputs made from other inputs: bits flipped, pieces cut, doubled, moved between inputs or put in from a dictionary, depth and length blown up.

Wholly decided by the random generator that it is given: the same seed makes the same inputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

MAXIMUM_BYTES = 4096
_LONG_BYTES = 64 * 1024
_KEPT = 2000
_TOKEN = re.compile(rb'"[^"\\\n]*"|[^\s{}\[\]:,"=]+')

Mutation = Callable[[Random, bytes, Sequence[bytes], Sequence[bytes]], bytes]
"""(random, input, pool of other inputs, dictionary) -> input."""


class Pool:
    """The inputs that new ones are made of: the seeds, and what showed a behaviour that was new (`keep`)."""

    def __init__(self, random: Random, seeds: Sequence[bytes], pieces: Sequence[bytes]) -> None:
        self._random, self._pieces, self._seeds, self._kept = random, pieces, list(seeds), list(seeds)

    def next(self) -> bytes:
        """A new input: one of the pool, changed one to a few times."""
        random = self._random
        data = random.choice(self._kept if random.random() < 0.7 else self._seeds)
        if random.random() < 0.0005:
            return _blown_up(random, data, self._kept, self._pieces)
        mutations = _GENTLE if random.random() < 0.4 else _MUTATIONS
        for _ in range(1 + min(int(random.expovariate(0.6)), 12)):
            data = random.choice(mutations)(random, data, self._kept, self._pieces)
        return data[:MAXIMUM_BYTES]

    def keep(self, data: bytes) -> None:
        """Makes `data` one of those that new inputs are made of."""
        if len(data) > MAXIMUM_BYTES:
            return
        if len(self._kept) < _KEPT:
            self._kept.append(data)
        else:
            self._kept[self._random.randrange(len(self._seeds), _KEPT)] = data


def _span(random: Random, data: bytes, longest: int = 64) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + 1 + random.randrange(longest))


def _flip(random: Random, data: bytes, _pool: Sequence[bytes], _pieces: Sequence[bytes]) -> bytes:
    if not data:
        return bytes([random.randrange(256)])
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _byte(random: Random, data: bytes, _pool: Sequence[bytes], _pieces: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + bytes([random.randrange(256)]) + data[at + random.randrange(2) :]


def _truncate(random: Random, data: bytes, _pool: Sequence[bytes], _pieces: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] if random.random() < 0.8 else data[at:]


def _cut(random: Random, data: bytes, _pool: Sequence[bytes], _pieces: Sequence[bytes]) -> bytes:
    start, end = _span(random, data)
    return data[:start] + data[end:]


def _double(random: Random, data: bytes, _pool: Sequence[bytes], _pieces: Sequence[bytes]) -> bytes:
    start, end = _span(random, data)
    at = random.choice((end, random.randrange(len(data) + 1)))
    return data[:at] + data[start:end] * random.choice((1, 1, 1, 2, 40)) + data[at:]


def _insert(random: Random, data: bytes, _pool: Sequence[bytes], pieces: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.choice(pieces) + data[at:]


def _replace(random: Random, data: bytes, _pool: Sequence[bytes], pieces: Sequence[bytes]) -> bytes:
    start, end = _span(random, data)
    return data[:start] + random.choice(pieces) + data[end:]


def _splice(random: Random, data: bytes, pool: Sequence[bytes], _pieces: Sequence[bytes]) -> bytes:
    other = random.choice(pool)
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def _transplant(random: Random, data: bytes, pool: Sequence[bytes], _pieces: Sequence[bytes]) -> bytes:
    other = random.choice(pool)
    start, end = _span(random, other, 200)
    at = random.randrange(len(data) + 1)
    return data[:at] + other[start:end] + data[at:]


def _nest(random: Random, data: bytes, _pool: Sequence[bytes], _pieces: Sequence[bytes]) -> bytes:
    open_, close = random.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"#YQ#", b""), (b"*", b"*"), (b"${", b"}"), (b"%(", b")s")))
    start, end = _span(random, data, len(data) + 1)
    depth = random.choice((1, 2, 3, 30, 300))
    return data[:start] + open_ * depth + data[start:end] + close * depth + data[end:]


def _token(random: Random, data: bytes, pool: Sequence[bytes], pieces: Sequence[bytes]) -> bytes:
    """One word, string or number exchanged for another, from here or elsewhere: mostly well-formed again."""
    here = [found.span() for found in _TOKEN.finditer(data[:MAXIMUM_BYTES])]
    there: list[bytes] = _TOKEN.findall(random.choice((data, random.choice(pool)))[:MAXIMUM_BYTES])
    if not here or not there:
        return _insert(random, data, pool, pieces)
    start, end = random.choice(here)
    return data[:start] + random.choice(there) + data[end:]


def _number(random: Random, data: bytes, _pool: Sequence[bytes], _pieces: Sequence[bytes]) -> bytes:
    start, end = _span(random, data, 8)
    number = random.choice((str(random.getrandbits(random.choice((8, 33, 65, 2000)))), "0." + "0" * 400 + "1", "1e" + "9" * 20, f"-{random.random()}"))
    return data[:start] + number.encode() + data[end:]


def _blown_up(random: Random, data: bytes, _pool: Sequence[bytes], pieces: Sequence[bytes]) -> bytes:
    start, end = _span(random, data)
    piece = data[start:end] or random.choice(pieces)
    return (data[:start] + piece * (_LONG_BYTES // len(piece)) + data[end:])[:_LONG_BYTES]


_MUTATIONS: tuple[Mutation, ...] = (_flip, _flip, _byte, _truncate, _cut, _double, _insert, _insert, _replace, _splice, _transplant, _nest, _number, _token)
_GENTLE: tuple[Mutation, ...] = (_token,)
