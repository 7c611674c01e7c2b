"""From a file's bytes to text: compression and encoding."""

import bz2
import codecs
import gzip
import lzma
import zipfile
from collections.abc import Callable
from io import BufferedIOBase, BytesIO
from typing import IO

from trainables.tables import DATA_BYTES

_PIECE_BYTES = 64 * 2**20
_MAGIC = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_OPENED: dict[str, Callable[[BytesIO], BufferedIOBase | IO[bytes]]] = {
    "gzip": lambda data: gzip.GzipFile(fileobj=data),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
}
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def unpacked(data: bytes) -> tuple[bytes, dict[str, str]]:
    """The bytes of a file without its compression, and which one it was.

    Raises:
        ValueError: it is damaged, has more than one member, or unpacks to too much.
    """
    for magic, name in _MAGIC.items():
        if data.startswith(magic):
            return _unpacked(data, name), {"compression": name}
    return data, {}


def decoded(data: bytes) -> tuple[str, dict[str, str]]:
    """The text of a file, and its encoding where that is not plain UTF-8.

    Raises:
        ValueError: it is no text.
    """
    found: dict[str, str] = {}
    encoding = next((name for bom, name in _BOMS.items() if data.startswith(bom)), "")
    if not encoding:
        encoding = "utf-16-le" if data[1:200:2].count(0) > len(data[1:200:2]) / 2 else "utf-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        encoding, text = "cp1252", data.decode("cp1252", errors="replace")
    if "\x00" in text:
        raise ValueError("it is no text")
    if encoding != "utf-8":
        found["encoding"] = {"cp1252": "Windows-1252 (it is no UTF-8)"}.get(encoding, encoding)
    return text, found


def _unpacked(data: bytes, name: str) -> bytes:
    source: BufferedIOBase | IO[bytes]
    try:
        if name == "zip":
            with zipfile.ZipFile(BytesIO(data)) as archive:
                members = [one for one in archive.namelist() if not one.endswith("/") and "__MACOSX" not in one]
                if len(members) != 1:
                    raise ValueError(f"the archive holds {len(members)} files; one is needed: {', '.join(members[:5])}")
                with archive.open(members[0]) as source:
                    return _bounded(source)
        with _OPENED[name](BytesIO(data)) as source:
            return _bounded(source)
    except (OSError, EOFError, zipfile.BadZipFile, lzma.LZMAError) as error:
        raise ValueError(f"its {name} compression is damaged: {error}") from error


def _bounded(source: BufferedIOBase | IO[bytes]) -> bytes:
    pieces, size = [], 0
    while piece := source.read(_PIECE_BYTES):
        size += len(piece)
        if size > DATA_BYTES:
            raise ValueError(f"it unpacks to more than {DATA_BYTES / 1e9:.0f} GB")
        pieces.append(piece)
    return b"".join(pieces)
