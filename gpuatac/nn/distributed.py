"""Several processes that train one model, one for each GPU (``torchrun``): shared weights, averaged gradients."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from gpuatac.errors import DeviceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes
    ----------
    rank, world
        Number of this process, and how many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def own(self, items: Sequence[int]) -> list[int]:
        """This process's part of a step: every ``world``-th item. A short step is filled up from its start, so that all have work."""
        short = -len(items) % self.world
        filled = [*items, *(items[k % len(items)] for k in range(short))]
        return filled[self.rank :: self.world]

    def share(self, model: torch.nn.Module) -> None:
        """Give every process the weights and buffers of the first."""
        if self.world > 1:
            for value in model.state_dict().values():
                dist.broadcast(value, src=0)

    def average_gradients(self, model: torch.nn.Module) -> None:
        """Replace gradients by their mean over all processes, in one message."""
        if self.world == 1:
            return
        grads = []
        for parameter in model.parameters():
            if parameter.requires_grad:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                grads.append(parameter.grad)
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat)
        flat /= self.world
        at = 0
        for grad in grads:
            grad.copy_(flat[at : at + grad.numel()].view_as(grad))
            at += grad.numel()

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean of a small tensor over all processes."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.world
        return values

    def gathered(self, values: torch.Tensor) -> torch.Tensor:
        """The 1-D tensors of all processes behind one another; only the first process may use them."""
        if self.world == 1:
            return values
        length = torch.tensor([values.numel()], device=values.device)
        lengths = [torch.zeros_like(length) for _ in range(self.world)]
        dist.all_gather(lengths, length)
        sizes = [int(n) for n in lengths]
        filled = torch.nn.functional.pad(values, (0, max(sizes) - values.numel()))
        parts = [torch.empty_like(filled) for _ in range(self.world)]
        dist.all_gather(parts, filled)
        return torch.cat([part[:n] for part, n in zip(parts, sizes, strict=True)])

    def from_first(self, value: object) -> object:
        """What the first process has, in all of them."""
        box = [value]
        if self.world > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier()


def under_torchrun() -> bool:
    """Whether ``torchrun`` started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def own_gpu() -> None:
    """Under ``torchrun`` let this process see the GPU of its local rank alone; before anything has touched one."""
    if under_torchrun():
        local = int(os.environ.get("LOCAL_RANK", "0"))
        seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        if not seen:
            os.environ["CUDA_VISIBLE_DEVICES"] = str(local)
        elif local < len(seen):
            os.environ["CUDA_VISIBLE_DEVICES"] = seen[local]


def local_device(device: str) -> torch.device:
    """The torch device of this process. ``device``: "cpu" or "gpu".

    Raises
    ------
    DeviceUnavailableError
        When a GPU is asked for and this PyTorch cannot use it.
    """
    if device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = f"was built for CUDA {torch.version.cuda}" if torch.version.cuda else "was built without CUDA"
        msg = (
            f"networks cannot run on the GPU: PyTorch {torch.__version__} {built} and finds no device; install the PyTorch that "
            "pytorch.org names for this machine's CUDA, or pass device='cpu' (--device cpu)."
        )
        raise DeviceUnavailableError(msg)
    return torch.device("cuda", torch.cuda.current_device())


def joined(device: torch.device) -> AbstractContextManager[Ranks]:
    """A context in which this process has joined the others (NCCL on GPUs, Gloo on CPUs); alone without ``torchrun``."""
    from contextlib import contextmanager

    @contextmanager
    def context() -> Iterator[Ranks]:
        if not under_torchrun() or dist.is_initialized():
            yield Ranks(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Ranks()
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield Ranks(dist.get_rank(), dist.get_world_size())
        finally:
            dist.destroy_process_group()

    return context()
