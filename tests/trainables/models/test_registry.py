import pytest
import torch

from trainables.errors import ConfigError
from trainables.models import registry
from trainables.models.mlp import MLP
from trainables.models.param_count import count
from trainables.models.patchtst import PatchTST
from trainables.schema import ModelShape

SHAPE = ModelShape(
    name="patchtst",
    width=16,
    depth=1,
    heads=2,
    feed_forward=16,
    n_features=5,
    n_window_stats=10,
    context=60,
    patch=10,
    channels="independent",
    dropout=0.1,
)


@pytest.mark.parametrize(("name", "model"), [("patchtst", PatchTST), ("mlp", MLP)])
def test_a_name_gives_its_model(name, model):
    assert isinstance(registry.build(SHAPE.model_copy(update={"name": name})), model)


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        ({"patch": 7}, ["model.patch", "7 bars does not divide the context of 60 bars", "1, 2, 3, 4, 5, 6, 10, 12"]),
        ({"heads": 3}, ["heads", "3 heads do not divide the width 16"]),
        ({"n_window_stats": 11}, ["model.channels", "11 window stats", "5 channels", "mixed"]),
    ],
)
@pytest.mark.parametrize("use", [registry.build, count])
def test_a_shape_that_cannot_be_built_is_refused_with_its_mend(change, texts, use):
    with pytest.raises(ConfigError) as caught:
        use(SHAPE.model_copy(update=change))
    assert all(text in str(caught.value) for text in texts)
    assert all(problem.mend for problem in caught.value.problems)


def test_all_problems_are_reported_together():
    with pytest.raises(ConfigError) as caught:
        registry.build(SHAPE.model_copy(update={"patch": 7, "heads": 3, "n_window_stats": 11}))
    assert len(caught.value.problems) == 3


def test_a_perceptron_has_neither_patches_nor_heads():
    shape = SHAPE.model_copy(update={"name": "mlp", "patch": 7, "heads": 3})
    assert registry.build(shape)(torch.zeros(2, 60, 5), torch.zeros(2, 10)).shape == (2,)
