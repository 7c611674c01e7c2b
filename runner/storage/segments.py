"""The ledger as sealed pieces: immutable objects, each named by the bytes it covers and their hash."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from trainables.checkpoints.object_store import HASH_LENGTH

FOLDER = "ledger"
_NAME = re.compile(FOLDER + r"/(\d+)-(\d+)\.([0-9a-f]+)\.jsonl")


@dataclass(frozen=True, order=True)
class Segment:
    """Bytes `start` up to `end` of a ledger, whole lines."""

    start: int
    end: int
    hash: str

    @property
    def name(self) -> str:
        """Name of its object."""
        return f"{FOLDER}/{self.start:012d}-{self.end:012d}.{self.hash}.jsonl"

    @classmethod
    def of(cls, data: bytes, start: int) -> Self:
        """The segment that holds `data`."""
        return cls(start, start + len(data), _hash(data))

    def holds(self, data: bytes) -> bool:
        """Whether these are its bytes."""
        return _hash(data) == self.hash


def found(sizes: dict[str, int]) -> list[Segment]:
    """The segments among a storage's objects, in order.

    Args:
        sizes: of the objects, by name. A torn one, of another size than its name says, does not count.
    """
    matches = ((match, size) for name, size in sizes.items() if (match := _NAME.fullmatch(name)))
    segments = [(Segment(int(match[1]), int(match[2]), match[3]), size) for match, size in matches]
    return sorted(one for one, size in segments if size == one.end - one.start)


def chain(segments: Iterable[Segment]) -> list[Segment]:
    """Those that follow each other from the ledger's first byte, as far as there are any; the longest ones win."""
    longest: dict[int, Segment] = {}
    for one in sorted(segments):
        longest[one.start] = one
    links, position = [], 0
    while position in longest:
        links.append(longest[position])
        position = longest[position].end
    return links


def whole_lines(data: bytes) -> bytes:
    """The data without an unfinished last line."""
    return data[: data.rfind(b"\n") + 1]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:HASH_LENGTH]
