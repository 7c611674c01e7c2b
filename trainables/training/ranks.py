"""A trial over several devices of one host: a process each, which make every piece of its work together.

Rank 0 is the trial as it is on one device: it alone asks the gate, keeps checkpoints and reports. Before each piece of
work it sends the piece's name to the processes of the other ranks, which do nothing else. So all of them rest, hold and
end together.

Data-parallel ranks hold the whole model each, and the sum of their gradients. Sharded ones hold a part of all
parameters, gradients and optimizer states, and gather a block's parameters where they use it (PyTorch's FSDP2; Zhao et
al. 2023, arXiv 2304.11277).

Tensor names: B windows of a global batch, S of a rank's share, M of a rank's micro-batch.
"""

import multiprocessing
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing import connection
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from trainables.errors import LostRankError, OutOfMemoryError
from trainables.parts import plugins
from trainables.training.memory import is_out_of_memory, typed

TIMEOUT = timedelta(minutes=10)  # of one operation; waits at the gate are between operations
CAUSE_S = 3.0  # after a failed operation, the time in which the rank that caused it is found

Tree = TypeVar("Tree")


class Ranks:
    """One rank's view of all; the base for rank 0 as well. On one device (`ALONE`) every method changes nothing."""

    def __init__(
        self,
        size: int = 1,
        *,
        rank: int = 0,
        sharded: bool = False,
        device: Literal["cpu", "cuda"] = "cpu",
        folder: Path = Path(),
    ) -> None:
        """`folder` is private to these ranks, which find each other there."""
        self.size, self.rank, self.sharded = size, rank, sharded
        self._device, self._folder = device, folder
        self._mesh: Any = None

    def join(self) -> None:
        """Wait until all ranks are here."""
        backend = "nccl" if self._device == "cuda" else "gloo"
        store = dist.FileStore(str(self._folder / "store"), self.size)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.size, timeout=TIMEOUT)

    def wait_until_ready(self, max_seconds: float) -> bool:
        """Whether all ranks have begun, waited for at most that long."""
        return True

    def close(self) -> None:
        """End the other ranks."""

    def tell(self, name: str, *args: Any) -> None:
        """Have all other ranks begin a piece of work; only rank 0 does."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Name the rank that caused what is raised inside."""
        yield

    # ---- batches -------------------------------------------------------------------------------------------------

    def part(self, index_B: Tensor) -> Tensor:
        """A rank's windows of a global batch: index_S, equally many on all ranks."""
        return index_B if self.size == 1 else index_B.view(self.size, -1)[self.rank]

    def span(self, start: int, stop: int, micro_batch: int, device: torch.device) -> Tensor:
        """A rank's windows of those from `start` to `stop`, of which there are at most a micro-batch for each rank.

        Several ranks take a whole micro-batch each, with the last window repeated: index_M.
        """
        if self.size == 1:
            return torch.arange(start, stop, device=device)
        first = start + self.rank * micro_batch
        return torch.arange(first, first + micro_batch, device=device).clamp(max=stop - 1)

    def gathered(self, outputs_M: Tensor, count: int) -> Tensor:
        """The outputs of all ranks, without what was repeated; on every rank."""
        if self.size == 1:
            return outputs_M
        parts = [torch.empty_like(outputs_M) for _ in range(self.size)]
        dist.all_gather(parts, outputs_M.contiguous())
        return torch.cat(parts)[:count]

    # ---- gradients -----------------------------------------------------------------------------------------------

    def backward(self, loss: Tensor) -> None:
        """Add a micro-batch's gradients; those of sharded parameters are summed over the ranks at once."""
        # FSDP2 divides sums by the number of ranks, and here each loss is already a share of the global batch's.
        (loss * self.size if self.sharded else loss).backward()  # type: ignore[no-untyped-call]

    def sum_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Sum them over all ranks, where that is not done yet."""
        if not self.sharded:
            self.sum(gradients)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Sum tensors over all ranks, in place."""
        if self.size > 1:
            for work in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
                work.wait()

    def norm(self, norm: Tensor) -> Tensor:
        """A norm over all parts of sharded tensors."""
        return norm.full_tensor() if self.sharded else norm  # type: ignore[attr-defined]

    # ---- state ---------------------------------------------------------------------------------------------------

    def spread(self, model: nn.Module) -> None:
        """Give all ranks the model of rank 0, or their parts of it. Before, it is whole on each rank's device."""
        if self.size == 1:
            return
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)
        if not self.sharded:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        self._mesh = init_device_mesh(self._device, (self.size,))
        model.register_forward_hook(lambda *call: call[-1].clone())  # FSDP2 wants no view returned
        blocks = getattr(model, "blocks", None)
        for module in (*(blocks if isinstance(blocks, nn.ModuleList) else ()), model):
            fully_shard(module, mesh=self._mesh, reshard_after_forward=True)

    def whole(self, state: Tree) -> Tree:
        """A state with its sharded tensors gathered on rank 0's host, and a copy of the others; all ranks call it."""
        return tree_map(self._gather, state) if self.sharded else state

    def _gather(self, leaf: Any) -> Any:
        if not hasattr(leaf, "full_tensor"):
            return leaf.clone() if isinstance(leaf, Tensor) else leaf
        full = leaf.full_tensor()
        return full.cpu() if self.rank == 0 else full.new_empty(0)

    def given(self, tensor: Tensor, *, shard: bool) -> Tensor:
        """Rank 0's tensor on every rank's device, or where it is to be sharded, each rank's part of it.

        Other ranks than 0 pass one of the same shape, on any device.
        """
        if self.size == 1:
            return tensor
        full = tensor.to(self._device) if self.rank == 0 else torch.empty_like(tensor, device=self._device)
        dist.broadcast(full, 0)
        if not (shard and self.sharded):
            return full
        from torch.distributed.tensor import Shard, distribute_tensor

        return distribute_tensor(full, self._mesh, [Shard(0)], src_data_rank=None)

    def free(self, tensor: Tensor) -> None:
        """Free a tensor's memory, whoever refers to it."""
        if hasattr(tensor, "to_local"):
            tensor.to_local().untyped_storage().resize_(0)
        else:
            tensor.data = tensor.data.new_empty(0)


ALONE = Ranks()


def outline(state: Tree) -> Tree:
    """A state with tensors of the same shapes and no values."""
    shapes: Tree = tree_map(lambda leaf: leaf.to("meta") if isinstance(leaf, Tensor) else leaf, state)
    return shapes


class Leader(Ranks):
    """Rank 0 of several, with the processes of the others."""

    def __init__(
        self, make: Callable[[Ranks], Any], size: int, *, sharded: bool, device: Literal["cpu", "cuda"]
    ) -> None:
        """Start the other processes.

        Args:
            make: called in each of them with its ranks; what it returns has a method for each name that is told.
            size: how many ranks there are.
            sharded: rather than data-parallel.
            device: where; on CUDA rank 0 has the first visible device, and each further rank the next.
        """
        self._temporary = tempfile.TemporaryDirectory(prefix="isotherm-ranks-")
        folder = Path(self._temporary.name)
        super().__init__(size, sharded=sharded, device=device, folder=folder)
        self._waiting, self._closing = set(range(1, size)), False
        self._processes: dict[int, Any] = {}
        self._pipes: dict[int, Any] = {}
        context = multiprocessing.get_context("spawn")
        for rank in range(1, size):
            ranks = Ranks(size, rank=rank, sharded=sharded, device=device, folder=folder)
            self._pipes[rank], theirs = context.Pipe()
            self._processes[rank] = context.Process(
                target=_serve, args=(make, ranks, plugins.loaded(), theirs), name=f"rank {rank}", daemon=True
            )
            self._processes[rank].start()
            theirs.close()

    def wait_until_ready(self, max_seconds: float) -> bool:
        """Whether all ranks have begun, waited for at most that long.

        Raises:
            LostRankError, OutOfMemoryError: one has failed.
        """
        deadline = time.monotonic() + max_seconds
        while self._waiting:
            left_s = deadline - time.monotonic()
            ready = connection.wait([self._pipes[rank] for rank in self._waiting], max(0.0, left_s))
            if not ready and left_s <= 0:
                return False
            for rank in [rank for rank in self._waiting if self._pipes[rank] in ready]:
                if (said := self._said(rank)) is not None:
                    raise said
                self._waiting.remove(rank)
            if not self._waiting:
                for pipe in self._pipes.values():
                    pipe.send(("join", ()))
                self.join()
                if self._device == "cuda":
                    threading.Thread(target=self._abort_when_lost, name="ranks", daemon=True).start()
        return True

    def tell(self, name: str, *args: Any) -> None:
        """See `Ranks.tell`.

        Raises:
            LostRankError, OutOfMemoryError: a rank has failed.
        """
        if (cause := self._cause(0.0)) is not None:
            raise cause
        for pipe in self._pipes.values():
            with suppress(OSError):  # it has just died: the work that follows says so
                pipe.send((name, args))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """See `Ranks.watched`."""
        try:
            yield
        except (LostRankError, OutOfMemoryError):
            raise
        except Exception as error:
            if is_out_of_memory(error) or (cause := self._cause(CAUSE_S)) is None:
                raise
            raise cause from error

    def close(self) -> None:
        """End the other processes."""
        self._closing = True
        for process in self._processes.values():
            process.kill()
            process.join()
        if dist.is_initialized():
            with suppress(Exception):  # its peers are gone
                dist.destroy_process_group()
        self._temporary.cleanup()

    def _cause(self, max_seconds: float) -> Exception | None:
        """Why a rank has failed; None while all live. One that was killed, or out of memory, makes the others fail."""
        deadline = time.monotonic() + max_seconds
        found: list[Exception] = []
        while True:
            for rank, process in self._processes.items():
                said = self._said(rank) if self._pipes[rank].poll() else None
                if said is None and not process.is_alive():
                    process.join()
                    return LostRankError(f"rank {rank} of {self.size} ended with code {process.exitcode}")
                if isinstance(said, OutOfMemoryError):
                    return said
                found += [] if said is None else [said]
            if time.monotonic() >= deadline:
                return found[0] if found else None
            time.sleep(0.05)

    def _said(self, rank: int) -> Exception | None:
        """What a rank has sent; nothing of one that has died."""
        try:
            kind, words = self._pipes[rank].recv()
        except (EOFError, OSError):
            self._processes[rank].join(CAUSE_S)
            return LostRankError(f"rank {rank} of {self.size} ended with code {self._processes[rank].exitcode}")
        if kind == "ready":
            return None
        return (OutOfMemoryError if kind == "memory" else LostRankError)(f"rank {rank} of {self.size}: {words}")

    def _abort_when_lost(self) -> None:
        """NCCL waits for a lost peer, and the host for NCCL: end what it waits for. Not run on a GPU."""
        connection.wait([process.sentinel for process in self._processes.values()])
        if not self._closing:
            dist.distributed_c10d._abort_process_group()


def _serve(make: Callable[[Ranks], Any], ranks: Ranks, parts: Any, pipe: Any) -> None:
    """The life of another rank: work as it is told, until rank 0 closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for rank 0
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Python's own end terminates what it has started, and waits for it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        if ranks._device == "cuda":
            torch.cuda.set_device(ranks.rank)
        plugins.load(parts)
        work = make(ranks)
        pipe.send(("ready", ""))
        while True:
            name, args = pipe.recv()
            getattr(ranks if name == "join" else work, name)(*args)
    except EOFError:
        return
    except Exception as error:
        named = typed(error)
        kind = "memory" if isinstance(named, OutOfMemoryError) else "failed"
        with suppress(OSError):
            pipe.send((kind, str(named) if kind == "memory" else f"{type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        signal.raise_signal(signal.SIGKILL)
