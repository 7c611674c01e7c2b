"""Architectures by name, and what a wrong one or a wrong config says."""

import pytest
import torch

from trainables.errors import ConfigError
from trainables.models import budget, registry
from trainables.models.budget import model_of
from trainables.models.param_count import count
from trainables.schema import DataShape, ModelSpec

SIZES = {"width": 16, "depth": 1, "heads": 2, "feed_forward": 16}
DATA = DataShape(n_features=5, n_window_stats=10, context=60)
NAMES = ("itransformer", "lstm", "mlp", "patchtst", "tsmixer")


def patchtst(data=DATA, sizes=SIZES, **config):
    return model_of(ModelSpec(channels="independent", **config), sizes, data)


def test_what_ships_is_registered_like_anything_else():
    shipped = [part for part in registry.ARCHITECTURES if part.source.shipped]
    assert tuple(part.name for part in shipped) == NAMES
    assert all(part.kind == "architecture" and part.version == 1 and len(part.source.sha256) == 64 for part in shipped)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no architecture 'patchtts' is registered\n.*did you mean 'patchtst'\?"):
        registry.ARCHITECTURES.get("patchtts")


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        ({"patch": 7}, ["model.patch 7 does not divide task.context 60", "use one of 1, 2, 3, 4, 5, 6, 10, 12"]),
        ({"patch": 61, "stride": 1}, ["patches of 61 bars every 1 do not end with the last of 60 bars"]),
        ({"patch": 10, "stride": 7}, ["patches of 10 bars every 7", "multiple of model.stride"]),
        ({"sizes": {**SIZES, "heads": 3}}, ["3 heads do not divide the width 16"]),
        ({"sizes": {"width": 16}}, ["patchtst: shape.depth", "required"]),
        ({"data": DATA.model_copy(update={"n_window_stats": 11})}, ["11 window stats", "5 channels", "mixed"]),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_reason(change, texts):
    with pytest.raises(ConfigError) as caught:
        patchtst(**change)
    assert all(text in str(caught.value) for text in texts), str(caught.value)


@pytest.mark.parametrize("use", [registry.build, count])
def test_a_trial_of_another_version_is_refused(use):
    with pytest.raises(ConfigError, match="'patchtst' version 2; registered is version 1"):
        use(patchtst().model_copy(update={"version": 2}))


def test_all_problems_of_a_config_are_reported_together():
    part = registry.ARCHITECTURES.get("patchtst")
    with pytest.raises(ConfigError) as caught:
        part.configure({"patch": 0, "channels": "both", "dropot": 0.1}, "model")
    places = [problem.place for problem in caught.value.problems]
    assert places == ["model.patch", "model.channels", "model.dropot"]
    assert "did you mean 'dropout'" in str(caught.value)


def test_equal_models_have_equal_specifications():
    assert patchtst(patch=10, stride=10) == patchtst() == patchtst(stride=None)
    assert patchtst(patch=10, stride=5) != patchtst()
    sizes = {"width": 16, "depth": 1, "feed_forward": 16}
    one, other = (model_of(ModelSpec(name="mlp", patch=patch), sizes, DATA) for patch in (10, 7))
    assert one == other, "patches are nothing to a perceptron"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_every_architecture_gives_a_number_or_one_for_each_class(name, n_outputs):
    data = DATA.model_copy(update={"n_outputs": n_outputs})
    model = registry.build(budget.solve(20_000, spec=ModelSpec(name=name), data=data))
    logits = model(torch.zeros(2, 60, 5), torch.zeros(2, 10))
    assert logits.shape == ((2,) if n_outputs == 1 else (2, 3))
