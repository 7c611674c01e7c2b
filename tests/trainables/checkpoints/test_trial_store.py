"""A trial's store in a sweep: what goes where depends on whether the driver sees this disk."""

import hashlib
import json

import numpy as np
import pytest
import torch

from tests.waiting import wait_for
from trainables.checkpoints.object_store import data_name
from trainables.checkpoints.trial_store import open_store
from trainables.data.dataset import CatalogEntry
from trainables.models import registry
from trainables.schema import TrialSpec
from trainables.training.evaluation import EvaluationPass


@pytest.fixture
def spec(make_spec):
    return make_spec()


DATA = b"bars"


@pytest.fixture
def entry() -> CatalogEntry:
    return CatalogEntry.model_construct(path="bars.parquet", file_sha256=hashlib.sha256(DATA).hexdigest())


def test_a_node_without_the_drivers_disk_gets_its_data_and_gives_its_results(storage, tmp_path, spec, entry):
    storage.put(DATA, data_name(entry.path, entry.file_sha256))
    driver, node = tmp_path / "driver", tmp_path / "node"
    driver.mkdir()
    place = storage.place.model_copy(update={"owner": driver / ".driver.json", "owner_text": "who"})
    store = open_store(node / "trial", 1, spec.key, place, node / "bars.parquet", entry)
    wait_for(lambda: store.wait_until_ready(0.5))
    assert (node / "bars.parquet").read_bytes() == DATA
    store.keep_best({"w": torch.ones(3)}, step=9, spec=spec)
    (node / "predictions").write_bytes(b"logits")
    assert store.deliver(node / "predictions")
    wait_for(lambda: store.wait_until_level(0.5))
    names = sorted(name.replace(hashlib.sha256(b"logits").hexdigest()[:16], "HASH") for name in storage.sizes())
    assert names == [
        f"checkpoints/{spec.key}/attempt-0001.json",
        f"checkpoints/{spec.key}/best/manifest.json",
        f"checkpoints/{spec.key}/best/state.pt",
        data_name(entry.path, entry.file_sha256),
        f"predictions/{spec.key}.HASH.parquet",
    ]
    store.close()


def test_on_the_drivers_disk_the_driver_stores_the_results(storage, tmp_path, spec, entry):
    (tmp_path / ".driver.json").write_text("who")
    (tmp_path / "bars.parquet").write_bytes(DATA)
    place = storage.place.model_copy(update={"owner": tmp_path / ".driver.json", "owner_text": "who"})
    store = open_store(tmp_path / "trial", 1, spec.key, place, tmp_path / "bars.parquet", entry)
    wait_for(lambda: store.wait_until_ready(0.5))
    assert not store.deliver(tmp_path / "predictions")
    store.close()


def test_without_a_storage_nothing_is_waited_for(tmp_path, spec, entry):
    store = open_store(tmp_path / "trial", 1, spec.key, None, tmp_path / "absent.parquet", entry)
    assert store.wait_until_ready(0)
    assert store.wait_until_level(0)
    assert not store.deliver(tmp_path / "predictions")
    assert store.words() == []
    store.close()


def test_the_weights_that_stay_give_the_predictions_again(make_trainer, finish, data, spec, tmp_path, entry):
    store = open_store(tmp_path / "trial", 1, spec.key, None, tmp_path / "absent.parquet", entry)
    trainer = make_trainer(spec=spec, store=store.checkpoints)
    finish(trainer)
    store.keep_best(trainer.judged_weights, step=9, spec=spec)
    best = tmp_path / "trial" / "best"
    manifest = json.loads((best / "manifest.json").read_text())["manifest"]
    model = registry.build(TrialSpec.model_validate(manifest["spec"]).model)
    model.load_state_dict(torch.load(best / "state.pt", weights_only=True)["weights"])
    again = EvaluationPass({"test": data.test}, micro_batch=50)
    while not again.done:
        again.advance(model, spec.dtype)
    written = trainer.predictions().query("split == 'test'")["logit"].to_numpy()
    assert np.array_equal(again.outputs()["test"].astype(written.dtype), written)
