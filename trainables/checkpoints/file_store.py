"""Checkpoints of one trial in a folder: whole or absent, proven by hash, fenced by attempt.

    <folder>/attempt-0002.json               one an attempt; the highest number owns the trial. Holds its small notes
    <folder>/checkpoint-0002-000007/         attempt and number of the save; the highest pair is the newest
        state.pt                             tensors and plain values, read with weights_only
        manifest.json                        hash and size of state.pt, key, attempt, step, the full spec
    <folder>/best/                           the same two files of a trial that is over: the best weights alone

A checkpoint is hashed while it is written to a hidden folder, synced, and renamed into place; only then are older ones
pruned, but for the one before. It is read against its hash. No name is shared by two attempts, so two processes need no
lock: a worker left over from an older attempt can neither overwrite nor prune what its successor wrote.
"""

import errno
import hashlib
import json
import logging
import os
import pickle
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import FiniteFloat, TypeAdapter

from trainables.errors import CheckpointError, FencedError
from trainables.files import read_json, real_folder, remove_tree, replace_text, sha256_of, sync_folder
from trainables.schema import TrialSpec

KEEP = 2
BEST = "best"
FORMAT = 1
State = dict[str, Any]  # nested dicts and lists of tensors, numbers, strings, booleans and None
_NAME = re.compile(r"checkpoint-(\d+)-(\d+)")
_MARK = re.compile(r"attempt-(\d+)\.json")
# One file cannot be read, on a file system that works otherwise: a bad sector, a failed checksum, missing rights, a
# folder in its place. With the others (ESTALE, ENOTCONN) no older checkpoint could be read either.
_UNREADABLE = frozenset(
    getattr(errno, name)
    for name in ("EIO", "EACCES", "EPERM", "EISDIR", "ENOTDIR", "ELOOP", "ENXIO", "EUCLEAN", "EBADMSG", "ENODATA")
    if hasattr(errno, name)
)
_NUMBERS: TypeAdapter[dict[str, float]] = TypeAdapter(dict[str, FiniteFloat])

log = logging.getLogger(__name__)


class CheckpointStore(Protocol):
    """Where a trial keeps its state."""

    def save(self, state: State, *, step: int, spec: TrialSpec) -> None:
        """Keep a state durably.

        Raises:
            FencedError: a newer attempt owns the trial; nothing was written.
            OSError: disk full, read-only or gone; older checkpoints remain.
        """
        ...

    def load(self) -> State | None:
        """The newest complete state, tensors on the CPU, or None.

        Raises:
            CheckpointError: there is one, but of another trial.
        """
        ...

    def note(self, numbers: dict[str, float]) -> None:
        """Keep a few numbers that change while the state does not, without writing it again.

        Raises:
            FencedError, OSError: as of `save`.
        """
        ...

    def noted(self) -> dict[str, float]:
        """The latest numbers that any attempt noted."""
        ...


class FileCheckpointStore:
    """Checkpoints in a folder of one trial, written by one attempt.

    Making a store claims the trial for its attempt, unless a newer attempt has done so.
    """

    def __init__(self, folder: Path, attempt: int, key: str) -> None:
        self.folder = folder
        self.attempt = attempt
        self.key = key
        self._damaged: set[Path] = set()  # checkpoints that could not be read
        self._words: list[str] = []
        _real(folder)
        self._mark = folder / f"attempt-{attempt:04d}.json"
        if max(self._attempts(), default=0) <= attempt:
            if not self._mark.is_file():
                remove_tree(self._mark)  # a folder of that name
                replace_text(self._mark, "{}")
            for unfinished in folder.glob(".checkpoint-*"):
                remove_tree(unfinished)

    def save(self, state: State, *, step: int, spec: TrialSpec) -> None:
        """Write a checkpoint; see `CheckpointStore.save`."""
        self._check_fence()
        taken = [number for attempt, number, _ in self._checkpoints() if attempt == self.attempt]
        self._put(f"checkpoint-{self.attempt:04d}-{max(taken, default=0) + 1:06d}", state, step, spec)
        self._prune()

    def keep_best(self, weights: State, *, step: int, spec: TrialSpec) -> None:
        """Keep the best weights of a trial that is over: what stays when its checkpoints are removed.

        Raises:
            FencedError, OSError: as of `save`.
        """
        self._check_fence()
        self._put(BEST, {"weights": weights}, step, spec)

    def _put(self, name: str, state: State, step: int, spec: TrialSpec) -> None:
        aside = self.folder / f".{name}"
        try:
            self._write(aside, state, step, spec)
            self._check_fence()
            remove_tree(self.folder / name)  # the best weights of an attempt that ended without a record
            aside.rename(self.folder / name)
        except BaseException:
            remove_tree(aside)
            self._check_fence()  # a successor removed the unfinished folder: say that, not 'no such file'
            raise
        sync_folder(self.folder)

    def load(self) -> State | None:
        """Read the newest complete checkpoint; see `CheckpointStore.load`.

        Damaged and unreadable ones are skipped, with a warning that names the file.
        """
        for _, _, path in reversed(self._checkpoints()):
            try:
                return _read(path, self.key)
            except DamagedCheckpointError as damage:
                self._damaged.add(path)
                self._say(f"{path}: {damage}; the next older checkpoint is tried")
        return None

    def note(self, numbers: dict[str, float]) -> None:
        """See `CheckpointStore.note`."""
        self._check_fence()
        replace_text(self._mark, json.dumps(numbers))

    def noted(self) -> dict[str, float]:
        """See `CheckpointStore.noted`."""
        for _, path in sorted(self._attempts().items(), reverse=True):
            try:
                numbers = _NUMBERS.validate_python(read_json(path))
            except (ValueError, OSError) as error:
                if isinstance(error, OSError) and error.errno not in _UNREADABLE:
                    raise
                self._say(f"{path} cannot be read ({_first_line(error)}); an older attempt's notes are used")
                continue
            if numbers:
                return numbers
        return {}

    def words(self) -> list[str]:
        """What was found since the last call, for the ledger."""
        said, self._words = self._words, []
        return said

    def _say(self, words: str) -> None:
        log.warning("%s", words)
        self._words.append(words)

    def _write(self, aside: Path, state: State, step: int, spec: TrialSpec) -> None:
        remove_tree(aside)
        aside.mkdir()
        path = aside / "state.pt"
        writer = _HashedWriter(path)
        writer.save(state)
        body = {
            "format": FORMAT,
            "key": self.key,
            "attempt": self.attempt,
            "step": step,
            "size_bytes": writer.size_bytes,
            "sha256": writer.sha256,
            "spec": spec.model_dump(mode="json"),
            "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "torch": torch.__version__,
        }
        with (aside / "manifest.json").open("w", encoding="utf-8") as manifest:
            json.dump({"sha256": _digest(body), "manifest": body}, manifest, indent=1)
            manifest.flush()
            os.fsync(manifest.fileno())
        sync_folder(aside)

    def _checkpoints(self) -> list[tuple[int, int, Path]]:
        """(attempt, number, path), oldest first."""
        found = ((match, path) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name)))
        return sorted((int(match[1]), int(match[2]), path) for match, path in found)

    def _attempts(self) -> dict[int, Path]:
        """The files in which attempts claimed the trial; a folder of such a name claims nothing."""
        found = ((match, path) for path in self.folder.iterdir() if (match := _MARK.fullmatch(path.name)))
        return {int(match[1]): path for match, path in found if path.is_file()}

    def _check_fence(self) -> None:
        attempts = self._attempts()
        if (newest := max(attempts, default=0)) > self.attempt:
            raise FencedError(
                f"{attempts[newest]}: attempt {newest} owns {self.key}, attempt {self.attempt} must end and write "
                "nothing"
            )

    def _prune(self) -> None:
        for path in self._old():
            remove_tree(path)

    def _old(self) -> list[Path]:
        """Checkpoints up to this attempt that are no longer needed: all but the newest that can be read."""
        ours = [path for attempt, _, path in self._checkpoints() if attempt <= self.attempt]
        kept = [path for path in ours if path not in self._damaged][-KEEP:]
        return [path for path in ours if path not in kept]


class DamagedCheckpointError(Exception):
    """A checkpoint is torn or altered, or cannot be read."""


def _unreadable(name: str, error: OSError) -> Exception:
    """What to raise for a file that could not be read: damage, or the error itself where the file system is away."""
    if isinstance(error, FileNotFoundError):
        return DamagedCheckpointError(f"{name} is missing")
    return DamagedCheckpointError(f"{name} cannot be read: {error.strerror}") if error.errno in _UNREADABLE else error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class _HashedWriter:
    """A file for `torch.save`: hashed on the way to the disk, synced at the end.

    torch.save turns a failed write into a RuntimeError about its archive; the operating system's own error (disk full)
    is kept and raised in its place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = hashlib.sha256()
        self._failure: OSError | None = None
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def save(self, state: State) -> None:
        with self._path.open("wb", buffering=0) as self._file:
            try:
                torch.save(state, self)  # type: ignore[arg-type]
            except RuntimeError:
                if self._failure is None:
                    raise
                raise self._failure from None
            os.fsync(self._file.fileno())

    def write(self, data: bytes) -> int:
        rest = memoryview(data).cast("B")
        self._hash.update(rest)
        self.size_bytes += len(rest)
        try:
            while rest:  # an unbuffered file may take less than it is given
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._failure = error
            raise
        return len(data)

    def flush(self) -> None:
        pass


def _read(path: Path, key: str) -> State:
    prove(path, key)
    try:
        state: State = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise DamagedCheckpointError(f"state.pt cannot be read: {_first_line(error)}") from error
    except OSError as error:
        raise _unreadable("state.pt", error) from error
    return state


def prove(path: Path, key: str) -> None:
    """Compare a checkpoint with its manifest.

    Raises:
        DamagedCheckpointError: it is damaged or cannot be read.
        CheckpointError: it is of another trial or format.
        OSError: the whole file system is away.
    """
    manifest = _read_manifest(path / "manifest.json")
    if manifest["key"] != key:
        raise CheckpointError(
            f"{path}: this checkpoint belongs to trial {manifest['key']}, not to {key}\n"
            f"    fix: give each trial a folder of its own, or remove this one"
        )
    try:
        if sha256_of(path / "state.pt") != manifest["sha256"]:
            raise DamagedCheckpointError("state.pt does not have the bytes that its manifest says")
    except OSError as error:
        raise _unreadable("state.pt", error) from error


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest's body, proven by its own hash: a flipped byte in a key must not look like another trial's key."""
    try:
        whole = read_json(path)
        body: dict[str, Any] = whole["manifest"]
        if _digest(body) != whole["sha256"]:
            raise DamagedCheckpointError("manifest.json does not have the content that its hash says")
        if body["format"] == FORMAT and not all(isinstance(body[name], str) for name in ("key", "sha256")):
            raise DamagedCheckpointError("manifest.json has no key, or no hash")
    except OSError as error:
        raise _unreadable("manifest.json", error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpointError(f"manifest.json cannot be read: {error}") from error
    if body["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {body['format']}, this isotherm reads {FORMAT}\n"
            f"    fix: resume with the isotherm that wrote it, or remove the trial's checkpoints"
        )
    return body


def load_best(folder: Path, key: str) -> State:
    """The weights that were kept of a trial that is over, on the CPU. Nothing is claimed or written.

    Args:
        folder: of the trial's checkpoints.
        key: of the trial.

    Raises:
        CheckpointError: there are none, or they are damaged or another trial's.
    """
    try:
        weights: State = _read(folder / BEST, key)["weights"]
    except (DamagedCheckpointError, KeyError) as error:
        raise CheckpointError(
            f"{folder / BEST}: no weights can be read: {error}\n"
            f"    fix: weights are kept of finished trials; bring the folder back from a copy, or run the trial again"
        ) from error
    return weights


def remove_checkpoints(folder: Path) -> None:
    """Remove a trial's checkpoints; its best weights and the marks of its attempts stay.

    Raises:
        ConfigError: the folder, or the one above it, is a link.
    """
    if not folder.exists():
        return
    _real(folder)
    for pattern in ("checkpoint-*", ".checkpoint-*"):
        for path in folder.glob(pattern):
            remove_tree(path)


def _real(folder: Path) -> None:
    """A trial's folder is made where it is missing; neither it nor the folder of all trials above it is a link."""
    real_folder(folder, folder.parent.parent)


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
