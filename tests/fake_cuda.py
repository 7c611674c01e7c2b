"""A CUDA device without one: PyTorch's fake tensors, with every operation looked at.

A tensor there has a device, a shape and a dtype, and no values. So what is checked is where operations run, and where
the host would wait for the device; not what they compute.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten


@dataclass
class Seen:
    """What happened: numbers read by the host, tensors copied to it and from it, operations over several devices."""

    reads: int = 0
    to_host: list[tuple[int, ...]] = field(default_factory=list)
    to_device: list[tuple[int, ...]] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)

    def clear(self) -> None:
        self.reads = 0
        for seen in (self.to_host, self.to_device, self.mixed):
            seen.clear()


class _Watch(TorchDispatchMode):
    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [one for one in _pytree.tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        if func is aten._local_scalar_dense.default:
            self.seen.reads += 1
            return 0.5
        if func is aten.copy_.default:
            self._moved(args[1], args[0].device)
            return args[0]
        if func is aten.uniform_.default:  # its decomposition asks for a driver
            return args[0]
        if func is aten._to_copy.default and kwargs.get("device") is not None:
            self._moved(args[0], kwargs["device"])
        elif len({one.device.type for one in tensors if one.dim() or one.device.type != "cpu"}) > 1:
            self.seen.mixed.append(str(func))  # a number that the host holds may take part in anything
        return func(*args, **kwargs)

    def _moved(self, tensor: Tensor, to: torch.device) -> None:
        if tensor.device.type != torch.device(to).type:
            (self.seen.to_host if torch.device(to).type == "cpu" else self.seen.to_device).append(tuple(tensor.shape))


@contextmanager
def fake_cuda(patch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """Everything inside runs on fake tensors; `CUDA` is the device."""
    seen = Seen()
    patch.setattr(nn.Module, "to", _stays)
    patch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=80 * 2**30))
    if torch.version.cuda is None:
        _give_cuda_a_guard()
        patch.setattr(Tensor, "backward", _no_backward)
    with FakeTensorMode(allow_non_fake_inputs=True), _Watch(seen):
        yield seen


def _stays(module: nn.Module, device: torch.device) -> nn.Module:
    """Fake parameters cannot be moved; they must be where they belong from the start."""
    elsewhere = [name for name, one in (*module.named_parameters(), *module.named_buffers()) if one.device != device]
    assert not elsewhere, f"not built on {device}: {elsewhere}"
    return module


def _no_backward(loss: Tensor) -> None:
    """A build of PyTorch for the CPU has no autograd engine for CUDA. Gradients get their place without it."""
    todo, parameters = [loss.grad_fn], {}
    while todo:
        node = todo.pop()
        if node is None or node in parameters:
            continue
        parameters[node] = getattr(node, "variable", None)
        todo += [following for following, _ in node.next_functions]
    for one in parameters.values():
        if one is not None:
            one.grad = torch.empty_like(one)


def _give_cuda_a_guard() -> None:
    """Let a build of PyTorch for the CPU accept tensors whose device is CUDA.

    With `_ensureCUDADeviceGuardSet` PyTorch puts a guard that does nothing in place of CUDA's where that one sees no
    device. A build for the CPU has none to replace: a table of functions that all return 0 stands for it until then.
    """
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * 32).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    place = 1  # c10::DeviceType::CUDA
    if guards[place]:
        return
    zero = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 0)
    table = (ctypes.c_void_p * 64)(*[ctypes.cast(zero, ctypes.c_void_p).value] * 64)
    guard = (ctypes.c_void_p * 1)(ctypes.addressof(table))
    guards[place] = ctypes.addressof(guard)
    torch._C._ensureCUDADeviceGuardSet()
    assert guards[place] != ctypes.addressof(guard), "PyTorch did not put its own guard there"
