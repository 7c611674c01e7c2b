"""The data catalog: datasets built once, recorded with their lineage, and refused when a byte has changed.

The data folder holds one parquet file per dataset and `catalog.json`. Both are replaced atomically; writers take turns
by a lock file.
"""

import errno
import hashlib
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainables.data import sources, tier_registry
from trainables.data.build import build, source_of
from trainables.data.catalog_lock import locked
from trainables.data.dataset import CatalogEntry, Dataset
from trainables.errors import DataError, Problem
from trainables.files import read_json, replace_bytes, replacing
from trainables.schema import AS_FOUND, DataSpec, RepairSpec

__all__ = [
    "CatalogEntry",
    "Dataset",
    "Verification",
    "adopt",
    "entries",
    "entry_of",
    "load",
    "name_of",
    "opened",
    "prepare",
    "verify",
]

logger = logging.getLogger(__name__)

CATALOG = "catalog.json"
_FORMAT = 1
_PREPARE = "to build it anew: isotherm data prepare SWEEP"
_NAME_LENGTH = 40  # of the readable part of a file's name


@dataclass(frozen=True)
class Verification:
    """One catalog entry compared with its file.

    Attributes:
        message: what is wrong, or 'ok'.
    """

    name: str
    path: str
    ok: bool
    message: str


def name_of(spec: DataSpec) -> str:
    """Name of the dataset that a specification asks for: readable, and distinct for distinct specifications."""
    tier = tier_registry.resolved(spec.tier)
    asked = {
        "sources": spec.source,
        "columns": spec.columns,
        "sort": spec.sort,
        "tier": tier if isinstance(tier, str) else tier.model_dump(),
        "timescale": spec.timescale,
        **_further(spec),
    }
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    assets = [re.sub(r"[^a-z0-9]+", "-", sources.asset_name(source).lower()).strip("-") for source in spec.source]
    readable = "+".join(assets)
    if len(readable) > _NAME_LENGTH:
        readable = f"{assets[0][:_NAME_LENGTH]}+{len(assets) - 1}"
    return f"{readable or 'data'}-{spec.timescale}-{spec.tier.name}-{digest[:8]}"


def _further(spec: DataSpec) -> dict[str, Any]:
    """Keys that differ from their defaults: names of datasets of before have none of them."""
    found: dict[str, Any] = {}
    if spec.format != AS_FOUND:
        found["format"] = spec.format.model_dump()
    if spec.repair != RepairSpec():
        found["repair"] = spec.repair.identity
    if spec.adjust != "none":
        found["adjust"] = spec.adjust
    if spec.features is not None:
        found["features"] = spec.features.model_dump()
    if spec.members is not None:
        found["members"] = spec.members
    if spec.session is not None:
        found["session"] = spec.session.model_dump()
    if spec.sample.assets is not None:
        found["assets"] = spec.sample.assets
    if spec.calendar:
        found["calendar"] = spec.calendar
    if spec.context:
        found["context"] = {name: block.model_dump() for name, block in spec.context.items()}
    return found


def entries(root: Path) -> dict[str, CatalogEntry]:
    """All entries of a data folder by name; none where there is no catalog.

    Raises:
        DataError: the catalog cannot be read.
    """
    path = root / CATALOG
    try:
        document = read_json(path)
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise DataError(
            Problem(place=str(path), message=f"cannot be read: {exc}", fix="check its permissions")
        ) from exc
    except ValueError as exc:
        raise _no_catalog(path, exc) from exc
    try:
        if document["format"] != _FORMAT:
            raise ValueError(f"format {document['format']} is not known to this version")
        return {name: CatalogEntry.model_validate_json(json.dumps(item)) for name, item in document["entries"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as exc:
        raise _no_catalog(path, exc) from exc


def _no_catalog(path: Path, error: Exception) -> DataError:
    message = f"is not a catalog: {', '.join(str(error).splitlines()[:3])}"
    fix = "remove it and the parquet files in its folder; they are built anew when they are next needed"
    return DataError(Problem(place=str(path), message=message, fix=fix))


def entry_of(recorded: dict[str, Any], place: str) -> CatalogEntry:
    """An entry as somebody else recorded it, in a ledger for instance.

    Raises:
        DataError: it is none.
    """
    try:
        return CatalogEntry.model_validate_json(json.dumps(recorded))
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        message = f"records a dataset whose {'.'.join(map(str, first['loc']))} is wrong ({first['msg']})"
        raise DataError(Problem(place=place, message=message, fix="restore it from a copy")) from exc


def prepare(spec: DataSpec, root: Path, *, rebuild: bool = False) -> CatalogEntry:
    """Build the dataset of a specification, unless there is a verified entry for it.

    Args:
        spec: sources, columns, sort, timescale and tier matter; the rest is applied when windows are made.
        root: the data folder; made if missing.
        rebuild: build it anew even where there is an entry, whatever its state.

    Raises:
        DataError: a source is wrong (all problems of all sources); or an entry exists, but its file, its source or the
            features' code has changed since, and `rebuild` was not asked for; or another process holds the catalog for
            too long.
    """
    name = name_of(spec)
    changed: DataError | None = None
    try:
        try:  # without the lock, which a folder that is read-only does not need
            if not rebuild and (entry := _standing(name, root)) is not None:
                return entry
        except DataError as error:
            changed = error  # or another process is replacing it: decided under the lock
        root.mkdir(parents=True, exist_ok=True)
        with locked(root):
            if not rebuild and (entry := _standing(name, root)) is not None:
                return entry
            with replacing(root / f"{name}.parquet") as aside:
                entry = build(spec, name, aside)
            _write_entries(entries(root) | {name: entry}, root)
            return entry
    except OSError as exc:
        if changed is not None and exc.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise changed from exc
        message = f"cannot be used as the data folder: {exc.strerror or exc}"
        raise DataError(Problem(place=str(root), message=message, fix="check the path, space and permissions")) from exc


def adopt(entry: CatalogEntry, root: Path, fetch: Callable[[Path], None]) -> None:
    """Enter a dataset that was built elsewhere, unless there is one of its name.

    Args:
        entry: its entry there.
        root: the data folder; made if missing.
        fetch: writes its file to the path that it is given.

    Raises:
        DataError: another process holds the catalog for too long.
        OSError: it cannot be fetched or written; nothing was entered.
    """
    path = root / entry.path
    root.mkdir(parents=True, exist_ok=True)
    with locked(root):
        known = entries(root)
        if entry.name not in known and not path.exists():
            fetch(path)
            _write_entries(known | {entry.name: entry}, root)


def verify(root: Path) -> list[Verification]:
    """Compare every entry with its file, byte by byte (sha256).

    Raises:
        DataError: the catalog itself cannot be read.
    """
    found = []
    for name, entry in sorted(entries(root).items()):
        try:
            _verified(entry, root)
        except DataError as exc:
            found.append(Verification(name, entry.path, False, exc.problems[0].message))
        else:
            found.append(Verification(name, entry.path, True, "ok"))
    return found


def load(entry: CatalogEntry, root: Path) -> Dataset:
    """A dataset, to be read by page.

    Raises:
        DataError: its file is missing, or a byte of it has changed.
    """
    _verified(entry, root)
    return opened(entry, root)


def opened(entry: CatalogEntry, root: Path) -> Dataset:
    """A dataset that `prepare` has just built or verified: reading a large file twice takes seconds."""
    path = root / entry.path
    return Dataset(path, entry.features, entry, path.with_suffix(".maps"))


def _verified(entry: CatalogEntry, root: Path) -> Path:
    path = root / entry.path
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise DataError(Problem(place=str(path), message="the dataset file is missing", fix=_PREPARE)) from None
    except OSError as exc:
        message = f"cannot be read: {exc.strerror or exc}"
        raise DataError(Problem(place=str(path), message=message, fix="check its permissions")) from exc
    if digest != entry.file_sha256:
        message = f"the file has changed since {entry.created_at:%Y-%m-%d %H:%M} UTC, when it was built"
        raise DataError(Problem(place=str(path), message=message, fix=_PREPARE))
    return path


def _write_entries(known: dict[str, CatalogEntry], root: Path) -> None:
    listed = {name: entry.model_dump(mode="json") for name, entry in sorted(known.items())}
    replace_bytes(root / CATALOG, (json.dumps({"format": _FORMAT, "entries": listed}, indent=2) + "\n").encode())


def _standing(name: str, root: Path) -> CatalogEntry | None:
    """The verified entry of that name, or None.

    A file that was removed is built again without being asked: removing it is how a user asks.

    Raises:
        DataError: its file, its source or the features' code has changed since.
    """
    entry = entries(root).get(name)
    if entry is None or not (root / entry.path).exists():
        return None
    _refuse_changed(entry, root)
    return entry


def _refuse_changed(entry: CatalogEntry, root: Path) -> None:
    _verified(entry, root)
    problems = []
    for source, recorded in entry.source_sha256.items():
        now = sources.digest(source)
        if now is None:
            logger.warning("%s cannot be compared with its source %s; used as it was built", entry.path, source)
        elif now != recorded:
            message = f"the source has changed since the dataset {entry.path} was built from it"
            problems.append(Problem(place=source, message=message, fix=_PREPARE))
    part, _ = tier_registry.of_dataset(entry.tier)
    if source_of(part) != entry.tier_sha256:
        message = f"the source of the tier {part.name!r} was changed under version {part.version} since it was built"
        fix = f"raise the tier's version, or restore it; {_PREPARE}"
        problems.append(Problem(place=str(root / entry.path), message=message, fix=fix))
    if problems:
        raise DataError(problems)
