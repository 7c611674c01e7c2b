"""Reads what W&B writes on disk."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class WandbFile:
    """What a ``.wandb`` file holds."""

    run_id: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: tuple[str, ...] = ()
    notes: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


def read_wandb(path: Path) -> WandbFile:
    """Read W&B's transaction log: LevelDB's log format with a file header of 7 bytes, one protobuf a record."""
    from wandb.proto.wandb_internal_pb2 import Record

    file = WandbFile()
    for data in leveldb_log(path.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            file.run_id, file.name, file.group = record.run.run_id, record.run.display_name, record.run.run_group
            file.job_type, file.tags, file.notes = record.run.job_type, tuple(record.run.tags), record.run.notes
            file.config.update({item.key: json.loads(item.value_json) for item in record.run.config.update})
        elif kind == "history":
            items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
            file.rows.append({name: json.loads(value) for name, value in items.items()})
        elif kind == "summary":
            items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.summary.update}
            file.summary.update({name: json.loads(value) for name, value in items.items()})
        elif kind == "exit":
            file.exit_code = record.exit.exit_code
    return file


def leveldb_log(data: bytes) -> Iterator[bytes]:
    block, header = 32 * 1024, 7
    position, record = header, b""
    while position < len(data):
        if block - position % block < header:
            position += block - position % block
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + header])
        if kind == 0:
            return
        record += data[position + header : position + header + length]
        position += header + length
        if kind in (1, 4):  # a full record, or the last part of one
            yield record
            record = b""
