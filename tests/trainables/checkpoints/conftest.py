"""The specs, folders and trainers of the training tests."""

from tests.trainables.training.conftest import (
    data,
    data_root,
    dataset,
    finish,
    folder,
    make_data,
    make_spec,
    make_trainer,
    record,
    resolved,
)

__all__ = [
    "data",
    "data_root",
    "dataset",
    "finish",
    "folder",
    "make_data",
    "make_spec",
    "make_trainer",
    "record",
    "resolved",
]
