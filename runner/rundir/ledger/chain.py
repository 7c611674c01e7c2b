"""The order of a ledger's lines: numbers without a gap, and a running hash over every line before and including it.

A record's line ends with the hash: sha256 over the hash of the line before and this line's JSON without its hash, the
first 16 hex digits. Ledgers of schema 1 have no hashes; the first record that is added to one covers all of it.
"""

import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

HASH_LENGTH = 16
_SEALED = re.compile(rb',"chain":"([0-9a-f]{%d})"}$' % HASH_LENGTH)
_SEQ = re.compile(rb'\{"v":\d+,"seq":(\d+),')  # as a driver writes it; anything else is parsed


@dataclass
class Chain:
    """How far a ledger goes: the number of its records, and the running hash over them."""

    length: int = 0
    digest: str = ""
    hashed: bool = False  # whether a line with a hash was seen: from then on every line has one

    def seal(self, document: bytes) -> bytes:
        """The line of the next record, given as its JSON."""
        body = document[:-1]
        return body + b',"chain":"' + self._next(body).encode() + b'"}\n'

    def accept(self, line: bytes, seq: int) -> str:
        """Go on by one line; returns what is wrong with its place, and then stays where it is.

        Args:
            line: a whole line of the file.
            seq: the number that the line gives itself.
        """
        sealed = _SEALED.search(line, max(0, len(line) - 64), len(line) - 1)
        body = line[: sealed.start()] if sealed else line[:-1]
        digest = self._next(body)
        if seq != self.length:
            return self._misplaced(seq)
        if sealed is None and self.hashed:
            return "its running hash (`chain`) is missing, and the lines before it have one"
        if sealed and sealed[1].decode() != digest:
            return (
                f"its running hash does not match: this line{'' if self.hashed else ', or one before it,'} was changed"
            )
        self.length, self.digest, self.hashed = self.length + 1, digest, sealed is not None
        return ""

    def _misplaced(self, seq: int) -> str:
        expected = f"record {self.length} was expected and record {seq} was found"
        if seq > self.length:
            missing = seq - self.length
            return f"{expected}: {missing} {'record is' if missing == 1 else 'records are'} missing before it"
        return f"{expected}: the line is doubled or out of order"

    def _next(self, body: bytes) -> str:
        return hashlib.sha256(self.digest.encode() + body).hexdigest()[:HASH_LENGTH]


def seq_of(line: bytes) -> int:
    """The number that a line gives itself; -1 where it has none."""
    if match := _SEQ.match(line):
        return int(match[1])
    try:
        return int(json.loads(line)["seq"])
    except (ValueError, TypeError, KeyError):
        return -1


def whole_lines(data: bytes) -> Iterator[bytes]:
    """Complete lines, with their ends; an unfinished last one is left out."""
    return (line for line in io.BytesIO(data) if line.endswith(b"\n"))


def common_lines(one: bytes, other: bytes) -> int:
    """Bytes of the whole lines that two texts begin with in common."""
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return one.rfind(b"\n", 0, shorter) + 1
    position = 0
    for mine, theirs in zip(whole_lines(one), whole_lines(other), strict=False):
        if mine != theirs:
            break
        position += len(mine)
    return position
