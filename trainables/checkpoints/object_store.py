"""A folder or an object store behind a run, reached through pyarrow. Nothing counts as stored before it was read back.

    <storage>/<run>/ledger/<start>-<end>.<hash>.jsonl         bytes start to end of the ledger, sealed
                    data/<hash>.<file>                        datasets of the grid
                    plugins/<hash>.<file>                     copies of the plugins that the run was started with
                    predictions/<key>.<hash>.parquet          one object a finished key
                    checkpoints/<key>/attempt-0002.json       which attempts there were
                    checkpoints/<key>/<checkpoint>/state.pt   and manifest.json, which comes last and proves it whole

A <hash> is the first 16 hex digits of the content's sha256. No name is ever given to two contents, so that two
machines cannot overwrite each other's work. Credentials are pyarrow's business: it reads the environment.
"""

import hashlib
import time
from collections.abc import Iterable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyarrow import fs

from trainables.errors import ConfigError, Problem
from trainables.files import replacing
from trainables.schema import Spec

PIECE_BYTES = 8 * 2**20
HASH_LENGTH = 16
BACKOFF_FIRST_S, BACKOFF_MAX_S = 1.0, 60.0


class StoragePlace(Spec):
    """Where a run's storage is.

    Attributes:
        uri: a folder, or a URI that pyarrow's filesystems reach.
        run: the run's name, a folder below it.
        owner: the file in which the run's driver says who it is, on the driver's host.
        owner_text: its content: a worker that reads the same there shares the driver's disk.
    """

    uri: str
    run: str
    owner: Path | None = None
    owner_text: str = ""

    @property
    def shares_disk(self) -> bool:
        """Whether the driver's own file can be read here: two disks may well have folders of one name."""
        try:
            return self.owner is not None and self.owner.read_text() == self.owner_text
        except OSError:
            return False


class DamagedObjectError(OSError):
    """An object that does not have the bytes that it should."""


class Storage:
    """One run's part of a storage. Names are relative to it, with slashes.

    Every method raises OSError where the storage cannot be reached or refuses, and can then be called again.
    """

    def __init__(self, place: StoragePlace) -> None:
        self.place = place
        self._fs: Any = None
        self._base = ""

    def __str__(self) -> str:
        return self.place.uri.rstrip("/") if "?" in self.place.uri else f"{self.place.uri.rstrip('/')}/{self.place.run}"

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Size in bytes of every object in a folder and below, by name."""
        self._connect()
        if isinstance(self._fs, fs.LocalFileSystem) and not Path(self._base).parent.is_dir():
            raise FileNotFoundError(f"{Path(self._base).parent} is no folder")
        inside = f"{self._base}/{folder}".rstrip("/")
        found = self._fs.get_file_info(fs.FileSelector(inside, recursive=True, allow_not_found=True))
        cut = len(self._base) + 1
        return {one.path[cut:]: one.size for one in found if one.type == fs.FileType.File}

    def put(self, content: Path | bytes, name: str) -> None:
        """Store a file or bytes, then read all of it back and compare.

        Raises:
            FileNotFoundError: the file to be stored is gone.
            OSError: the storage failed, or gave back other bytes than it was given.
        """
        self._connect()
        given = hashlib.sha256()
        with BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source:
            if isinstance(self._fs, fs.LocalFileSystem):
                self._put_locally(source, Path(self._base, name), given)
            else:
                with self._fs.open_output_stream(f"{self._base}/{name}") as sink:
                    _pump(source, sink, given)
        back = hashlib.sha256()
        with self._open(name) as stream:
            _pump(stream, None, back)
        if given.digest() != back.digest():
            raise OSError(f"{name}: the storage gave back other bytes than were put into it")

    def read(self, name: str) -> bytes:
        """The content of a small object.

        Raises:
            FileNotFoundError: there is none.
        """
        self._connect()
        with self._open(name) as stream:
            data: bytes = stream.read()
        return data

    def fetch(self, name: str, target: Path, sha256: str) -> None:
        """Bring an object here, whole or not at all.

        Args:
            name: of the object.
            target: the file to be written.
            sha256: of the content; the first digits suffice.

        Raises:
            FileNotFoundError: there is none.
            DamagedObjectError: the content has another hash.
        """
        self._connect()
        content = hashlib.sha256()
        with replacing(target) as aside, self._open(name) as stream, aside.open("wb") as sink:
            _pump(stream, sink, content)
            if not content.hexdigest().startswith(sha256):
                raise DamagedObjectError(f"{name}: the content does not have the hash {sha256}; it is damaged")

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects; those that are gone already are no error."""
        self._connect()
        for name in names:
            with suppress(FileNotFoundError):
                self._fs.delete_file(f"{self._base}/{name}")

    def remove_folder(self, name: str) -> None:
        """Remove all objects of a folder, and what filesystems keep of it: an entry or a marker object."""
        self._connect()
        with suppress(FileNotFoundError):
            self._fs.delete_dir(f"{self._base}/{name}")

    def _connect(self) -> None:
        if self._fs is not None:
            return
        try:
            filesystem, path = fs.FileSystem.from_uri(_absolute(self.place.uri))
            if not path:
                raise ValueError("it names no bucket")
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError, TypeError) as error:
            raise ConfigError(
                Problem(
                    place=f"storage_path: {self.place.uri}",
                    message=f"pyarrow cannot use it: {str(error).splitlines()[0]}",
                    fix="give a folder, or a URI such as s3://bucket/folder",
                )
            ) from error
        if isinstance(filesystem, fs.S3FileSystem):
            filesystem = _with_one_try(filesystem)
        self._fs, self._base = filesystem, f"{path.rstrip('/')}/{self.place.run}"

    def _open(self, name: str) -> Any:
        return self._fs.open_input_stream(f"{self._base}/{name}")

    def _put_locally(self, source: IO[bytes], target: Path, content: Any) -> None:
        """A crash must not leave half a file under a good name; object stores have no halves."""
        if not Path(self._base).parent.is_dir():  # a lost mount must not be mistaken for an empty disk
            raise OSError(f"{Path(self._base).parent} is no folder")
        with replacing(target) as aside, aside.open("wb") as sink:
            _pump(source, sink, content)


class Backoff:
    """When to try again: after 1 s, 2 s, 4 s and so on to 60 s."""

    def __init__(self) -> None:
        self.failures = 0
        self.since: float | None = None  # time.monotonic() of the first failure in a row

    def failed(self) -> float:
        """Take note of a failure; seconds to wait."""
        self.since = self.since if self.since is not None else time.monotonic()
        self.failures += 1
        return min(BACKOFF_FIRST_S * 2.0 ** min(self.failures - 1, 16), BACKOFF_MAX_S)

    def worked(self) -> float | None:
        """Take note of a success; after failures, the seconds since the first of them."""
        since, self.since, self.failures = self.since, None, 0
        return None if since is None else time.monotonic() - since


def short_hash(content: Path | bytes) -> str:
    """The hash that names content."""
    with BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:HASH_LENGTH]


def data_name(path: str, sha256: str) -> str:
    """Name of a dataset's object."""
    return f"data/{sha256[:HASH_LENGTH]}.{path}"


def plugin_name(path: Path) -> str:
    """Name of the object of a plugin's copy."""
    return f"plugins/{short_hash(path)}.{path.name}"


def prediction_name(key: str, path: Path) -> str:
    """Name of the object of a finished key's predictions."""
    return f"predictions/{key}.{short_hash(path)}.parquet"


def first_line(error: BaseException) -> str:
    """What went wrong, in a line that fits a ledger."""
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).expanduser().absolute())


def _with_one_try(filesystem: Any) -> Any:
    """The same S3 filesystem without retries of its own.

    Where a server accepts connections and never responds, pyarrow's retries hold a thread, and with it the end of the
    process, for 99 s; a single try takes 3 s (measured, pyarrow 25). `Backoff` tries again.
    """
    _, (options,) = filesystem.__reduce__()
    given = {name: value for name, value in options.items() if value not in (None, "", -1.0)}
    if not given["proxy_options"]["scheme"]:
        del given["proxy_options"]
    return fs.S3FileSystem(**given, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1))


def _pump(source: Any, sink: Any, content: Any) -> None:
    while piece := source.read(PIECE_BYTES):
        content.update(piece)
        if sink is not None:
            sink.write(piece)
