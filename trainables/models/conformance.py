"""A conformance kit: holds an architecture against what Isotherm relies on."""

import pickle
from itertools import islice, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from trainables.models import budget, registry
from trainables.models.param_count import built, count_shape, on_meta
from trainables.models.parametrization import STANDARD
from trainables.models.registry import ARCHITECTURES, Architecture
from trainables.schema import DataShape, ModelSpec, ResolvedModel

DATA = (
    DataShape(n_features=5, context=60),
    DataShape(n_features=5, n_window_stats=10, context=60),
    DataShape(n_features=3, context=60, n_outputs=3),
)
BATCH = 4
RUNGS = 12  # of a ladder that are counted
RELATIVE, ABSOLUTE = 1e-4, 1e-5  # kernels for other batch sizes add in another order


def check_architecture(part: str | type[Any], *, target: int = 50_000, aspect: float = 32.0, **config: Any) -> None:
    """Return if an architecture keeps its contract.

    Checked: a shape within 2 % of the target; a ladder that ascends; a config and specification that survive a trip
    through JSON and pickle; equal weights and outputs from one seed; one finite number a window, or one for each class;
    windows that do not see each other; gradients that reach every parameter; equal weights on every device; with a
    method ``mup``, no factor but 1 where the base is the shape itself.

    Args:
        part: the registered class, or its name.
        target: parameters at which it is built.
        aspect: width over depth, for architectures without a ladder of their own.
        config: keys of the architecture that differ from their defaults.

    Raises:
        AssertionError: it does not; the message says what was expected.
        InputError: it cannot be configured or built.
    """
    name = part if isinstance(part, str) else _name_of(part)
    for data in DATA:
        spec = ModelSpec.model_validate({"name": name, "aspect": aspect, **config})
        _check_ladder(Architecture.of(spec, data), aspect)
        model = budget.solve(target, spec=spec, data=data)
        _check_specification(model)
        _check_parametrization(model)
        _check_outputs(model)
        _check_gradients(model)
        _check_devices(model)


def _name_of(target: type[Any]) -> str:
    names = [part.name for part in ARCHITECTURES if part.target is target]
    assert names, f"{target.__name__} is not registered; decorate it with isotherm.architecture"
    return names[0]


def _check_ladder(chosen: Architecture, aspect: float) -> None:
    shapes = list(islice(chosen.ladder(aspect), RUNGS))
    totals = [count_shape(chosen, shape).total for shape in shapes]
    for (small, fewer), (large, more) in pairwise(zip(shapes, totals, strict=True)):
        assert fewer <= more, f"the ladder must ascend, but {large!r} has {more:,} parameters and {small!r} {fewer:,}"


def _check_specification(model: ResolvedModel) -> None:
    again = ResolvedModel.model_validate_json(model.model_dump_json())
    assert again == model, f"config and shape must survive JSON: {model!r} came back as {again!r}"
    chosen, shape = registry.of_trial(again)
    assert pickle.loads(pickle.dumps(chosen.config)) == chosen.config, "the config must survive pickle"
    assert pickle.loads(pickle.dumps(shape)) == shape, "the shape must survive pickle"


def _check_parametrization(model: ResolvedModel) -> None:
    based, net = model.model_copy(update={"base": model.shape}), _built(model)
    if hasattr(registry.ARCHITECTURES.get(model.name).target, "mup"):
        scaled = [name for name, scale in registry.scales(based, net).items() if scale != STANDARD]
        assert not scaled, f"at its base no parameter is scaled, but {', '.join(scaled)} is"


def _check_outputs(model: ResolvedModel) -> None:
    data = model.data
    x_BLF, stats_BS = _windows(data)
    first, again = (_built(model).eval() for _ in range(2))
    for (name, one), other in zip(first.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other), f"{name} differs between two models of one seed"
    with torch.no_grad():
        outputs = first(x_BLF, stats_BS)
        assert torch.equal(outputs, again(x_BLF, stats_BS)), "outputs differ between two models of one seed"
        expected = (BATCH,) if data.n_outputs == 1 else (BATCH, data.n_outputs)
        assert outputs.shape == expected, f"outputs have shape {tuple(outputs.shape)}, expected is {expected}"
        assert torch.isfinite(outputs).all(), "outputs of a new model must be finite"
        alone = first(x_BLF[:1], None if stats_BS is None else stats_BS[:1])
        assert torch.allclose(alone, outputs[:1], rtol=RELATIVE, atol=ABSOLUTE), (
            "a window's output must not depend on its neighbours"
        )
    assert built(first).total == model.n_params, "built on a real device it has another number of parameters"


def _check_gradients(model: ResolvedModel) -> None:
    x_BLF, stats_BS = _windows(model.data)
    net = _built(model).train()
    outputs = net(x_BLF, stats_BS)
    (outputs * torch.randn(outputs.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            reached = parameter.grad is not None and bool(parameter.grad.any())
            assert reached, f"no gradient reaches {name}; a parameter without use would count towards the budget"


def _check_devices(model: ResolvedModel) -> None:
    """On the meta device, as on any other: all that the forward pass uses must be where the model is."""
    data = model.data
    net = on_meta(*registry.of_trial(model)).eval()
    strays = [name for name, one in net.state_dict().items() if not one.is_meta]
    assert not strays, f"{', '.join(strays)} must be created on the default device"
    stats_BS = torch.empty(BATCH, data.n_window_stats, device="meta") if data.n_window_stats else None
    try:
        outputs = net(torch.empty(BATCH, data.context, data.n_features, device="meta"), stats_BS)
    except RuntimeError as error:
        raise AssertionError(f"on another device the forward pass fails: {error}") from error
    assert outputs.is_meta, f"outputs are on {outputs.device}, model and inputs are not"


def _built(model: ResolvedModel, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return registry.build(model)


def _windows(data: DataShape) -> tuple[Tensor, Tensor | None]:
    random = torch.Generator().manual_seed(1)
    x_BLF = torch.randn(BATCH, data.context, data.n_features, generator=random)
    return x_BLF, torch.randn(BATCH, data.n_window_stats, generator=random) if data.n_window_stats else None
